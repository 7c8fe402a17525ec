//! Something outside of Conveyor that scripts wait for.

use super::{Ledger, until};

/// A gate to hold scripts at, with a ledger that they sign.
pub(crate) struct Gate(Ledger);

impl Gate {
    pub(crate) fn new() -> Self {
        Self(Ledger::new())
    }

    /// Lines for a script: signs the ledger, then waits until the gate is open.
    pub(crate) fn script(&self) -> String {
        let (ledger, open) = (self.0.path(), self.0.beside("open"));
        let (ledger, open) = (ledger.display(), open.display());
        format!("echo $CONVEYOR_ATTEMPT >>{ledger}\nwhile [ ! -e {open} ]; do sleep 0.02; done")
    }

    pub(crate) fn open(&self) {
        std::fs::write(self.0.beside("open"), "").unwrap();
    }

    /// How often scripts have begun.
    pub(crate) fn runs(&self) -> usize {
        self.0.lines().len()
    }

    pub(crate) fn until_runs(&self, number: usize) {
        until("scripts at the gate", || (self.runs() >= number).then_some(()));
    }
}
