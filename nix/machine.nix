# A machine of vm-tests/NAME.nix as files and units, for where there is no NixOS:
#
#   nix-instantiate --eval --strict --json nix/machine.nix --arg services '{ conveyor.server.enable = true; }'
#
# gives `files` (text and mode of each path), `units` (sections of each; `dropin` where the unit itself is in systemd/ or the distribution's),
# `wanted` (what is started) and `openPorts`. NixOS's modules call the same functions.
{
  # What the machine has under `services`; what it does not say is as options.nix has it.
  services,
  # The distribution's unit of RabbitMQ.
  brokerUnit ? "rabbitmq-server.service",
}:
let
  lib = import ./lib.nix;
  options = import ./options.nix;
  said = services.conveyor or { };
  conveyor = lib.merge options said;
  filled.services = services // {
    inherit conveyor;
  };
  rabbitmq = import ./rabbitmq.nix (
    filled
    // {
      inherit brokerUnit;
      setup = "/usr/lib/conveyor/rabbitmq-setup.sh";
    }
  );
  machine = lib.join [
    (import ./client.nix filled)
    (import ./server.nix (filled // { inherit brokerUnit; }))
    (import ./notify.nix (filled // { inherit brokerUnit; }))
    (import ./worker.nix (filled // { inherit brokerUnit; }))
    rabbitmq
    (import ./gateway.nix filled)
  ];
  lines = builtins.concatStringsSep "" (
    map (key: "${key} = ${rabbitmq.configItems.${key}}\n") (builtins.attrNames rabbitmq.configItems)
  );
in
lib.check (lib.known "services.conveyor" options said) (
  lib.check machine.refusals {
    files =
      builtins.mapAttrs (_: settings: {
        # JSON, which the program reads as well where a file begins with a brace; NixOS writes TOML.
        text = builtins.toJSON settings;
        mode = "0644";
      }) machine.settings
      // machine.files
      // (
        if rabbitmq ? configItems then
          {
            "/etc/rabbitmq/rabbitmq.conf" = {
              text = lines;
              mode = "0644";
            };
            "/usr/lib/conveyor/rabbitmq-setup.sh" = {
              text = builtins.readFile ./rabbitmq-setup.sh;
              mode = "0755";
            };
          }
        else
          { }
      );
    inherit (machine) units wanted openPorts;
  }
)
