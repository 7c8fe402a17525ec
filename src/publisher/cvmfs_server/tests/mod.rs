//! Tests of the publisher that drives `cvmfs_server`, on overlays of their own.

mod inspect;

mod random;
mod union;
mod upper;
mod verify;

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::cvmfs::tests::support::scratch;
use crate::domain::tree::{Attributes, ChangedPath, EntryKind, EntryMeta, EntryPath};
use crate::publisher::cvmfs_server::union::{Ownership, Union};
use crate::publisher::cvmfs_server::upper::{Change, Layers, changes};
use crate::publisher::{Owner, PublisherError};

/// How long an overlay may be held up by others.
const PATIENCE: Duration = Duration::from_secs(30);

/// An overlay in a directory of its own.
struct Overlay {
    directory: tempfile::TempDir,
    layers: Layers,
    is_mounted: bool,
}

impl Overlay {
    fn new() -> Self {
        // An overlay in memory is one as well.
        let directory = scratch();
        let place = |name: &str| {
            let place = directory.path().join(name);
            fs::create_dir(&place).unwrap();
            place
        };
        let layers = Layers { merged: place("merged"), lower: place("lower"), upper: place("upper") };
        place("work");
        Self { directory, layers, is_mounted: false }
    }

    /// Mounts it, with what the lower layer was given; says why where this machine cannot.
    fn mount(&mut self) -> Option<String> {
        let Layers { merged, lower, upper } = &self.layers;
        let work = self.directory.path().join("work");
        let options = format!("lowerdir={},upperdir={},workdir={}", lower.display(), upper.display(), work.display());
        let done = Command::new("mount").args(["-t", "overlay", "overlay", "-o", &options]).arg(merged).output();
        match done {
            Ok(done) if done.status.success() => {
                self.is_mounted = true;
                None
            }
            Ok(done) => Some(format!("no overlay can be mounted: {}", String::from_utf8_lossy(&done.stderr).trim())),
            Err(error) => Some(format!("mount(8) cannot be run: {error}")),
        }
    }

    fn union(&self) -> Union {
        Union::open(&self.layers.merged, ownership(), owner()).unwrap()
    }

    fn changes(&self) -> Vec<Change> {
        let mut found = Vec::new();
        changes(&self.layers, &mut |change| {
            found.push(change);
            Ok(())
        })
        .unwrap();
        found
    }

    /// The changes as people see them; a directory whose time alone changed has a `t`.
    fn shown(&self) -> Vec<String> {
        let show = |change: &Change| match change.only_mtime {
            true => format!("t /{}", change.path),
            false => ChangedPath::from(change).to_string(),
        };
        self.changes().iter().map(show).collect()
    }
}

impl Drop for Overlay {
    fn drop(&mut self) {
        if self.is_mounted {
            let began = Instant::now();
            // A child that another test has forked holds this one's files until its exec.
            while !Command::new("umount").arg(&self.layers.merged).status().unwrap().success() {
                if began.elapsed() > PATIENCE {
                    assert!(std::thread::panicking(), "the overlay cannot be unmounted");
                    return;
                }
                std::thread::yield_now();
            }
        }
    }
}

/// Mounts an overlay whose lower layer is filled first, or says that this part of the test is skipped.
///
/// `CONVEYOR_TEST_REQUIRE` lists abilities whose absence is a failure, `CONVEYOR_TEST_SKIPPED` the file that is told.
fn overlay(fill: impl FnOnce(&Path)) -> Option<Overlay> {
    let mut overlay = Overlay::new();
    let why = if nix::unistd::geteuid().is_root() {
        fill(&overlay.layers.lower);
        overlay.mount()
    } else {
        Some("only root can mount an overlay".into())
    };
    let Some(why) = why else { return Some(overlay) };
    let test = std::thread::current().name().unwrap_or("unnamed").to_owned();
    let required = std::env::var("CONVEYOR_TEST_REQUIRE").unwrap_or_default();
    assert!(!required.split(',').any(|word| word.trim() == "overlay"), "overlay is required, and {why}");
    eprintln!("skipped: {why}");
    if let Some(path) = std::env::var_os("CONVEYOR_TEST_SKIPPED") {
        let mut file = fs::OpenOptions::new().append(true).create(true).open(path).unwrap();
        // One write, since tests run beside each other.
        file.write_all(format!("test {test}: {why}\n").as_bytes()).unwrap();
    }
    None
}

/// Who the tests run as.
fn owner() -> Owner {
    Owner { uid: nix::unistd::geteuid().as_raw(), gid: nix::unistd::getegid().as_raw() }
}

/// What root can, and others cannot.
fn ownership() -> Ownership {
    if nix::unistd::geteuid().is_root() { Ownership::Keep } else { Ownership::Owner }
}

fn path(text: &str) -> EntryPath {
    EntryPath::new(text.as_bytes()).unwrap()
}

fn meta(mode: u32) -> EntryMeta {
    let Owner { uid, gid } = owner();
    EntryMeta { mode, mtime: 1_600_000_000, uid, gid, attributes: Attributes::new() }
}

fn put(union: &mut Union, at: &str, kind: &EntryKind, content: &[u8]) -> Result<(), PublisherError> {
    let mode = if *kind == EntryKind::Directory { 0o755 } else { 0o644 };
    union.put(&path(at), &meta(mode), kind, &mut &content[..])
}

fn put_file(union: &mut Union, at: &str, content: &str) -> Result<(), PublisherError> {
    put(union, at, &EntryKind::File { size: content.len() as u64 }, content.as_bytes())
}

fn why(result: Result<impl Sized, PublisherError>) -> String {
    match result {
        Err(error @ PublisherError::Conflict { .. }) => error.to_string(),
        Err(error) => panic!("not a conflict: {error:?}"),
        Ok(_) => panic!("not refused"),
    }
}
