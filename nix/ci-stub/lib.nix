# The few functions that flake.nix and vm-tests/default.nix call, with the same meaning.
{
  inherit (builtins)
    attrNames
    filter
    pathExists
    ;
  genAttrs =
    names: make:
    builtins.listToAttrs (
      map (name: {
        inherit name;
        value = make name;
      }) names
    );
  hasSuffix =
    suffix: text: builtins.match ".*${builtins.replaceStrings [ "." ] [ "\\." ] suffix}" text != null;
  removeSuffix =
    suffix: text: builtins.substring 0 (builtins.stringLength text - builtins.stringLength suffix) text;
  mapAttrs = builtins.mapAttrs;
  optionalAttrs = condition: value: if condition then value else { };
  mergeAttrsList = builtins.foldl' (all: some: all // some) { };
}
