{
  lib,
  rustPlatform,
  stdenv,
  installShellFiles,
  coreutils,
}:
let
  cargo = lib.importTOML ../Cargo.toml;
in
rustPlatform.buildRustPackage {
  pname = cargo.package.name;
  inherit (cargo.package) version;

  src = lib.fileset.toSource {
    root = ../.;
    fileset = lib.fileset.unions (import ./sources.nix);
  };
  # Every dependency is of the registry, with its hash in there.
  cargoLock.lockFile = ../Cargo.lock;

  nativeBuildInputs = [ installShellFiles ];

  # The tests want mounts, FUSE, a broker and the whole tree: scripts/test.
  doCheck = false;

  postInstall = ''
    install -Dm644 -t $out/lib/systemd/system systemd/*.service systemd/*.socket
    substituteInPlace $out/lib/systemd/system/*.service \
      --replace-fail /usr/bin/conveyor $out/bin/conveyor \
      --replace-fail /bin/kill ${coreutils}/bin/kill
    install -Dm644 -t $out/lib/sysusers.d systemd/sysusers.d/*.conf
    install -Dm644 -t $out/lib/tmpfiles.d systemd/tmpfiles.d/*.conf
  ''
  + lib.optionalString (stdenv.buildPlatform.canExecute stdenv.hostPlatform) ''
    $out/bin/conveyor man pages
    installManPage pages/*.1
    installShellCompletion --cmd conveyor \
      --bash <($out/bin/conveyor completions bash) \
      --fish <($out/bin/conveyor completions fish) \
      --zsh <($out/bin/conveyor completions zsh)
  '';

  meta = {
    inherit (cargo.package) description;
    license = lib.licenses.asl20;
    platforms = lib.platforms.linux;
    mainProgram = "conveyor";
  };
}
