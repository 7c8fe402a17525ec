# Broker, server and publisher on three machines, which trust RabbitMQ by its certificate; a client on a fourth.
let
  broker = user: {
    inherit user;
    url = "amqps://broker:5671/cvmfs";
    ca_file = "/etc/conveyor-ca.pem";
    single_node = true;
  };
in
{
  nodes = {
    broker.services.conveyor.rabbitmq = {
      enable = true;
      openFirewall = true;
      tls = {
        enable = true;
        certificateFile = "/etc/conveyor-broker.pem";
      };
      users = {
        server.role = "server";
        publisher.role = "worker";
      };
    };
    server.services.conveyor.server = {
      enable = true;
      settings = {
        broker = broker "server";
        repositories."test.example.org" = { };
      };
      listenStreams = [
        "0.0.0.0:8080"
        "/run/conveyor/server.sock"
      ];
      openFirewall = true;
    };
    publisher.services.conveyor.worker = {
      enable = true;
      settings = {
        broker = builtins.removeAttrs (broker "publisher") [ "single_node" ];
        worker.server = "http://server:8080";
      };
      webServer = {
        enable = true;
        openFirewall = true;
      };
    };
    client = { };
  };
}
