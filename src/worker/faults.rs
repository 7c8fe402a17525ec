//! What is wrong with this machine, as far as the worker knows: shown until it is over.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// Faults by what they are about, so that one is said once and taken back when it is over.
#[derive(Debug, Default)]
pub(super) struct Faults(Mutex<BTreeMap<String, String>>);

impl Faults {
    /// Notes how it stands with `about`; `true` where that is new, and worth a line in the log.
    pub(super) fn note(&self, about: String, fault: Option<String>) -> bool {
        let mut faults = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match fault {
            Some(fault) => faults.insert(about, fault.clone()) != Some(fault),
            None => faults.remove(&about).is_some(),
        }
    }

    /// All of them, a line each.
    pub(super) fn all(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_new_once_and_over_once() {
        let faults = Faults::default();
        let fault = || Some("x".to_owned());
        assert!(faults.note("a".into(), fault()));
        assert!(!faults.note("a".into(), fault()));
        assert!(faults.note("b".into(), fault()));
        assert_eq!(faults.all().len(), 2);
        assert!(faults.note("a".into(), None));
        assert!(!faults.note("a".into(), None));
        assert_eq!(faults.all(), ["x"]);
    }
}
