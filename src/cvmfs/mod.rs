//! The repository format of CernVM-FS, usable without the rest of Conveyor.
