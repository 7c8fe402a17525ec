{
  config,
  lib,
  pkgs,
  ...
}:
let
  shared = import ./shared.nix { inherit config lib pkgs; };
  cfg = config.services.conveyor.notify;
  defaults = (import ../nix/options.nix).notify;
  role = import ../nix/notify.nix {
    inherit (shared) services;
    brokerUnit = "rabbitmq.service";
  };
  file = "/etc/cvmfs/conveyor/notify.toml";
in
{
  imports = [ ./client.nix ];

  options.services.conveyor.notify = {
    enable = lib.mkEnableOption "Conveyor's notifications without a server: clients of CernVM-FS are told of new revisions";
    inherit (shared) package;

    settings = shared.settings {
      what = "The service's settings.";
      options.repositories = lib.mkOption {
        type = lib.types.attrsOf shared.toml.type;
        default = { };
        example = {
          "software.example.org" = {
            url = "http://stratum0.example.org/cvmfs/software.example.org";
            watch_s = 10;
          };
        };
        description = "The repositories that are announced, each with where it is and how often it is looked at.";
      };
    };

    listenStreams = shared.notifyStreams defaults.listenStreams;

    openFirewall = lib.mkOption {
      type = lib.types.bool;
      default = defaults.openFirewall;
      description = "Whether the firewall lets others subscribe at {option}`services.conveyor.notify.listenStreams`.";
    };

    tokenFile = shared.secretFile {
      what = "a token that may publish";
      unit = "conveyor-notify";
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
        be in the Nix store; the account `conveyor-notify` must be able to read them.
      '';
    };

    brokerPasswordFile = shared.secretFile {
      what = "the password of `settings.broker.user`";
      unit = "conveyor-notify";
      id = "broker-password";
      example = "/run/secrets/conveyor-broker-password";
    };
  };

  config = lib.mkIf cfg.enable (
    lib.mkMerge [
      (shared.configuration {
        inherit role;
        checks.${file} = {
          role = "notify";
          inherit (cfg) package;
        };
      })
      {
        services.conveyor.client.enable = lib.mkDefault true;
        systemd.packages = [ cfg.package ];
        systemd.services.conveyor-notify = {
          restartTriggers = [ config.environment.etc.${lib.removePrefix "/etc/" file}.source ];
          # Stopping it first, as NixOS does otherwise, would close the socket: this way no client is refused by a switch.
          stopIfChanged = false;
        };
        users.users.conveyor-notify = {
          isSystemUser = true;
          group = "conveyor-notify";
          home = (import ../nix/defaults.nix).notify.state_dir;
          description = "Conveyor notifications";
        };
        users.groups.conveyor-notify = { };
      }
    ]
  );
}
