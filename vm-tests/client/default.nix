# The independent client of CernVM-FS that the tests mount and read with: the crate `cvmfs`, as scripts/test has it.
{
  lib,
  rustPlatform,
  fetchurl,
}:
rustPlatform.buildRustPackage rec {
  pname = "cvmfs-cli";
  version = "0.4.2";
  src = fetchurl {
    name = "cvmfs-${version}.tar.gz";
    url = "https://static.crates.io/crates/cvmfs/cvmfs-${version}.crate";
    # As the registry's index has it.
    sha256 = "8b86b5662707c9374d17ac3a79ecc1126bc7462562ffabbecefb0171e5b60969";
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
