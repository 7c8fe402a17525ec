{
  config,
  lib,
  pkgs,
  ...
}:
let
  shared = import ./shared.nix { inherit config lib pkgs; };
  cfg = config.services.conveyor.rabbitmq;
  defaults = (import ../nix/options.nix).rabbitmq;
  role = import ../nix/rabbitmq.nix {
    inherit (shared) services;
    brokerUnit = "rabbitmq.service";
    setup = "${pkgs.runtimeShell} ${../nix/rabbitmq-setup.sh}";
  };
  port =
    default: what:
    lib.mkOption {
      type = lib.types.port;
      inherit default;
      description = "The port of ${what}.";
    };
  file =
    what:
    lib.mkOption {
      type = lib.types.nullOr lib.types.str;
      default = null;
      description = what;
    };
in
{
  options.services.conveyor.rabbitmq = {
    enable = lib.mkEnableOption "RabbitMQ for Conveyor, with its virtual host, users and permissions";

    listenAddress = lib.mkOption {
      type = lib.types.str;
      default = defaults.listenAddress;
      description = "The address for AMQP without TLS. Passwords go over it as they are: leave it to this machine, or to a network that is trusted.";
    };
    port = port defaults.port "AMQP without TLS";
    openFirewall = lib.mkOption {
      type = lib.types.bool;
      default = defaults.openFirewall;
      description = "Whether the firewall lets others ask at the ports whose addresses are not the loopback's.";
    };

    vhost = lib.mkOption {
      type = lib.types.str;
      default = defaults.vhost;
      description = "The virtual host: the path of `settings.broker.url`.";
    };
    prefix = lib.mkOption {
      type = lib.types.str;
      default = defaults.prefix;
      description = "What names of queues and exchanges begin with: `settings.broker.prefix` of server and workers.";
    };

    users = lib.mkOption {
      default = defaults.users;
      example = {
        conveyor = {
          role = "server";
          passwordFile = "/run/secrets/conveyor-broker-password";
        };
        conveyor-worker.passwordFile = "/run/secrets/conveyor-worker-broker-password";
      };
      description = ''
        The users by name. After a password file changed: `systemctl restart conveyor-rabbitmq`. A user that is not named any more
        stays until `rabbitmqctl delete_user`. The user `guest`, which RabbitMQ makes, is deleted.
      '';
      type = lib.types.attrsOf (
        lib.types.submodule (
          { name, ... }:
          {
            options = {
              role = lib.mkOption {
                type = lib.types.enum [
                  "server"
                  "worker"
                ];
                default = "worker";
                description = "Whose user it is: a `server` may declare, send and receive, a `worker` may take the offers of its fleet.";
              };
              fleet = lib.mkOption {
                type = lib.types.str;
                default = (import ../nix/defaults.nix).worker.fleet;
                description = "The fleet of a worker.";
              };
              passwordFile = shared.secretFile {
                what = "the password";
                unit = "conveyor-rabbitmq";
                id = "password.${name}";
                example = "/run/secrets/conveyor-broker-password";
              };
            };
          }
        )
      );
    };

    tls = {
      enable = lib.mkEnableOption "AMQP with TLS, beside the plain one";
      listenAddress = lib.mkOption {
        type = lib.types.str;
        default = defaults.tls.listenAddress;
        description = "The address for AMQP with TLS.";
      };
      port = port defaults.tls.port "AMQP with TLS";
      certificateFile = file "The certificate, and those that it depends on (PEM). It may be in the store.";
      keyFile = shared.secretFile {
        what = "its key (PEM)";
        unit = "conveyor-rabbitmq";
        id = "tls-key";
        example = "/run/secrets/rabbitmq.key";
      };
      caFile = file "The authorities that clients' certificates are compared with (PEM); RabbitMQ asks clients for none by itself.";
    };
  };

  config = lib.mkIf cfg.enable (
    lib.mkMerge [
      (shared.configuration { inherit role; })
      {
        services.rabbitmq = {
          enable = true;
          inherit (cfg) listenAddress port;
          # NixOS makes the plain listener out of the two above.
          configItems = removeAttrs role.configItems [ "listeners.tcp.1" ];
        };
        systemd.services.conveyor-rabbitmq = {
          path = [
            config.services.rabbitmq.package
            pkgs.gnugrep
            pkgs.coreutils
          ];
          restartTriggers = [ config.environment.etc."cvmfs/conveyor/rabbitmq.users".source ];
        };
      }
    ]
  );
}
