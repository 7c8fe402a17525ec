# The settings that the NixOS modules read themselves, with the program's own defaults: a test compares each with the program.
# All others are the program's alone (docs/configuration.md).
{
  client.url = "http://localhost:8080";
  server.state_dir = "/var/lib/conveyor";
  notify.state_dir = "/var/lib/conveyor-notify";
  worker = {
    fleet = "default";
    publisher = "native";
    state_dir = "/var/lib/conveyor-worker";
    repositories_dir = "/srv/cvmfs";
    keys_dir = "/etc/cvmfs/keys";
    drain_timeout_s = 60;
  };
  broker.prefix = "conveyor";
  cvmfs_server.command = "cvmfs_server";
}
