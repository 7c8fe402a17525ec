# Stands in for nixpkgs where there is none: `scripts/check-nix` looks with it whether the outputs of our flake have the right shape.
# Nothing of nixpkgs is in it, so nothing is checked of how we use it.
{
  outputs = _: {
    lib = import ./lib.nix;
    legacyPackages = builtins.listToAttrs (
      map
        (system: {
          name = system;
          value = import ./packages.nix system;
        })
        [
          "x86_64-linux"
          "aarch64-linux"
        ]
    );
  };
}
