# What each option of `services.conveyor` is where a machine does not say. The NixOS modules take their defaults from here, and
# machine.nix fills in with it what a machine of vm-tests/ leaves out.
let
  settings = import ./defaults.nix;
in
{
  client = {
    enable = false;
    settings = { };
  };

  server = {
    enable = false;
    settings = { };
    listenStreams = [
      "127.0.0.1:8080"
      "/run/conveyor/server.sock"
    ];
    openFirewall = false;
    tokenFile = null;
    tokenLists = [ ];
    brokerPasswordFile = null;
    notify = {
      enable = false;
      listenStreams = [ "4930" ];
      openFirewall = false;
    };
  };

  notify = {
    enable = false;
    settings = { };
    listenStreams = [ "4930" ];
    openFirewall = false;
    tokenFile = null;
    tokenLists = [ ];
    brokerPasswordFile = null;
  };

  worker = {
    enable = false;
    settings = { };
    inherit (settings.worker) publisher;
    cvmfsPackage = null;
    user = null;
    tokenFile = null;
    brokerPasswordFile = null;
    webServer = {
      enable = false;
      port = 8000;
      openFirewall = false;
    };
  };

  rabbitmq = {
    enable = false;
    listenAddress = "127.0.0.1";
    port = 5672;
    openFirewall = false;
    vhost = "cvmfs";
    inherit (settings.broker) prefix;
    users = { };
    tls = {
      enable = false;
      listenAddress = "0.0.0.0";
      port = 5671;
      certificateFile = null;
      keyFile = null;
      caFile = null;
    };
  };

  gateway = {
    enable = false;
    package = null;
    port = 4929;
    openFirewall = false;
    settings = { };
    repositories = { };
    keyFiles = { };
  };
}
