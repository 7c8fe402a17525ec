# A worker: what a machine has beside systemd/conveyor-worker.service.
{ services, brokerUnit }:
let
  lib = import ./lib.nix;
  cfg = services.conveyor.worker;
  option = "services.conveyor.worker";
  broker = services.conveyor.rabbitmq;
  settings = lib.merge {
    worker.publisher = cfg.publisher;
  } cfg.settings;
  worker = lib.merge (import ./defaults.nix).worker settings.worker;
  native = cfg.publisher == "native";
  user =
    if cfg.user != null then
      cfg.user
    else if native then
      "conveyor-worker"
    else
      "root";
  local = lib.optional broker.enable brokerUnit;
  # What the native publisher writes must be its account's. Where cvmfs_server is the publisher, it makes these itself.
  # The public keys among the keys are for whoever verifies; the others are files of their account alone.
  directories = "d ${worker.repositories_dir} 0755 ${user} - -\nd ${worker.keys_dir} 0755 ${user} - -\n";
in
if !cfg.enable then
  { }
else
  lib.join [
    {
      settings."/etc/cvmfs/conveyor/worker.toml" = settings;
      files =
        if native then
          {
            "/etc/tmpfiles.d/conveyor-repositories.conf" = {
              text = directories;
              mode = "0644";
            };
          }
        else
          { };
      units."conveyor-worker.service" = {
        dropin = true;
        sections = {
          Unit = {
            After = local;
            Wants = local;
          };
          # No directive that makes a mount namespace or takes privileges away: systemd/conveyor-worker.service says why.
          Service = {
            Environment = [ "CONVEYOR_CONFIG=/etc/cvmfs/conveyor/worker.toml" ];
            LoadCredential = lib.credentials "conveyor-worker" cfg.tokenFile cfg.brokerPasswordFile;
            User = user;
            # What is under way may go on for drain_timeout_s; a permitted publish asks for more by itself.
            TimeoutStopSec = worker.drain_timeout_s + 60;
          }
          // (
            if native && user != "root" then
              {
                Group = user;
                UMask = "0022";
                # Nothing is mounted here that must outlive the worker.
                KillMode = "mixed";
              }
            else
              { }
          );
        };
      };
      wanted = [ "conveyor-worker.service" ];
      refusals =
        lib.secretFile "${option}.tokenFile" cfg.tokenFile
        ++ lib.secretFile "${option}.brokerPasswordFile" cfg.brokerPasswordFile
        ++ lib.secretSettings "${option}.settings" cfg.settings
        ++ [
          {
            assertion = builtins.elem cfg.publisher [
              "native"
              "cvmfs-server"
            ];
            message = ''${option}.publisher must be "native" or "cvmfs-server"; it is ${builtins.toJSON cfg.publisher}'';
          }
          {
            assertion = settings.worker.publisher == cfg.publisher;
            message = "${option}.settings.worker.publisher says otherwise than ${option}.publisher; set the latter only";
          }
          {
            assertion = native || cfg.cvmfsPackage != null;
            message = ''${option}.cvmfsPackage is not set, and ${option}.publisher = "cvmfs-server" needs a package with bin/cvmfs_server, bin/cvmfs_swissknife, bin/cvmfs_publish and bin/cvmfs_suid_helper. nixpkgs has none; give your own, or use the native publisher'';
          }
          {
            assertion = worker.state_dir == (import ./defaults.nix).worker.state_dir;
            message = "${option}.settings.worker.state_dir: the unit makes /var/lib/conveyor-worker; mount there what is to hold its journal";
          }
        ];
    }
    (import ./web.nix {
      inherit option;
      inherit (cfg) webServer;
      directory = worker.repositories_dir;
    })
  ]
