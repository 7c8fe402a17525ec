# A server that tells subscribers of what its jobs published, a service without jobs that watches the same repository, and a client of both.
{
  nodes = {
    server.services.conveyor = {
      server = {
        enable = true;
        settings.repositories."test.example.org" = { };
        notify = {
          enable = true;
          openFirewall = true;
        };
      };
      worker = {
        enable = true;
        settings.worker.server = "http://localhost:8080";
        webServer = {
          enable = true;
          openFirewall = true;
        };
      };
    };
    relay.services.conveyor.notify = {
      enable = true;
      openFirewall = true;
      settings.repositories."test.example.org" = {
        url = "http://server:8000/cvmfs/test.example.org";
        watch_s = 1;
      };
    };
    client.services.conveyor.client = {
      enable = true;
      settings.client.url = "http://server:4930";
    };
  };
}
