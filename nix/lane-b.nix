# What is evaluated against a tree of nixpkgs (scripts/check-nix, lane B): machines of each role to their derivation, the package, the VM tests,
# and configurations that must be refused, each with a part of the message.
{ nixpkgs }:
let
  pkgs = import nixpkgs { system = "x86_64-linux"; };
  lib = import (nixpkgs + "/lib");
  evaluated =
    services:
    (import (nixpkgs + "/nixos/lib/eval-config.nix") {
      inherit lib pkgs;
      system = null;
      modules = [
        ../nixos-modules
        {
          inherit services;
          boot.loader.grub.enable = false;
          fileSystems."/".device = "/dev/disk/by-label/root";
          documentation.enable = false;
          system.stateVersion = "24.05";
        }
      ];
    }).config;
  # All of it, not only what the derivation needs.
  whole =
    config:
    builtins.deepSeq [
      config.services.conveyor.server.settings
      config.services.conveyor.notify.settings
      config.services.conveyor.worker.settings
    ] config.system.build.toplevel.drvPath;
  machine = services: whole (evaluated services);

  cvmfs = pkgs.runCommand "cvmfs" { } "exit 1";
  server = {
    enable = true;
    settings.repositories."software.example.org" = { };
  };
  units = builtins.mapAttrs (_: unit: unit.text) (
    lib.filterAttrs (name: _: lib.hasInfix "conveyor" name) (evaluated everything).systemd.units
  );
  everything.conveyor = {
    server = server // {
      listenStreams = [
        "0.0.0.0:8080"
        "/run/conveyor/server.sock"
      ];
      openFirewall = true;
      tokenFile = "/run/secrets/admin";
      brokerPasswordFile = "/run/secrets/broker";
      tokenLists = [ ./lane-b.nix ];
      settings = {
        repositories."software.example.org" = { };
        broker = {
          url = "amqp://localhost/cvmfs";
          user = "conveyor";
        };
      };
      notify = {
        enable = true;
        openFirewall = true;
      };
    };
    notify = {
      enable = true;
      listenStreams = [ "127.0.0.1:4931" ];
      tokenFile = "/run/secrets/notify";
      tokenLists = [ ./lane-b.nix ];
      settings.repositories."other.example.org".path = "/srv/cvmfs/other.example.org";
    };
    worker = {
      enable = true;
      tokenFile = "/run/secrets/worker";
      webServer.enable = true;
      webServer.openFirewall = true;
      settings.worker.slots = 2;
    };
    rabbitmq = {
      enable = true;
      users.conveyor = {
        role = "server";
        passwordFile = "/run/secrets/broker";
      };
      users.other.fleet = "other";
      tls = {
        enable = true;
        certificateFile = "/etc/ssl/broker.pem";
        keyFile = "/run/secrets/broker.key";
      };
      openFirewall = true;
    };
    gateway = {
      enable = true;
      package = cvmfs;
      keyFiles.publisher = "/run/secrets/publisher.gw";
      repositories."software.example.org".keys = [
        {
          id = "publisher";
          path = "/";
        }
      ];
    };
  };
  refused = message: conveyor: {
    inherit message;
    drv = machine { inherit conveyor; };
  };
in
{
  package = (pkgs.callPackage ./package.nix { }).drvPath;

  machines = {
    server = machine { conveyor = { inherit server; }; };
    native = machine { conveyor.worker.enable = true; };
    notify = machine { conveyor.notify.enable = true; };
    cvmfs-server = machine {
      conveyor.worker = {
        enable = true;
        publisher = "cvmfs-server";
        cvmfsPackage = cvmfs;
      };
    };
    client = machine {
      conveyor.client = {
        enable = true;
        settings.client.url = "https://conveyor.example.org";
      };
    };
    everything = machine everything;
    off = machine { };
  };

  # A machine on which all is off is one that has never heard of it.
  nothingIsLeft =
    let
      config = evaluated { };
      names =
        builtins.attrNames config.systemd.units
        ++ builtins.attrNames config.environment.etc
        ++ builtins.attrNames config.users.users
        ++ builtins.attrNames config.users.groups
        ++ config.systemd.tmpfiles.rules;
    in
    lib.filter (name: lib.hasInfix "conveyor" name || lib.hasInfix "cvmfs" name) names == [ ];

  # The worker gets no mount namespace and keeps its privileges: NixOS adds nothing of that kind.
  workerIsOfTheMachine =
    builtins.match
      ".*(Protect|Private|ReadOnly|ReadWrite|Inaccessible|NoNewPrivileges|TemporaryFileSystem|BindPaths|RootDirectory|DynamicUser|SystemCall|Restrict[A-Z]|CapabilityBoundingSet).*"
      units."conveyor-worker.service" == null;

  vmTests = builtins.mapAttrs (_: test: test.drvPath) (
    import ../vm-tests {
      inherit pkgs;
      cvmfsPackage = cvmfs;
    }
  );

  refusals = {
    unknownOption = refused "The option `services.conveyor.server.tokenFlie' does not exist" {
      server.tokenFlie = "/run/secrets/token";
    };
    badPort = refused "services.conveyor.server.listenStreams has \"127.0.0.1:80800\"" {
      server = server // {
        listenStreams = [ "127.0.0.1:80800" ];
      };
    };
    badPortType =
      refused
        "A definition for option `services.conveyor.worker.webServer.port' is not of type `16 bit unsigned integer"
        {
          worker.enable = true;
          worker.webServer.enable = true;
          worker.webServer.port = 80800;
        };
    secretInStore = refused "services.conveyor.server.tokenFile is in the Nix store" {
      server = server // {
        tokenFile = "${./lane-b.nix}";
      };
    };
    secretAsPath =
      refused "A definition for option `services.conveyor.worker.tokenFile' is not of type"
        {
          worker.enable = true;
          worker.tokenFile = ./lane-b.nix;
        };
    secretInSettings =
      refused "services.conveyor.client.settings.client.token would be in the Nix store"
        {
          client.enable = true;
          client.settings.client.token = "conveyor_1_2";
        };
    brokerSecretInStore =
      refused "services.conveyor.rabbitmq.users.conveyor.passwordFile is in the Nix store"
        {
          rabbitmq.enable = true;
          rabbitmq.users.conveyor.passwordFile = "${./lane-b.nix}";
        };
    missingCvmfs = refused "services.conveyor.worker.cvmfsPackage is not set" {
      worker.enable = true;
      worker.publisher = "cvmfs-server";
    };
    missingGateway = refused "services.conveyor.gateway.package is not set" {
      gateway.enable = true;
    };
    unknownPublisher =
      refused "A definition for option `services.conveyor.worker.publisher' is not of type"
        {
          worker.enable = true;
          worker.publisher = "rsync";
        };
    otherPublisher =
      refused
        "services.conveyor.worker.settings.worker.publisher says otherwise than services.conveyor.worker.publisher"
        {
          worker.enable = true;
          worker.settings.worker.publisher = "cvmfs-server";
        };
    listenInSettings =
      refused "services.conveyor.server.settings.server.listen, host and port are not looked at"
        {
          server = server // {
            settings.server.listen = [ "0.0.0.0:80" ];
          };
        };
    nothingToOpen = refused "services.conveyor.server.openFirewall has nothing to open" {
      server = server // {
        openFirewall = true;
      };
    };
    listenOfNotify = refused "services.conveyor.server.settings.notify.listen would refuse clients" {
      server = server // {
        settings.notify.listen = [ "0.0.0.0:4930" ];
      };
    };
    onePort =
      refused
        "services.conveyor.notify.listenStreams and services.conveyor.server.notify.listenStreams both have 4930"
        {
          server = server // {
            notify.enable = true;
          };
          notify.enable = true;
        };
    nobodyAtBroker = refused "services.conveyor.rabbitmq.users is empty" {
      rabbitmq.enable = true;
    };
  };
}
