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
  options.services.conveyor.client = {
    enable = lib.mkEnableOption "the program `conveyor` for those who submit jobs and look at them";
    inherit (shared) package;
    settings = shared.settings {
      what = "`/etc/cvmfs/conveyor/config.toml`, what `conveyor submit` and the like read on this machine.";
    };
  };

  config = lib.mkIf cfg.enable (
    lib.mkMerge [
      (shared.configuration { role = import ../nix/client.nix { inherit (shared) services; }; })
      { environment.systemPackages = [ cfg.package ]; }
    ]
  );
}
