# Packages that are names only.
system:
let
  lib = import ./lib.nix;
  named =
    name:
    derivation {
      inherit name system;
      builder = "/bin/sh";
    };
in
lib.genAttrs [
  "clippy"
  "deadnix"
  "nixfmt"
  "nixfmt-tree"
  "ruff"
  "rust-analyzer"
  "rustfmt"
  "sqlite"
  "ty"
] named
// {
  inherit lib;
  stdenv.hostPlatform = { inherit system; };
  callPackage = path: _: builtins.seq (import path) (named "package");
  runCommand =
    name: _: script:
    builtins.seq "${script}" (named name);
  mkShell =
    { packages, inputsFrom }: builtins.deepSeq (map toString (packages ++ inputsFrom)) (named "shell");
  testers.runNixOSTest =
    test: builtins.seq test.testScript (builtins.seq test.nodes (named test.name));
}
