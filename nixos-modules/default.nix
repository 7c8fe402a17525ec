# All of `services.conveyor`.
{
  imports = [
    ./client.nix
    ./server.nix
    ./notify.nix
    ./worker.nix
    ./rabbitmq.nix
    ./gateway.nix
  ];
}
