# A publisher whose power is cut while it has a batch.
{
  nodes = {
    server.services.conveyor.server = {
      enable = true;
      settings = {
        repositories."test.example.org" = { };
        server.claim_expiry_s = 5;
      };
      listenStreams = [
        "0.0.0.0:8080"
        "/run/conveyor/server.sock"
      ];
      openFirewall = true;
    };
    publisher.services.conveyor.worker = {
      enable = true;
      settings.worker.server = "http://server:8080";
      webServer = {
        enable = true;
        openFirewall = true;
      };
    };
  };
}
