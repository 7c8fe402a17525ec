# What the program is built from; documents and Nix files that change do not build it anew. `scripts/check-nix` compiles just these.
[
  ../Cargo.toml
  ../Cargo.lock
  ../askama.toml
  ../src
  ../benches
  ../tests/bin
  ../systemd
  # In the program, for `conveyor dev --demo`.
  ../ARCHITECTURE.md
  ../CHANGELOG.md
]
