# A server that finds the databases of version 1, and a worker for what was left to do.
{
  nodes.server = {
    services.conveyor = {
      server = {
        enable = true;
        settings = {
          repositories."test.example.org" = { };
          # The fixture grows old; what has ended is kept all the same.
          retention = {
            jobs_days = 0;
            logs_days = 0;
          };
        };
      };
      worker = {
        enable = true;
        settings.worker.server = "http://localhost:8080";
        webServer.enable = true;
      };
    };
    environment.etc = {
      "upgrade/conveyor.sql".text = builtins.readFile ./upgrade-conveyor.sql;
      "upgrade/logs.sql".text = builtins.readFile ./upgrade-logs.sql;
    };
  };
}
