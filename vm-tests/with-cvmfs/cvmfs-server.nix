# One machine whose worker drives CernVM-FS's own server, of the package that is given. The Debian lab has none and does not play it.
{ cvmfsPackage }:
{
  nodes.server.services.conveyor = {
    server = {
      enable = true;
      settings.repositories."test.example.org" = { };
    };
    worker = {
      enable = true;
      publisher = "cvmfs-server";
      inherit cvmfsPackage;
      settings.worker.server = "http://localhost:8080";
      webServer.enable = true;
    };
  };
}
