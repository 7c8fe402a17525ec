# The independent client of CernVM-FS that the tests mount and read with: the crate `cvmfs`, as scripts/test has it.
{
  lib,
  rustPlatform,
  fetchCrate,
}:
rustPlatform.buildRustPackage rec {
  pname = "cvmfs-cli";
  version = "0.4.2";
  src = fetchCrate {
    pname = "cvmfs";
    inherit version;
    # Of the archive's content, whose own SHA-256 is the one that the registry's index has.
    hash = "sha256-DKsenbnnXFCeb6zhgX8HMs63W3Pqy9izagwgr6Mayzg=";
  };
  # A copy of the crate's own.
  cargoLock.lockFile = ./Cargo.lock;
  # They read repositories over the internet.
  doCheck = false;
  meta = {
    description = "CernVM-FS client, independent of CernVM-FS's own";
    license = lib.licenses.bsd3;
    platforms = lib.platforms.linux;
    mainProgram = "cvmfs-cli";
  };
}
