# A publisher's web server: its repositories below /cvmfs/, for clients and replicas, by nginx.
{
  option,
  webServer,
  directory,
}:
let
  lib = import ./lib.nix;
  port = toString webServer.port;
in
if !webServer.enable then
  { }
else
  {
    files."/etc/nginx/conf.d/conveyor-cvmfs.conf" = {
      mode = "0644";
      text = ''
        server {
          listen ${port};
          listen [::]:${port};

          # Objects are named by their content and never change.
          location ~ ^/cvmfs/(?<object>[^/.][^/]*/data/[0-9a-f][0-9a-f]/[^/]+)$ {
            alias ${directory}/$object;
            types { }
            default_type application/octet-stream;
            expires 3d;
          }
          # The manifest and what hangs on it change with each publish.
          location ~ ^/cvmfs/(?<signed>[^/.][^/]*/\.cvmfs(published|whitelist|reflog|_master_replica|_last_snapshot|_is_snapshotting))$ {
            alias ${directory}/$signed;
            types { }
            default_type application/x-cvmfs;
            expires 61s;
          }
          # Locks, settings and open transactions are nobody's.
          location / {
            return 404;
          }
        }
      '';
    };
    wanted = [ "nginx.service" ];
    openPorts = lib.optional webServer.openFirewall webServer.port;
    refusals = [ (lib.port "${option}.webServer.port" webServer.port) ];
  }
