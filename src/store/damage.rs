//! What is known to be wrong with the storage.
//!
//! Rows that cannot be read are passed over, so that they stand in nobody's way; each is told once, and counted.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use super::error::StoreError;

/// What was found since this process began.
#[derive(Debug, Default)]
pub(super) struct Damage {
    rows: Mutex<BTreeMap<String, String>>,
    /// Whether the last commit that wrote anything found no room, or a disk that failed.
    unwritable: AtomicBool,
}

impl Damage {
    /// Notes a row that cannot be read; any other error is given back.
    pub(super) fn pass_over(&self, error: StoreError) -> Result<(), StoreError> {
        let StoreError::Corrupt { what, why } = &error else { return Err(error) };
        let mut rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        if rows.insert(what.clone(), why.clone()).is_none() {
            tracing::error!("{what} is damaged and passed over: {why}; see: conveyor check-db");
        }
        Ok(())
    }

    /// How many rows.
    pub(super) fn count(&self) -> usize {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Notes how a commit ended that wrote something.
    pub(super) fn committed(&self, result: Result<(), &StoreError>) {
        let is_disk = matches!(result, Err(StoreError::Full { .. } | StoreError::Unwritable { .. }));
        if is_disk || result.is_ok() {
            self.unwritable.store(is_disk, Ordering::Relaxed);
        }
    }

    /// Whether the disk failed the last commit.
    pub(super) fn is_unwritable(&self) -> bool {
        self.unwritable.load(Ordering::Relaxed)
    }
}
