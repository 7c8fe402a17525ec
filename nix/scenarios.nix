# Every machine of every scenario of vm-tests/, as machine.nix has it: NAME.NODE.
let
  directory = ../vm-tests;
  entries = builtins.readDir directory;
  ofName =
    file:
    let
      found = builtins.match "(.*)\\.nix" file;
    in
    if found == null then null else builtins.head found;
  names = builtins.filter (name: name != null && entries ? "${name}.py") (
    map ofName (builtins.attrNames entries)
  );
in
builtins.listToAttrs (
  map (name: {
    inherit name;
    value =
      builtins.mapAttrs (_: node: import ./machine.nix { services = node.services or { }; })
        (import (directory + "/${name}.nix")).nodes;
  }) names
)
