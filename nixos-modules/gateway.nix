{
  config,
  lib,
  pkgs,
  ...
}:
let
  shared = import ./shared.nix { inherit config lib pkgs; };
  cfg = config.services.conveyor.gateway;
  defaults = (import ../nix/options.nix).gateway;
  role = import ../nix/gateway.nix { inherit (shared) services; };
  json = pkgs.formats.json { };
in
{
  options.services.conveyor.gateway = {
    enable = lib.mkEnableOption "a CernVM-FS gateway: it leases paths of this machine's repositories to publishers and commits what they send";

    package = lib.mkOption {
      type = lib.types.nullOr lib.types.package;
      default = defaults.package;
      description = "A package with `bin/cvmfs_gateway` and `bin/cvmfs_receiver`. nixpkgs has none.";
    };
    port = lib.mkOption {
      type = lib.types.port;
      default = defaults.port;
      description = "Where publishers ask it.";
    };
    openFirewall = lib.mkOption {
      type = lib.types.bool;
      default = defaults.openFirewall;
      description = "Whether the firewall lets others ask it.";
    };
    settings = lib.mkOption {
      inherit (json) type;
      default = defaults.settings;
      example = {
        max_lease_time = 3600;
      };
      description = "What `user.json` has besides the port, the receiver and the directory for leases.";
    };
    repositories = lib.mkOption {
      default = defaults.repositories;
      example = {
        "software.example.org".keys = [
          {
            id = "publisher";
            path = "/";
          }
        ];
      };
      description = "The repositories, each with the keys that open it: `repos` of `repo.json`.";
      type = lib.types.attrsOf (
        lib.types.submodule {
          options.keys = lib.mkOption {
            type = lib.types.listOf json.type;
            default = [ ];
            description = "Keys by `id`, each with the `path` below which it gives leases; `admin` for those that administer.";
          };
        }
      );
    };
    keyFiles = lib.mkOption {
      type = lib.types.attrsOf lib.types.str;
      default = defaults.keyFiles;
      example = {
        publisher = "/run/secrets/publisher.gw";
      };
      description = ''
        For the id of each key the file with its line `plain_text ID SECRET`, outside of the Nix store. systemd reads it as root and
        hands it to the gateway alone.
      '';
    };
  };

  config = lib.mkIf cfg.enable (
    lib.mkMerge [
      (shared.configuration { inherit role; })
      {
        systemd.services.cvmfs-gateway.restartTriggers = map (name: config.environment.etc.${name}.source) [
          "cvmfs/gateway/user.json"
          "cvmfs/gateway/repo.json"
        ];
      }
    ]
  );
}
