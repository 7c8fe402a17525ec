# The settings of those who type `conveyor …` on the machine.
{ services }:
let
  lib = import ./lib.nix;
  cfg = services.conveyor.client;
  inherit (services.conveyor) worker;
  # Where a worker is, its server is theirs.
  found =
    if worker.enable && worker.settings ? worker.server then
      { client.url = worker.settings.worker.server; }
    else
      { };
  settings = lib.merge found cfg.settings;
in
{
  settings = if settings == { } then { } else { "/etc/cvmfs/conveyor/config.toml" = settings; };
  refusals = lib.secretSettings "services.conveyor.client.settings" cfg.settings;
}
