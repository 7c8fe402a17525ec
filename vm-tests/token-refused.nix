# A server, and a worker on a machine of its own.
{
  nodes = {
    server.services.conveyor.server = {
      enable = true;
      settings.repositories."test.example.org" = { };
      listenStreams = [
        "0.0.0.0:8080"
        "/run/conveyor/server.sock"
      ];
      openFirewall = true;
    };
    publisher.services.conveyor.worker = {
      enable = true;
      settings.worker.server = "http://server:8080";
    };
  };
}
