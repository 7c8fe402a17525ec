{
  description = "Conveyor: jobs that publish into CernVM-FS repositories";

  # flake.lock was written by hand: revision and hash were copied from another project's public lock file and not computed here.
  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-26.05";

  outputs =
    { self, nixpkgs }:
    let
      inherit (nixpkgs) lib;
      eachSystem =
        make:
        lib.genAttrs [
          "x86_64-linux"
          "aarch64-linux"
        ] (system: make nixpkgs.legacyPackages.${system});
    in
    {
      packages = eachSystem (pkgs: rec {
        conveyor = pkgs.callPackage ./nix/package.nix { };
        default = conveyor;
      });

      apps = eachSystem (
        pkgs:
        let
          conveyor = {
            type = "app";
            program = "${self.packages.${pkgs.stdenv.hostPlatform.system}.conveyor}/bin/conveyor";
            meta.description = "submit jobs, look at them, run server and workers";
          };
        in
        {
          inherit conveyor;
          default = conveyor;
        }
      );

      overlays.default = final: _previous: {
        conveyor = final.callPackage ./nix/package.nix { };
      };

      nixosModules = {
        default = ./nixos-modules;
        client = ./nixos-modules/client.nix;
        server = ./nixos-modules/server.nix;
        worker = ./nixos-modules/worker.nix;
        rabbitmq = ./nixos-modules/rabbitmq.nix;
        gateway = ./nixos-modules/gateway.nix;
      };

      # The package, the format of Nix files, and a test for each scenario of vm-tests/.
      checks = eachSystem (
        pkgs:
        {
          package = self.packages.${pkgs.stdenv.hostPlatform.system}.conveyor;
          format =
            pkgs.runCommand "format"
              {
                nativeBuildInputs = [
                  pkgs.nixfmt
                  pkgs.deadnix
                ];
              }
              ''
                cd ${./.}
                find . -name '*.nix' -exec nixfmt --check {} + && deadnix --fail . && touch $out
              '';
        }
        // import ./vm-tests { inherit pkgs; }
      );

      devShells = eachSystem (pkgs: {
        default = pkgs.mkShell {
          inputsFrom = [ self.packages.${pkgs.stdenv.hostPlatform.system}.conveyor ];
          packages = [
            pkgs.clippy
            pkgs.rustfmt
            pkgs.rust-analyzer
            pkgs.deadnix
            pkgs.nixfmt
            pkgs.ruff
            pkgs.ty
            pkgs.sqlite
          ];
        };
      });

      formatter = eachSystem (pkgs: pkgs.nixfmt-tree);
    };
}
