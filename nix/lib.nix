# What the files beside this one share. Builtins only, so that it is evaluated where there is no nixpkgs.
let
  inherit (builtins)
    attrNames
    concatMap
    filter
    foldl'
    fromJSON
    isAttrs
    isString
    listToAttrs
    match
    stringLength
    substring
    ;
in
rec {
  optional = condition: value: if condition then [ value ] else [ ];

  startsWith = prefix: text: substring 0 (stringLength prefix) text == prefix;

  # `over` beats `under`; tables are joined, everything else is replaced.
  merge =
    under: over:
    if isAttrs under && isAttrs over then
      under
      // listToAttrs (
        map (name: {
          inherit name;
          value = if under ? ${name} then merge under.${name} over.${name} else over.${name};
        }) (attrNames over)
      )
    else
      over;

  # Drops what is null, and tables that have nothing else.
  withoutNulls =
    value:
    if isAttrs value then
      listToAttrs (
        concatMap (
          name:
          let
            inner = withoutNulls value.${name};
          in
          optional (inner != null && inner != { }) {
            inherit name;
            value = inner;
          }
        ) (attrNames value)
      )
    else
      value;

  # What several roles give, as one machine's.
  join =
    parts:
    let
      tables = foldl' merge { };
    in
    {
      settings = tables (map (part: part.settings or { }) parts);
      files = tables (map (part: part.files or { }) parts);
      units = tables (map (part: part.units or { }) parts);
      wanted = concatMap (part: part.wanted or [ ]) parts;
      openPorts = concatMap (part: part.openPorts or [ ]) parts;
      refusals = concatMap (part: part.refusals or [ ]) parts;
    };

  # The port of `PORT`, `ADDRESS:PORT` or `[ADDRESS]:PORT`; null where it is none.
  portOf =
    stream:
    let
      found = match "(.*:)?([0-9]{1,5})" stream;
      # A leading zero is no JSON; no port begins with one.
      digits = if found == null then null else match "([1-9][0-9]*)" (builtins.elemAt found 1);
      port = if digits == null then null else fromJSON (builtins.head digits);
    in
    if port != null && port < 65536 then port else null;

  isSocketPath = stream: match "[/@].*" stream != null;

  isLoopback = address: match "(127\\..*|localhost.*|\\[?::1]?.*)" address != null;

  # The streams that are addresses, and of these the ones that others can reach.
  addresses = streams: filter (stream: !(isSocketPath stream)) streams;
  outside = streams: filter (stream: !(isLoopback stream)) (addresses streams);

  # The ports that a firewall opens for them.
  openPorts =
    openFirewall: streams:
    if openFirewall then filter (port: port != null) (map portOf (outside streams)) else [ ];

  # What a service is asked at, by `option`.listenStreams and openFirewall.
  listening =
    option: example:
    { listenStreams, openFirewall, ... }:
    map (stream: {
      assertion = portOf stream != null;
      message = "${option}.listenStreams has ${builtins.toJSON stream}; write an address and a port from 1 to 65535, such as ${example}, or an absolute path";
    }) (addresses listenStreams)
    ++ [
      {
        assertion = listenStreams != [ ];
        message = "${option}.listenStreams is empty: nobody could connect; leave it away for ${example}";
      }
      {
        assertion = !openFirewall || outside listenStreams != [ ];
        message = "${option}.openFirewall has nothing to open: no address of ${option}.listenStreams can be reached from elsewhere";
      }
    ];

  inStore = path: startsWith builtins.storeDir path;

  # A secret is named by where it is on the machine: an absolute path, which is not in the store, since everyone may read that.
  secretFile = option: path: [
    {
      assertion = path == null || (isString path && startsWith "/" path);
      message = "${option} must be an absolute path of the machine, as a string; it is ${toString path}";
    }
    {
      assertion = !(isString path) || !(inStore path);
      message = "${option} is in the Nix store, where everyone can read it: ${builtins.toJSON path}. Put the secret on the machine itself and name that file";
    }
  ];

  # What no settings may hold, since they are in the store.
  secretSettings =
    option: settings:
    let
      tables = filter (name: isAttrs settings.${name}) (attrNames settings);
      keys = [
        "token_file"
        "password_file"
        "key_file"
      ];
      named = concatMap (
        table:
        map (key: {
          name = "${table}.${key}";
          value = settings.${table}.${key} or null;
        }) keys
      ) tables;
    in
    concatMap (file: secretFile "${option}.${file.name}" file.value) (
      filter (file: file.value != null) named
    )
    ++ [
      {
        assertion = (settings.client.token or null) == null;
        message = "${option}.client.token would be in the Nix store, where everyone can read it; name a file by token_file";
      }
    ];

  port = option: value: {
    assertion = builtins.isInt value && value > 0 && value < 65536;
    message = "${option} must be a port, 1 to 65535; it is ${builtins.toJSON value}";
  };

  # Lines of `LoadCredential=` in place of the unit's own, which look into /etc/credstore.
  credentials =
    unit: tokenFile: brokerPasswordFile:
    let
      from = id: file: "${id}:${if file == null then "${unit}.${id}" else file}";
    in
    [
      ""
      (from "token" tokenFile)
      (from "broker-password" brokerPasswordFile)
    ];

  # What `options` does not have, table for table; one that is empty there may hold anything.
  known =
    option: options: value:
    let
      unknown = filter (name: !(options ? ${name})) (attrNames value);
    in
    [
      {
        assertion = unknown == [ ];
        message = "${option} has no ${toString unknown}; it has ${toString (attrNames options)}";
      }
    ]
    ++ concatMap (
      name:
      if isAttrs (options.${name} or null) && options.${name} != { } && isAttrs value.${name} then
        known "${option}.${name}" options.${name} value.${name}
      else
        [ ]
    ) (attrNames value);

  # Ends with the messages of what does not hold.
  check =
    refusals: value:
    let
      broken = filter (refusal: !refusal.assertion) refusals;
    in
    if broken == [ ] then
      value
    else
      throw (builtins.concatStringsSep "\n" (map (refusal: refusal.message) broken));
}
