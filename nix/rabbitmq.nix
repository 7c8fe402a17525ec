# RabbitMQ beside the server: its settings, and a unit that makes virtual host, users and permissions.
# `setup` is how that unit calls rabbitmq-setup.sh.
{
  services,
  brokerUnit,
  setup,
}:
let
  lib = import ./lib.nix;
  cfg = services.conveyor.rabbitmq;
  option = "services.conveyor.rabbitmq";
  inherit (cfg) tls;
  names = builtins.attrNames cfg.users;
  everyUser = {
    role = "worker";
    fleet = (import ./defaults.nix).worker.fleet;
    passwordFile = null;
  };
  users = builtins.mapAttrs (_: user: everyUser // user) cfg.users;
  quoted = builtins.replaceStrings [ "." ] [ "\\." ];
  # Configure, write, read, as docs/operating.md has them.
  permissions =
    user:
    if user.role == "server" then
      "^${quoted cfg.prefix}\\. ^${quoted cfg.prefix}\\. ^${quoted cfg.prefix}\\."
    else
      "^$ ^$ ^${quoted cfg.prefix}\\.offers\\.${quoted user.fleet}$";
  tlsDirectory = "/run/credentials/${brokerUnit}";
  loaded = id: file: "${id}:${if file == null then "conveyor-rabbitmq.${id}" else file}";
in
if !cfg.enable then
  { }
else
  {
    # rabbitmq.conf. NixOS writes the plain listener itself, from the same two options.
    configItems = {
      "listeners.tcp.1" = "${cfg.listenAddress}:${toString cfg.port}";
    }
    // (
      if tls.enable then
        {
          "listeners.ssl.1" = "${tls.listenAddress}:${toString tls.port}";
          "ssl_options.certfile" = tls.certificateFile;
          "ssl_options.keyfile" = "${tlsDirectory}/tls-key";
          "ssl_options.versions.1" = "tlsv1.3";
          "ssl_options.versions.2" = "tlsv1.2";
        }
        // (if tls.caFile == null then { } else { "ssl_options.cacertfile" = tls.caFile; })
      else
        { }
    );
    files."/etc/cvmfs/conveyor/rabbitmq.users" = {
      mode = "0644";
      text = builtins.concatStringsSep "" (map (name: "${name} ${permissions users.${name}}\n") names);
    };
    units = {
      "conveyor-rabbitmq.service" = {
        dropin = false;
        sections = {
          Unit = {
            Description = "RabbitMQ's virtual host, users and permissions for Conveyor";
            # The broker's restart makes no user anew, but a new database has none.
            Requires = [ brokerUnit ];
            PartOf = [ brokerUnit ];
            After = [ brokerUnit ];
            Before = [
              "conveyor-server.service"
              "conveyor-worker.service"
            ];
          };
          Service = {
            Type = "oneshot";
            RemainAfterExit = true;
            # The account that has the broker's cookie.
            User = "rabbitmq";
            ExecStart = "${setup} ${cfg.vhost} /etc/cvmfs/conveyor/rabbitmq.users";
            LoadCredential = map (name: loaded "password.${name}" users.${name}.passwordFile) names;
            TimeoutStartSec = "5min";
            Restart = "on-failure";
            RestartSec = "5s";
            # A password that is empty or not there.
            RestartPreventExitStatus = 78;
            ProtectSystem = "strict";
            ProtectHome = true;
            PrivateTmp = true;
            PrivateDevices = true;
            NoNewPrivileges = true;
            CapabilityBoundingSet = "";
          };
          Install.WantedBy = [ "multi-user.target" ];
        };
      };
    }
    // (
      if tls.enable then
        {
          ${brokerUnit} = {
            dropin = true;
            sections.Service.LoadCredential = [ (loaded "tls-key" tls.keyFile) ];
          };
        }
      else
        { }
    );
    wanted = [
      brokerUnit
      "conveyor-rabbitmq.service"
    ];
    openPorts =
      if cfg.openFirewall then
        lib.optional (!(lib.isLoopback cfg.listenAddress)) cfg.port
        ++ lib.optional (tls.enable && !(lib.isLoopback tls.listenAddress)) tls.port
      else
        [ ];
    refusals =
      builtins.concatMap (
        name:
        lib.secretFile "${option}.users.${name}.passwordFile" users.${name}.passwordFile
        ++ [
          {
            assertion = builtins.match "[A-Za-z0-9_.@-]{1,128}" name != null;
            message = "${option}.users has ${builtins.toJSON name}; use 1 to 128 letters, digits and . _ - @";
          }
          {
            assertion = builtins.elem users.${name}.role [
              "server"
              "worker"
            ];
            message = ''${option}.users.${name}.role must be "server" or "worker"; it is ${
              builtins.toJSON users.${name}.role
            }'';
          }
        ]
        ++ lib.known "${option}.users.${name}" everyUser cfg.users.${name}
      ) names
      ++ lib.secretFile "${option}.tls.keyFile" tls.keyFile
      ++ [
        {
          assertion = names != [ ];
          message = "${option}.users is empty: neither server nor workers could log in";
        }
        {
          assertion = builtins.match "[A-Za-z0-9_.@-]{1,128}" cfg.vhost != null;
          message = "${option}.vhost is ${builtins.toJSON cfg.vhost}; use 1 to 128 letters, digits and . _ - @";
        }
        {
          assertion = !tls.enable || tls.certificateFile != null;
          message = "${option}.tls.enable needs ${option}.tls.certificateFile, and the key in ${option}.tls.keyFile";
        }
        {
          assertion =
            !cfg.openFirewall
            || !(lib.isLoopback cfg.listenAddress)
            || (tls.enable && !(lib.isLoopback tls.listenAddress));
          message = "${option}.openFirewall has nothing to open: ${option}.listenAddress is ${cfg.listenAddress}, and ${option}.tls is not enabled for other machines";
        }
        (lib.port "${option}.port" cfg.port)
        (lib.port "${option}.tls.port" tls.port)
      ];
  }
