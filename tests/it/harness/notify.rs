//! A service manager's ear: the socket that `NOTIFY_SOCKET` names.

use std::cell::RefCell;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use super::Place;
use super::wait::PATIENCE;

/// Hears what daemons tell their service manager.
pub(crate) struct Ear {
    socket: UnixDatagram,
    path: PathBuf,
    /// The status that was told last.
    status: RefCell<String>,
    _base: Place,
}

/// One datagram: its lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Told(Vec<String>);

impl Told {
    pub(crate) fn says(&self, line: &str) -> bool {
        self.0.iter().any(|said| said == line)
    }

    /// What stands behind the name.
    pub(crate) fn value(&self, name: &str) -> Option<&str> {
        self.0.iter().find_map(|line| line.strip_prefix(name)?.strip_prefix('='))
    }

    pub(crate) fn status(&self) -> Option<&str> {
        self.value("STATUS")
    }
}

impl Ear {
    pub(crate) fn new() -> Self {
        let base = Place::new();
        let path = base.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        Self { socket, path, status: RefCell::default(), _base: base }
    }

    /// Lets a command find it.
    pub(crate) fn hears<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command.env("NOTIFY_SOCKET", &self.path)
    }

    /// Puts so much into it that nothing else fits until it is read.
    pub(crate) fn fill(&self) {
        let mouth = UnixDatagram::unbound().unwrap();
        mouth.set_nonblocking(true).unwrap();
        while mouth.send_to(b"STATUS=of the test", &self.path).is_ok() {}
    }

    /// The next datagram.
    #[track_caller]
    pub(crate) fn next(&self) -> Told {
        self.within(PATIENCE).unwrap_or_else(|| panic!("nothing was told within {PATIENCE:?}"))
    }

    /// The next datagram, if it comes in time.
    pub(crate) fn within(&self, time: Duration) -> Option<Told> {
        self.socket.set_read_timeout(Some(time.max(Duration::from_millis(1)))).unwrap();
        let mut buffer = [0; 4096];
        let read = self.socket.recv(&mut buffer).ok()?;
        let told = Told(String::from_utf8_lossy(&buffer[..read]).lines().map(str::to_owned).collect());
        if let Some(status) = told.status() {
            self.status.replace(status.to_owned());
        }
        Some(told)
    }

    /// All that is told up to what is looked for, which comes last.
    #[track_caller]
    pub(crate) fn until(&self, what: &str, is: impl Fn(&Told) -> bool) -> Vec<Told> {
        let (deadline, mut told) = (Instant::now() + PATIENCE, Vec::new());
        loop {
            match self.within(deadline.saturating_duration_since(Instant::now())) {
                Some(next) => told.push(next),
                None => panic!("{what}: not within {PATIENCE:?}, only {told:?}"),
            }
            if told.last().is_some_and(&is) {
                return told;
            }
        }
    }

    /// Waits until the status has this in it, and gives all of it.
    #[track_caller]
    pub(crate) fn until_status(&self, part: &str) -> String {
        if !self.status.borrow().contains(part) {
            self.until(part, |told| told.status().is_some_and(|status| status.contains(part)));
        }
        self.status.borrow().clone()
    }
}
