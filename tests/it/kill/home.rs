//! What outlives the processes: state, repositories and keys of one development server.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use conveyor::cvmfs::reader::{Expiry, Reader};
use conveyor::cvmfs::stratum0::Stratum0;
use conveyor::domain::token::Token;

/// Two repositories, so that batches run beside each other.
pub(super) const REPOSITORIES: [&str; 2] = ["one.example.org", "two.example.org"];

/// A directory that scripts of another account can pass through, removed in the end.
pub(super) struct Home {
    directory: tempfile::TempDir,
}

impl Home {
    pub(super) fn new() -> Self {
        let mode = std::fs::Permissions::from_mode(0o711);
        let directory = tempfile::Builder::new().prefix("conveyor-kill-").permissions(mode).tempdir().unwrap();
        let home = Self { directory };
        std::fs::create_dir(home.temporary()).unwrap();
        std::fs::set_permissions(home.temporary(), std::fs::Permissions::from_mode(0o711)).unwrap();
        home
    }

    /// The same, with a copy of what another home's processes left behind.
    pub(super) fn copy_of(other: &Self) -> Self {
        let home = Self::new();
        copy(&other.state(), &home.state());
        home
    }

    pub(super) fn state(&self) -> PathBuf {
        self.directory.path().join("state")
    }

    /// Where the processes put what is temporary.
    pub(super) fn temporary(&self) -> PathBuf {
        self.directory.path().join("tmp")
    }

    /// What the processes said, one life after the other.
    pub(super) fn log(&self) -> PathBuf {
        self.directory.path().join("log")
    }

    /// The end of that, for a failed test's message.
    pub(super) fn log_end(&self) -> String {
        let log = std::fs::read(self.log()).unwrap_or_default();
        String::from_utf8_lossy(&log[log.len().saturating_sub(4000)..]).into_owned()
    }

    pub(super) fn token(&self) -> Token {
        Token::new(&std::fs::read_to_string(self.state().join("token")).unwrap()).unwrap()
    }

    pub(super) fn repositories(&self) -> PathBuf {
        self.state().join("repositories")
    }

    pub(super) fn reader(&self, repository: &str) -> Result<Reader, conveyor::cvmfs::Error> {
        reader(&self.state(), repository)
    }
}

/// Opens a repository as a client does: every signature verified, nothing repaired. `state` has `repositories` and `keys`.
pub(super) fn reader(state: &Path, repository: &str) -> Result<Reader, conveyor::cvmfs::Error> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let directory = state.join("repositories").join(repository);
    let stratum0 = Stratum0::at(directory, repository, state.join("keys"));
    stratum0.reader(Expiry::Refuse { now: now.try_into().unwrap() })
}

fn copy(from: &Path, to: &Path) {
    for entry in walkdir::WalkDir::new(from) {
        let entry = entry.unwrap();
        let target = to.join(entry.path().strip_prefix(from).unwrap());
        if entry.file_type().is_dir() {
            std::fs::create_dir(&target).unwrap();
            std::fs::set_permissions(&target, entry.metadata().unwrap().permissions()).unwrap();
        } else if entry.file_type().is_file() {
            // A socket is made anew by whoever listens there.
            std::fs::copy(entry.path(), &target).unwrap();
        }
    }
}
