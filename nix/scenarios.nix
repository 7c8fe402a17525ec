# Every machine of every scenario of vm-tests/, as machine.nix has it: NAME.NODE.
let
  ofName =
    file:
    let
      found = builtins.match "(.*)\\.nix" file;
    in
    if found == null then null else builtins.head found;
  # `read` gives the scenario of a file.
  ofDirectory =
    directory: read:
    let
      entries = builtins.readDir directory;
      names = builtins.filter (name: name != null && entries ? "${name}.py") (
        map ofName (builtins.attrNames entries)
      );
    in
    builtins.listToAttrs (
      map (name: {
        inherit name;
        value =
          builtins.mapAttrs (_: node: import ./machine.nix { services = node.services or { }; })
            (read (directory + "/${name}.nix")).nodes;
      }) names
    );
in
ofDirectory ../vm-tests import
// ofDirectory ../vm-tests/with-cvmfs (file: import file { cvmfsPackage = "/usr"; })
