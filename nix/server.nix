# The server: what a machine has beside systemd/conveyor-server.*.
{ services, brokerUnit }:
let
  lib = import ./lib.nix;
  cfg = services.conveyor.server;
  option = "services.conveyor.server";
  broker = services.conveyor.rabbitmq;
  tokens = (cfg.settings.server.tokens or [ ]) ++ map toString cfg.tokenLists;
  settings = lib.merge cfg.settings (
    if tokens == [ ] then { } else { server = { inherit tokens; }; }
  );
  # A listener of its own for notifications, by a socket of its own.
  inherit (cfg) notify;
  notifying = lib.optional notify.enable "conveyor-server-notify.socket";
  local = lib.optional broker.enable brokerUnit;
in
if !cfg.enable then
  { }
else
  {
    settings."/etc/cvmfs/conveyor/server.toml" = settings;
    units = {
      "conveyor-server.socket" = {
        dropin = true;
        sections.Socket.ListenStream = [ "" ] ++ cfg.listenStreams;
      };
      "conveyor-server.service" = {
        dropin = true;
        sections = {
          Unit = {
            After = local;
            # systemd starts no socket of a service that is there already: a restart of the service takes it along.
            Wants = local ++ notifying;
          };
          Service = {
            Environment = [ "CONVEYOR_CONFIG=/etc/cvmfs/conveyor/server.toml" ];
            LoadCredential = lib.credentials "conveyor-server" cfg.tokenFile cfg.brokerPasswordFile;
          };
        };
      };
    }
    // (
      if notify.enable then
        {
          "conveyor-server-notify.socket" = {
            dropin = true;
            sections.Socket.ListenStream = [ "" ] ++ notify.listenStreams;
          };
        }
      else
        { }
    );
    wanted = [
      "conveyor-server.socket"
    ]
    ++ notifying
    ++ [ "conveyor-server.service" ];
    openPorts =
      lib.openPorts cfg.openFirewall cfg.listenStreams
      ++ (if notify.enable then lib.openPorts notify.openFirewall notify.listenStreams else [ ]);
    refusals =
      lib.secretFile "${option}.tokenFile" cfg.tokenFile
      ++ lib.secretFile "${option}.brokerPasswordFile" cfg.brokerPasswordFile
      ++ lib.secretSettings "${option}.settings" cfg.settings
      ++ lib.listening option "127.0.0.1:8080 or [::]:8080" cfg
      ++ (if notify.enable then lib.listening "${option}.notify" "4930 or 127.0.0.1:4930" notify else [ ])
      ++ [
        {
          assertion = (cfg.settings.notify.listen or [ ]) == [ ];
          message = "${option}.settings.notify.listen would refuse clients while the server restarts, and they give up; set ${option}.notify.enable and ${option}.notify.listenStreams";
        }
        {
          assertion =
            !(cfg.settings ? server.listen || cfg.settings ? server.host || cfg.settings ? server.port);
          message = "${option}.settings.server.listen, host and port are not looked at where systemd has the sockets; set ${option}.listenStreams";
        }
        {
          assertion =
            (settings.server.state_dir or "/var/lib/conveyor") == (import ./defaults.nix).server.state_dir;
          message = "${option}.settings.server.state_dir: the server may write in /var/lib/conveyor only; mount there what is to hold its state";
        }
      ];
  }
