{
  config,
  lib,
  pkgs,
  ...
}:
let
  shared = import ./shared.nix { inherit config lib pkgs; };
  cfg = config.services.conveyor.worker;
  defaults = (import ../nix/options.nix).worker;
  inherit (import ../nix/defaults.nix) worker;
  role = import ../nix/worker.nix {
    inherit (shared) services;
    brokerUnit = "rabbitmq.service";
  };
  file = "/etc/cvmfs/conveyor/worker.toml";
  ofCvmfs = cfg.publisher == "cvmfs-server" && cfg.cvmfsPackage != null;
  nginx = role.files."/etc/nginx/conf.d/conveyor-cvmfs.conf".text or "";
in
{
  imports = [ ./client.nix ];

  options.services.conveyor.worker = {
    enable = lib.mkEnableOption "a worker of Conveyor: it publishes into the CernVM-FS repositories of this machine";
    inherit (shared) package;

    settings = shared.settings {
      what = "The worker's settings.";
      options.worker = {
        repositories_dir = lib.mkOption {
          type = lib.types.str;
          default = worker.repositories_dir;
          description = "Where the repositories are that the worker writes by itself; made for its account.";
        };
        keys_dir = lib.mkOption {
          type = lib.types.str;
          default = worker.keys_dir;
          description = "Where their keys are; made for its account.";
        };
        drain_timeout_s = lib.mkOption {
          type = lib.types.ints.between 0 86400;
          default = worker.drain_timeout_s;
          description = "For how many seconds what the worker has may go on when it is told to end. The unit waits as long.";
        };
      };
    };

    publisher = lib.mkOption {
      type = lib.types.enum [
        "native"
        "cvmfs-server"
      ];
      default = defaults.publisher;
      description = ''
        What publishes: Conveyor itself (`native`), which needs nothing else, or this machine's `cvmfs_server`, which
        {option}`services.conveyor.worker.cvmfsPackage` must give.
      '';
    };

    cvmfsPackage = lib.mkOption {
      type = lib.types.nullOr lib.types.package;
      default = defaults.cvmfsPackage;
      description = ''
        A package with `bin/cvmfs_server`, `bin/cvmfs_swissknife`, `bin/cvmfs_publish` and `bin/cvmfs_suid_helper`. nixpkgs has none.
        The helper is wrapped as a set-user-id program and linked to `/usr/bin/cvmfs_suid_helper`, where `cvmfs_server` calls it.
      '';
    };

    user = lib.mkOption {
      type = lib.types.nullOr lib.types.str;
      default = defaults.user;
      description = ''
        The account of the worker. Where it is not set, `conveyor-worker`, which owns the repositories; with `cvmfs_server`, root.
        Another account than these must exist, and own the repositories that it is to write.
      '';
    };

    tokenFile = shared.secretFile {
      what = "the token that lets the worker in at the server, of the role `worker`";
      unit = "conveyor-worker";
      id = "token";
      example = "/run/secrets/conveyor-worker-token";
    };

    brokerPasswordFile = shared.secretFile {
      what = "the password of `settings.broker.user`";
      unit = "conveyor-worker";
      id = "broker-password";
      example = "/run/secrets/conveyor-broker-password";
    };

    webServer = {
      enable = lib.mkEnableOption "nginx in front of the repositories: `http://HOST:PORT/cvmfs/NAME` for clients and replicas";
      port = lib.mkOption {
        type = lib.types.port;
        default = defaults.webServer.port;
        description = "Its port; that of CernVM-FS's stratum 1 servers where not set.";
      };
      openFirewall = lib.mkOption {
        type = lib.types.bool;
        default = defaults.webServer.openFirewall;
        description = "Whether the firewall lets others ask it.";
      };
    };
  };

  config = lib.mkIf cfg.enable (
    lib.mkMerge [
      (shared.configuration {
        # nginx and tmpfiles have options of their own.
        role = role // {
          files = { };
        };
        checks.${file} = {
          role = "worker";
          inherit (cfg) package;
        };
      })
      {
        services.conveyor.client.enable = lib.mkDefault true;
        services.conveyor.worker.settings.worker.publisher = lib.mkDefault cfg.publisher;
        systemd.packages = [ cfg.package ];
        systemd.services.conveyor-worker = {
          restartTriggers = [ config.environment.etc.${lib.removePrefix "/etc/" file}.source ];
          # What scripts find in PATH: NixOS has no /bin/bash.
          path = [ pkgs.bash ] ++ lib.optional ofCvmfs cfg.cvmfsPackage;
        };
        systemd.tmpfiles.rules = lib.filter (line: line != "") (
          lib.splitString "\n" (role.files."/etc/tmpfiles.d/conveyor-repositories.conf".text or "")
        );
        services.nginx = lib.mkIf cfg.webServer.enable {
          enable = true;
          appendHttpConfig = nginx;
        };
      }
      (lib.mkIf (cfg.user == null && cfg.publisher == "native") {
        users.users.conveyor-worker = {
          isSystemUser = true;
          group = "conveyor-worker";
          home = worker.state_dir;
          description = "Conveyor worker";
        };
        users.groups.conveyor-worker = { };
      })
      (lib.mkIf ofCvmfs {
        environment.systemPackages = [ cfg.cvmfsPackage ];
        security.wrappers.cvmfs_suid_helper = {
          owner = "root";
          group = "root";
          setuid = true;
          source = "${cfg.cvmfsPackage}/bin/cvmfs_suid_helper";
        };
        systemd.tmpfiles.rules = [
          "L+ /usr/bin/cvmfs_suid_helper - - - - ${config.security.wrapperDir}/cvmfs_suid_helper"
        ];
        boot.kernelModules = [ "overlay" ];
      })
    ]
  );
}
