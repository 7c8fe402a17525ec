# One machine: server, worker and web server, and somebody who submits.
{
  nodes.server.services.conveyor = {
    server = {
      enable = true;
      settings.repositories."test.example.org" = { };
    };
    worker = {
      enable = true;
      settings.worker.server = "http://localhost:8080";
      webServer.enable = true;
    };
  };
}
