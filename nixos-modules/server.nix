{
  config,
  lib,
  pkgs,
  ...
}:
let
  shared = import ./shared.nix { inherit config lib pkgs; };
  cfg = config.services.conveyor.server;
  defaults = (import ../nix/options.nix).server;
  role = import ../nix/server.nix {
    inherit (shared) services;
    brokerUnit = "rabbitmq.service";
  };
  file = "/etc/cvmfs/conveyor/server.toml";
in
{
  imports = [ ./client.nix ];

  options.services.conveyor.server = {
    enable = lib.mkEnableOption "Conveyor's server: it takes jobs, keeps them and has them published by workers";
    inherit (shared) package;

    settings = shared.settings {
      what = "The server's settings.";
      options.repositories = lib.mkOption {
        type = lib.types.attrsOf shared.toml.type;
        default = { };
        example = {
          "software.example.org".fleet = "default";
        };
        description = "The repositories that jobs are accepted for, each with its settings.";
      };
    };

    listenStreams = lib.mkOption {
      type = lib.types.listOf lib.types.str;
      default = defaults.listenStreams;
      example = [
        "0.0.0.0:8080"
        "/run/conveyor/server.sock"
      ];
      description = ''
        Where the server is asked: addresses with ports, and absolute paths of Unix sockets. systemd holds them, so that requests
        wait while the server restarts. It is plain HTTP: put a proxy with TLS in front of what others than this machine ask.
      '';
    };

    openFirewall = lib.mkOption {
      type = lib.types.bool;
      default = defaults.openFirewall;
      description = "Whether the firewall lets others ask at the ports of {option}`services.conveyor.server.listenStreams`, but for those of the loopback.";
    };

    notify = {
      enable = lib.mkEnableOption "a listener of its own for notifications, where clients of CernVM-FS look for it; without it they are told at {option}`services.conveyor.server.listenStreams`";
      listenStreams = shared.notifyStreams defaults.notify.listenStreams;
      openFirewall = lib.mkOption {
        type = lib.types.bool;
        default = defaults.notify.openFirewall;
        description = "Whether the firewall lets others subscribe at {option}`services.conveyor.server.notify.listenStreams`.";
      };
    };

    tokenFile = shared.secretFile {
      what = "the token that opens everything, with which the others are made";
      unit = "conveyor-server";
      id = "token";
      example = "/run/secrets/conveyor-token";
    };

    tokenLists = lib.mkOption {
      type = lib.types.listOf (lib.types.either lib.types.path lib.types.str);
      default = defaults.tokenLists;
      apply = map (list: "${list}");
      example = [ "/var/lib/conveyor-tokens/ci.toml" ];
      description = ''
        Files with tokens' hashes (`conveyor token create --file`), read again when they change. They hold no secrets and may
        be in the Nix store; the account `conveyor` must be able to read them.
      '';
    };

    brokerPasswordFile = shared.secretFile {
      what = "the password of `settings.broker.user`";
      unit = "conveyor-server";
      id = "broker-password";
      example = "/run/secrets/conveyor-broker-password";
    };
  };

  config = lib.mkIf cfg.enable (
    lib.mkMerge [
      (shared.configuration {
        inherit role;
        checks.${file} = {
          role = "server";
          inherit (cfg) package;
        };
      })
      {
        services.conveyor.client.enable = lib.mkDefault true;
        systemd.packages = [ cfg.package ];
        systemd.tmpfiles.packages = [ cfg.package ];
        systemd.services.conveyor-server = {
          restartTriggers = [ config.environment.etc.${lib.removePrefix "/etc/" file}.source ];
          # Stopping it first, as NixOS does otherwise, would close the sockets: this way no request is refused by a switch.
          stopIfChanged = false;
        };
        users.users.conveyor = {
          isSystemUser = true;
          group = "conveyor";
          home = (import ../nix/defaults.nix).server.state_dir;
          description = "Conveyor server";
        };
        users.groups.conveyor = { };
      }
    ]
  );
}
