# docs/nixos-options.md, from the modules themselves. `NIXPKGS=/path scripts/check-nix` compares it and leaves a new one in target/nix/.
{ nixpkgs }:
let
  lib = import (nixpkgs + "/lib");
  pkgs = import nixpkgs { system = "x86_64-linux"; };
  evaluated = lib.evalModules {
    modules = [
      ../nixos-modules
      # What they set of NixOS is not declared here.
      { _module.check = false; }
    ];
    specialArgs = { inherit pkgs; };
  };
  options = lib.filter (option: option.visible && !option.internal) (
    lib.optionAttrSetToDocList evaluated.options
  );
  plain = lib.replaceStrings [ "{option}`" ] [ "`" ];
  value =
    what: rendered:
    lib.optionalString (rendered != null) (
      let
        text = lib.removeSuffix "\n" rendered.text;
      in
      if lib.hasInfix "\n" text then "${what}:\n\n```nix\n${text}\n```\n\n" else "${what}: `${text}`\n\n"
    );
  entry = option: ''
    ## `${option.name}`

    ${lib.trim (plain option.description)}

    Type: ${option.type}

    ${value "Default" (option.default or null)}${value "Example" (option.example or null)}'';
in
''
  # Options of NixOS

  Made by `nix/options-page.nix` from `nixos-modules/`; [install.md](install.md) says how they are used, and
  [configuration.md](configuration.md) what `settings` may have.

''
+ lib.concatMapStrings entry (
  lib.filter (option: lib.hasPrefix "services.conveyor" option.name) options
)
