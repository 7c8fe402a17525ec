//! Input that means harm: each is refused clearly or ends in a failed job, nothing appears anywhere else, and the server goes
//! on as if nothing had been.

mod archives;
mod bodies;
mod disk;
mod downloads;
mod requests;
mod scripts;
mod specs;

use std::collections::BTreeMap;
use std::ops::Deref;
use std::path::{Path, PathBuf};

use crate::harness::{Answer, Dev, Http, REPOSITORY, job, until};

/// A development server under attack, with bait beside its state.
struct Target {
    dev: Dev,
    http: Http,
    bait: BTreeMap<PathBuf, Vec<u8>>,
    publishes: usize,
}

impl Deref for Target {
    type Target = Dev;
    fn deref(&self) -> &Dev {
        &self.dev
    }
}

impl Target {
    fn start() -> Self {
        let dev = Dev::start();
        let folder = dev.base().join("bait");
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join("canary"), "alive").unwrap();
        let open = <std::fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o777);
        std::fs::set_permissions(&folder, open).unwrap();
        let http = Http::new(dev.url(), dev.token());
        let publishes = dev.publishes();
        Self { bait: outside(&dev), dev, http, publishes }
    }

    /// Whether this host has the means to isolate scripts.
    fn isolates(&self) -> bool {
        // The worker says so before it says that it has started; that the server is ready is told elsewhere.
        let said = until("the worker started", || Some(self.dev.said()).filter(|said| said.contains("worker started")));
        !said.contains("cannot isolate scripts")
    }

    /// Checks that nothing came of it all and that a good job is still published.
    #[track_caller]
    fn stays_unharmed(self) {
        assert_eq!(self.http.get("/healthz").status, 200);
        assert_eq!(self.http.get("/readyz").status, 200);
        assert_eq!(self.dev.publishes(), self.publishes, "something hostile was published");
        let good = self.dev.script("echo good >good/file");
        self.dev.publish(job(REPOSITORY, "/good", good));
        assert_eq!(self.dev.published("good/file").unwrap(), b"good\n");
        assert_eq!(outside(&self.dev), self.bait, "something appeared outside of the state directory");
    }
}

/// Everything in the test's directory but what the program keeps there.
fn outside(dev: &Dev) -> BTreeMap<PathBuf, Vec<u8>> {
    let is_ours = |path: &Path| path.starts_with(dev.base().join("bait"));
    let known = |path: &Path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        path == dev.state() || name.starts_with("conveyor-dev-") || name.starts_with(".tmp")
    };
    let mut walk = walkdir::WalkDir::new(dev.base()).min_depth(1).into_iter();
    let mut found = BTreeMap::new();
    while let Some(entry) = walk.next() {
        // Temporary files may go while they are looked at.
        let Ok(entry) = entry else { continue };
        if !is_ours(entry.path()) && known(entry.path()) {
            if entry.file_type().is_dir() {
                walk.skip_current_dir();
            }
        } else {
            found.insert(entry.path().to_owned(), std::fs::read(entry.path()).unwrap_or_default());
        }
    }
    found
}

/// Checks an answer's status and its error's word.
#[track_caller]
fn refused(case: &str, answer: &Answer, status: u16, code: &str) {
    let text = String::from_utf8_lossy(&answer.body);
    assert_eq!(answer.status, status, "{case}: {text}");
    assert_eq!(answer.code(), code, "{case}: {text}");
}
