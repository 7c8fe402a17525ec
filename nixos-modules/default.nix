# All of `services.conveyor`.
{
  imports = [
    ./client.nix
    ./server.nix
    ./worker.nix
    ./rabbitmq.nix
    ./gateway.nix
  ];
}
