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
  streams = builtins.filter (stream: !(lib.isSocketPath stream)) cfg.listenStreams;
  outside = builtins.filter (stream: !(lib.isLoopback stream)) streams;
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
            Wants = local;
          };
          Service = {
            Environment = [ "CONVEYOR_CONFIG=/etc/cvmfs/conveyor/server.toml" ];
            LoadCredential = lib.credentials "conveyor-server" cfg.tokenFile cfg.brokerPasswordFile;
          };
        };
      };
    };
    wanted = [
      "conveyor-server.socket"
      "conveyor-server.service"
    ];
    openPorts =
      if cfg.openFirewall then builtins.filter (port: port != null) (map lib.portOf outside) else [ ];
    refusals =
      lib.secretFile "${option}.tokenFile" cfg.tokenFile
      ++ lib.secretFile "${option}.brokerPasswordFile" cfg.brokerPasswordFile
      ++ lib.secretSettings "${option}.settings" cfg.settings
      ++ map (stream: {
        assertion = lib.portOf stream != null;
        message = "${option}.listenStreams has ${builtins.toJSON stream}; write an address and a port from 1 to 65535, such as 127.0.0.1:8080 or [::]:8080, or an absolute path";
      }) streams
      ++ [
        {
          assertion = cfg.listenStreams != [ ];
          message = "${option}.listenStreams is empty: nobody could ask the server; leave it away for ${toString (import ./options.nix).server.listenStreams}";
        }
        {
          assertion =
            !(cfg.settings ? server.listen || cfg.settings ? server.host || cfg.settings ? server.port);
          message = "${option}.settings.server.listen, host and port are not looked at where systemd has the sockets; set ${option}.listenStreams";
        }
        {
          assertion = !cfg.openFirewall || outside != [ ];
          message = "${option}.openFirewall has nothing to open: no address of ${option}.listenStreams can be reached from elsewhere";
        }
        {
          assertion =
            (settings.server.state_dir or "/var/lib/conveyor") == (import ./defaults.nix).server.state_dir;
          message = "${option}.settings.server.state_dir: the server may write in /var/lib/conveyor only; mount there what is to hold its state";
        }
      ];
  }
