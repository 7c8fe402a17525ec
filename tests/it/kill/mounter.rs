//! A repository as an independent client shows it, while Conveyor is dead.

use super::home::Home;
use crate::harness::{Mount, Served, missing};

/// Proof that this machine can mount.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mounter(());

impl Mounter {
    /// Looks for what mounting needs, or reports that this part of the test is skipped.
    pub(super) fn find() -> Option<Self> {
        (!missing("fuse", Mount::impossible())).then_some(Self(()))
    }

    /// Mounts a repository out of its directory, without Conveyor, and reads one file through the mount.
    pub(super) async fn check(self, home: &Home, repository: &str, file: &str) -> Result<(), String> {
        let (directory, name, file) = (home.repositories(), repository.to_owned(), file.to_owned());
        let looked = tokio::task::spawn_blocking(move || {
            let served = Served::new(&directory);
            let mount = Mount::new(served.url(), &name);
            let content = std::fs::read(mount.path().join(&file)).map_err(|error| format!("{file}: {error}"))?;
            if content.is_empty() { Err(format!("{file} is empty")) } else { Ok(()) }
        })
        .await;
        let result = looked.unwrap_or_else(|panic| Err(panic.to_string()));
        result.map_err(|error| format!("{repository} cannot be used by the independent client: {error}"))
    }
}
