# A CernVM-FS gateway beside the server: its two settings files and its unit. The package has bin/cvmfs_gateway and bin/cvmfs_receiver.
{ services }:
let
  lib = import ./lib.nix;
  cfg = services.conveyor.gateway;
  option = "services.conveyor.gateway";
  ids = builtins.attrNames cfg.keyFiles;
  keysOf = repository: map (key: key.id) (cfg.repositories.${repository}.keys or [ ]);
  unknown = builtins.filter (id: !(builtins.elem id ids)) (
    builtins.concatMap keysOf (builtins.attrNames cfg.repositories)
  );
in
if !cfg.enable then
  { }
else
  {
    files = {
      "/etc/cvmfs/gateway/user.json" = {
        mode = "0644";
        text = builtins.toJSON (
          {
            inherit (cfg) port;
            receiver_path = "${toString cfg.package}/bin/cvmfs_receiver";
            work_dir = "/var/lib/cvmfs-gateway";
          }
          // cfg.settings
        );
      };
      "/etc/cvmfs/gateway/repo.json" = {
        mode = "0644";
        text = builtins.toJSON {
          version = 2;
          repos = map (domain: {
            inherit domain;
            inherit (cfg.repositories.${domain}) keys;
          }) (builtins.attrNames cfg.repositories);
          # In each file is a line "plain_text ID SECRET"; the id is the one written there.
          keys = map (id: {
            type = "file";
            inherit id;
            file_name = "/run/credentials/cvmfs-gateway.service/${id}.gw";
          }) ids;
        };
      };
    };
    units."cvmfs-gateway.service" = {
      dropin = false;
      sections = {
        Unit = {
          Description = "CernVM-FS repository gateway";
          After = [ "network.target" ];
          Before = [ "conveyor-worker.service" ];
        };
        Service = {
          # It takes its requests as soon as it runs and says so to nobody.
          Type = "exec";
          ExecStart = "${toString cfg.package}/bin/cvmfs_gateway --user_config_file /etc/cvmfs/gateway/user.json --access_config_file /etc/cvmfs/gateway/repo.json";
          LoadCredential = map (id: "${id}.gw:${cfg.keyFiles.${id}}") ids;
          StateDirectory = "cvmfs-gateway";
          Restart = "always";
          RestartSec = "5s";
          LimitNOFILE = 131072;
        };
        Install.WantedBy = [ "multi-user.target" ];
      };
    };
    wanted = [ "cvmfs-gateway.service" ];
    openPorts = lib.optional cfg.openFirewall cfg.port;
    refusals =
      builtins.concatMap (id: lib.secretFile "${option}.keyFiles.${id}" cfg.keyFiles.${id}) ids
      ++ [
        {
          assertion = cfg.package != null;
          message = "${option}.package is not set, and there must be bin/cvmfs_gateway and bin/cvmfs_receiver in it. nixpkgs has no cvmfs-gateway; give a package of your own";
        }
        {
          assertion = unknown == [ ];
          message = "${option}.repositories names keys that ${option}.keyFiles does not have: ${toString unknown}";
        }
        (lib.port "${option}.port" cfg.port)
      ];
  }
