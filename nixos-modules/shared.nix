# What the modules beside this one share: they describe options, nix/ says what follows from them, and this puts it where NixOS wants it.
{
  config,
  lib,
  pkgs,
}:
let
  pure = import ../nix/lib.nix;
  toml = pkgs.formats.toml { };
  # The words of a unit's sections that NixOS has options for.
  ordering = {
    Description = "description";
    After = "after";
    Before = "before";
    Wants = "wants";
    Requires = "requires";
    PartOf = "partOf";
  };
  nonEmpty = lib.filterAttrs (_: value: value != [ ]);
  unitOptions =
    section:
    lib.mapAttrs' (name: lib.nameValuePair ordering.${name}) (
      lib.filterAttrs (name: _: ordering ? ${name}) (nonEmpty section)
    )
    // {
      unitConfig = lib.filterAttrs (name: _: !(ordering ? ${name})) section;
    };
  service =
    name: unit:
    let
      inherit (unit) sections;
    in
    unitOptions (sections.Unit or { })
    // {
      serviceConfig = removeAttrs (sections.Service or { }) [ "Environment" ];
      environment = lib.listToAttrs (
        map (
          line:
          let
            words = lib.splitString "=" line;
          in
          lib.nameValuePair (lib.head words) (lib.concatStringsSep "=" (lib.tail words))
        ) (sections.Service.Environment or [ ])
      );
      # NixOS looks at no [Install] section of a package's unit; its own units it starts itself.
      wantedBy =
        sections.Install.WantedBy or (lib.optional (lib.hasPrefix "conveyor-" name) "multi-user.target");
    };
  socket =
    _name: unit:
    unitOptions (unit.sections.Unit or { })
    // {
      socketConfig = unit.sections.Socket or { };
      wantedBy = [ "sockets.target" ];
    };
  ofKind =
    suffix: make: units:
    lib.mapAttrs' (name: unit: lib.nameValuePair (lib.removeSuffix suffix name) (make name unit)) (
      lib.filterAttrs (name: _: lib.hasSuffix suffix name) units
    );
in
{
  inherit toml;

  # `services` as the functions of nix/ want it: roles whose module is not imported are as if they were off.
  services = config.services // {
    conveyor = pure.merge (import ../nix/options.nix) config.services.conveyor;
  };

  package = lib.mkOption {
    type = lib.types.package;
    default = config.services.conveyor.package;
    defaultText = lib.literalExpression "config.services.conveyor.package";
    description = "The package that has `bin/conveyor` and its units, where it is another one for this role.";
  };

  settings =
    {
      what,
      options ? { },
    }:
    lib.mkOption {
      type = lib.types.submodule {
        freeformType = toml.type;
        inherit options;
      };
      default = { };
      description = ''
        ${what}

        Every key of docs/configuration.md can be set, and the program itself checks the file when it is built. It is in the Nix store,
        where everyone can read it, so that secrets are named as files by other options.
      '';
    };

  # Where clients of CernVM-FS subscribe.
  notifyStreams =
    default:
    lib.mkOption {
      type = lib.types.listOf lib.types.str;
      inherit default;
      example = [ "192.0.2.10:4930" ];
      description = ''
        Where subscribers connect: ports, addresses with ports, and absolute paths of Unix sockets. systemd holds them, so that
        clients, which give up after a few refused connections, wait while the service restarts.
      '';
    };

  # A secret of the machine. No `path`: that would copy a file of the configuration into the store.
  secretFile =
    {
      what,
      unit,
      id,
      example,
    }:
    lib.mkOption {
      type = lib.types.nullOr lib.types.str;
      default = null;
      inherit example;
      description = ''
        The file with ${what}, outside of the Nix store. systemd reads it as root and hands it to the service alone. Where this is
        not set, systemd looks for a credential `${unit}.${id}` in `/etc/credstore`, `/run/credstore` and the like.
      '';
    };

  # What one role of nix/ gives, as a configuration of NixOS. `checks` names the settings files that the program itself is to check, each with
  # the role as which and the package.
  configuration =
    {
      role,
      checks ? { },
    }:
    let
      written =
        path: settings:
        let
          file = toml.generate (baseNameOf path) settings;
          check = checks.${path};
        in
        if checks ? ${path} && pkgs.stdenv.buildPlatform.canExecute pkgs.stdenv.hostPlatform then
          pkgs.runCommand (baseNameOf path) { nativeBuildInputs = [ check.package ]; } ''
            if ! conveyor --config ${file} check-config --role ${check.role} --without-secrets >answer 2>&1; then
              cat answer >&2
              echo "this is of services.conveyor.${check.role}.settings" >&2
              exit 1
            fi
            cp ${file} $out
          ''
        else
          file;
      inEtc = lib.mapAttrs' (
        path: source: lib.nameValuePair (lib.removePrefix "/etc/" path) { inherit source; }
      );
      texts = lib.mapAttrs (path: file: pkgs.writeText (baseNameOf path) file.text) (
        lib.filterAttrs (path: _: lib.hasPrefix "/etc/" path) (role.files or { })
      );
    in
    {
      assertions = role.refusals or [ ];
      environment.etc = inEtc (lib.mapAttrs written (role.settings or { })) // inEtc texts;
      systemd.services = ofKind ".service" service (role.units or { });
      systemd.sockets = ofKind ".socket" socket (role.units or { });
      networking.firewall.allowedTCPPorts = role.openPorts or [ ];
    };
}
