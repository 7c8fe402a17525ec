# A server that is asked all the time. There is no worker: what counts is what is accepted.
{
  nodes.server = {
    services.conveyor.server = {
      enable = true;
      settings.repositories."test.example.org" = { };
    };
    environment.etc."load.sh".text = builtins.readFile ./restart-under-load.sh;
  };
}
