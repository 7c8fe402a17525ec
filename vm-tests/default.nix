# A NixOS test for each NAME.nix that has a NAME.py beside it. The first says which machines there are and what they have under `services`,
# the second what is done to them; debian-lab/ plays the same files on Debian.
#
# Those that need CernVM-FS's own server (`needs = [ "cvmfs" ]`) are there only where `cvmfsPackage` is given:
#
#   nix-build vm-tests --arg pkgs 'import <nixpkgs> { }' --arg cvmfsPackage 'import ./cvmfs.nix'
{
  pkgs,
  cvmfsPackage ? null,
}:
let
  inherit (pkgs) lib;
  client = pkgs.callPackage ./client { };

  scenarios = lib.filter (name: lib.pathExists (./. + "/${name}.py")) (
    map (lib.removeSuffix ".nix") (
      lib.filter (lib.hasSuffix ".nix") (lib.attrNames (builtins.readDir ./.))
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
      services.conveyor.worker.cvmfsPackage = cvmfsPackage;
      virtualisation.memorySize = lib.mkDefault 1024;
    };

  test =
    name:
    let
      scenario = import (./. + "/${name}.nix");
    in
    lib.optionalAttrs (!(lib.elem "cvmfs" (scenario.needs or [ ])) || cvmfsPackage != null) {
      "vm-${name}" = pkgs.testers.runNixOSTest {
        inherit name;
        defaults = common;
        nodes = lib.mapAttrs (
          _: node: _:
          node
        ) scenario.nodes;
        testScript = builtins.readFile (./. + "/${name}.py");
      };
    };
in
lib.mergeAttrsList (map test scenarios)
