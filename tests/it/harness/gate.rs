//! Something outside of Conveyor that scripts wait for and write to.

use std::path::{Path, PathBuf};

use super::until;

/// A directory that every account can write to: a gate to hold scripts at, and a ledger that they sign.
pub(crate) struct Gate(PathBuf);

impl Gate {
    pub(crate) fn new(base: &Path) -> Self {
        use std::os::unix::fs::PermissionsExt;
        let directory = base.join("gate");
        std::fs::create_dir(&directory).unwrap();
        std::fs::set_permissions(&directory, std::fs::Permissions::from_mode(0o777)).unwrap();
        Self(directory)
    }

    /// Lines for a script: signs the ledger, then waits until the gate is open.
    pub(crate) fn script(&self) -> String {
        let folder = self.0.display();
        format!("echo $CONVEYOR_ATTEMPT >>{folder}/ledger\nwhile [ ! -e {folder}/open ]; do sleep 0.02; done")
    }

    pub(crate) fn open(&self) {
        std::fs::write(self.0.join("open"), "").unwrap();
    }

    /// How often scripts have begun.
    pub(crate) fn runs(&self) -> usize {
        std::fs::read_to_string(self.0.join("ledger")).unwrap_or_default().lines().count()
    }

    pub(crate) fn until_runs(&self, number: usize) {
        until("scripts at the gate", || (self.runs() >= number).then_some(()));
    }
}
