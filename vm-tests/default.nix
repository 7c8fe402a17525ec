# A NixOS test for each NAME.nix that has a NAME.py beside it. The first says which machines there are and what they have under `services`,
# the second what is done to them; debian-lab/ plays the same files on Debian.
#
# Those of with-cvmfs/ need CernVM-FS's own server, and are there only where a package of it is given:
#
#   nix-build vm-tests --arg pkgs 'import <nixpkgs> { }' --arg cvmfsPackage 'import ./cvmfs.nix'
{
  pkgs,
  cvmfsPackage ? null,
}:
let
  inherit (pkgs) lib;
  client = pkgs.callPackage ./client { };

  # The names of a directory's scenarios.
  scenarios =
    directory:
    lib.filter (name: lib.pathExists (directory + "/${name}.py")) (
      map (lib.removeSuffix ".nix") (
        lib.filter (lib.hasSuffix ".nix") (lib.attrNames (builtins.readDir directory))
      )
    );

  # What every machine has: what the scripts call, and the names of Debian's units.
  common =
    { config, ... }:
    {
      imports = [ ../nixos-modules ];
      environment.systemPackages = [
        client
        pkgs.curl
        pkgs.netcat
        pkgs.openssl
        pkgs.sqlite
      ];
      # The scripts mount as root and read what others may read.
      programs.fuse.userAllowOther = true;
      systemd.services.rabbitmq = lib.mkIf config.services.rabbitmq.enable {
        aliases = [ "rabbitmq-server.service" ];
      };
      virtualisation.memorySize = lib.mkDefault 1024;
    };

  # `read` gives the scenario of a file.
  tests =
    directory: read:
    lib.mergeAttrsList (
      map (name: {
        "vm-${name}" = pkgs.testers.runNixOSTest {
          inherit name;
          defaults = common;
          nodes = lib.mapAttrs (
            _: node: _:
            node
          ) (read (directory + "/${name}.nix")).nodes;
          testScript = builtins.readFile ./common.py + builtins.readFile (directory + "/${name}.py");
        };
      }) (scenarios directory)
    );
in
tests ./. import
// lib.optionalAttrs (cvmfsPackage != null) (
  tests ./with-cvmfs (file: import file { inherit cvmfsPackage; })
)
