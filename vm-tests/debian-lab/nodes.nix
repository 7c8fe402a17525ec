# What each node of a scenario has: files, drop-ins, units that are started, as nix/machine.nix says.
{ scenario }:
let
  # What the lab does not know is refused, so that no scenario passes without what it asks for.
  only =
    what: names: value:
    let
      unknown = builtins.filter (name: !(builtins.elem name names)) (builtins.attrNames value);
    in
    if unknown == [ ] then
      value
    else
      throw "the Debian lab knows no ${what}.${builtins.head unknown}; it has ${toString names}";
  etc =
    name: files:
    builtins.mapAttrs (path: file: {
      inherit (only "nodes.${name}.environment.etc.${path}" [ "text" ] file) text;
      mode = "0644";
    }) files;
  prefixed =
    prefix: set:
    builtins.listToAttrs (
      map (name: {
        name = prefix + name;
        value = set.${name};
      }) (builtins.attrNames set)
    );
in
builtins.mapAttrs (
  name: given:
  let
    node = only "nodes.${name}" [ "services" "environment" ] given;
    environment = only "nodes.${name}.environment" [ "etc" ] (node.environment or { });
    machine = import ../../nix/machine.nix {
      services = only "nodes.${name}.services" [ "conveyor" ] (node.services or { });
    };
  in
  machine // { files = machine.files // prefixed "/etc/" (etc name (environment.etc or { })); }
) (only "scenario" [ "nodes" ] (import scenario)).nodes
