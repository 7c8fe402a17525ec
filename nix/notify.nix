# Notifications without a server: what a machine has beside systemd/conveyor-notify.*.
{ services, brokerUnit }:
let
  lib = import ./lib.nix;
  cfg = services.conveyor.notify;
  option = "services.conveyor.notify";
  inherit (services.conveyor) server;
  broker = services.conveyor.rabbitmq;
  tokens = (cfg.settings.server.tokens or [ ]) ++ map toString cfg.tokenLists;
  settings = lib.merge cfg.settings (
    if tokens == [ ] then { } else { server = { inherit tokens; }; }
  );
  local = lib.optional broker.enable brokerUnit;
  shared = builtins.filter (
    stream: builtins.elem stream cfg.listenStreams
  ) server.notify.listenStreams;
in
if !cfg.enable then
  { }
else
  {
    settings."/etc/cvmfs/conveyor/notify.toml" = settings;
    units = {
      "conveyor-notify.socket" = {
        dropin = true;
        sections.Socket.ListenStream = [ "" ] ++ cfg.listenStreams;
      };
      "conveyor-notify.service" = {
        dropin = true;
        sections = {
          Unit = {
            After = local;
            Wants = local;
          };
          Service = {
            Environment = [ "CONVEYOR_CONFIG=/etc/cvmfs/conveyor/notify.toml" ];
            LoadCredential = lib.credentials "conveyor-notify" cfg.tokenFile cfg.brokerPasswordFile;
          };
        };
      };
    };
    wanted = [
      "conveyor-notify.socket"
      "conveyor-notify.service"
    ];
    openPorts = lib.openPorts cfg.openFirewall cfg.listenStreams;
    refusals =
      lib.secretFile "${option}.tokenFile" cfg.tokenFile
      ++ lib.secretFile "${option}.brokerPasswordFile" cfg.brokerPasswordFile
      ++ lib.secretSettings "${option}.settings" cfg.settings
      ++ lib.listening option "4930 or 127.0.0.1:4930" cfg
      ++ [
        {
          assertion = !(server.enable && server.notify.enable) || shared == [ ];
          message = "${option}.listenStreams and services.conveyor.server.notify.listenStreams both have ${toString shared}: the server tells subscribers by itself, so leave one of the two out";
        }
        {
          assertion = !(cfg.settings ? notify.listen);
          message = "${option}.settings.notify.listen is not looked at where systemd has the socket; set ${option}.listenStreams";
        }
        {
          assertion =
            (settings.notify.state_dir or "/var/lib/conveyor-notify") == (import ./defaults.nix)
            .notify.state_dir;
          message = "${option}.settings.notify.state_dir: the service may write in /var/lib/conveyor-notify only; mount there what is to hold its state";
        }
      ];
  }
