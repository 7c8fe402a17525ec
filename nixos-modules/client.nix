{
  config,
  lib,
  pkgs,
  ...
}:
let
  shared = import ./shared.nix { inherit config lib pkgs; };
  cfg = config.services.conveyor.client;
in
{
  options.services.conveyor.package = lib.mkOption {
    type = lib.types.package;
    default = pkgs.callPackage ../nix/package.nix { };
    defaultText = lib.literalExpression "pkgs.callPackage ../nix/package.nix { }";
    description = "The package that has `bin/conveyor` and its units, for all roles of this machine.";
  };

  options.services.conveyor.client = {
    enable = lib.mkEnableOption "the program `conveyor` for those who submit jobs and look at them";
    inherit (shared) package;
    settings = shared.settings {
      what = "`/etc/cvmfs/conveyor/config.toml`, what `conveyor submit` and the like read on this machine.";
    };
  };

  config = lib.mkIf cfg.enable (
    lib.mkMerge [
      (shared.configuration {
        role = import ../nix/client.nix { inherit (shared) services; };
        checks."/etc/cvmfs/conveyor/config.toml" = {
          role = "client";
          inherit (cfg) package;
        };
      })
      { environment.systemPackages = [ cfg.package ]; }
    ]
  );
}
