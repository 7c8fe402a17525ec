//! The variables that matter, taken once.

use std::collections::BTreeMap;

/// Variables of the old program that do nothing any more, with what takes their place.
const UNUSED: [(&str, &str); 6] = [
    ("CONVEYOR_SHARED_KEY", "use CONVEYOR_TOKEN or CONVEYOR_TOKEN_FILE"),
    ("CONVEYOR_QUEUE_USER", "workers get their work over HTTP"),
    ("CONVEYOR_QUEUE_PASS", "workers get their work over HTTP"),
    ("CONVEYOR_DB_USER", "the server keeps its jobs below state_dir"),
    ("CONVEYOR_DB_PASS", "the server keeps its jobs below state_dir"),
    ("CONVEYOR_MOCK_WORKER", "try jobs out with: conveyor dev"),
];

/// A copy of the environment, so that nothing else has to be read from it.
#[derive(Clone, Default)]
pub struct Environment(BTreeMap<String, String>);

impl Environment {
    /// The process's own.
    pub fn of_process() -> Self {
        let ours = |name: &str| {
            let others = ["STATE_DIRECTORY", "CREDENTIALS_DIRECTORY", "JOURNAL_STREAM", "SSL_CERT_FILE"];
            name.starts_with("CONVEYOR_") || name.starts_with("CVMFS_NOTIFY_") || others.contains(&name)
        };
        let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        };
        Self(std::env::vars_os().filter_map(text).filter(|(name, _)| ours(name)).collect())
    }

    /// A variable that is set, and not to nothing.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !super::value::is_unset(value))
    }

    #[cfg(test)]
    pub(super) fn set(&mut self, name: &str, value: &str) {
        self.0.insert(name.into(), value.into());
    }

    /// Whether the output goes to systemd's journal, which has its own times.
    pub fn is_under_journal(&self) -> bool {
        self.get("JOURNAL_STREAM").is_some()
    }

    /// Variables that are set and do nothing.
    pub(super) fn unused(&self) -> Vec<String> {
        let set = |(name, instead): &(&str, &str)| self.get(name).map(|_| format!("{name} is not used: {instead}"));
        UNUSED.iter().filter_map(set).collect()
    }
}

impl<const N: usize> From<[(&str, &str); N]> for Environment {
    fn from(variables: [(&str, &str); N]) -> Self {
        Self(variables.into_iter().map(|(name, value)| (name.into(), value.into())).collect())
    }
}

impl std::fmt::Debug for Environment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The values may be secret.
        f.debug_set().entries(self.0.keys()).finish()
    }
}
