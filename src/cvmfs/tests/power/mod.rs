//! Power cuts: after each, the old or the new revision is there, whole, and the next publish on top of it is whole too.
//!
//! The disk is a model (`disk`). At each barrier that a publish passes the real directory is looked at; what was not
//! synced until then may have survived or not, each name and each file's bytes by themselves. That is more than every
//! moment between two barriers can leave, so no single operation needs to be seen: neither SQLite's nor those of other
//! threads escape, which a journal of our own calls would miss, and `syncfs`, which the kernel does not pass on to FUSE
//! servers, is a barrier like the others. What it cannot show is a wrong use of the system call itself.

mod disk;

use std::fs;
use std::path::Path;

use disk::{Cut, Disk, END, LeftOut, restore};

use super::support::{NAME, NOW, Sandbox, check, put};
use crate::cvmfs::catalog::Content;
use crate::cvmfs::edit::NewKind;
use crate::cvmfs::hash::ObjectKind;
use crate::cvmfs::manifest::Manifest;
use crate::cvmfs::reader::Expiry;
use crate::cvmfs::stratum0::{CreateOptions, Stratum0};

/// What a publish does; run once more on what survived.
type Work = fn(&Stratum0);

const fn nothing_left_out(_: &str) -> bool {
    false
}

fn at(top: &Path) -> Stratum0 {
    Stratum0::at(top.join("root").join(NAME), NAME, top.join("keys"))
}

fn publish(stratum0: &Stratum0, files: &[(String, String)]) -> Manifest {
    let mut draft = stratum0.begin(stratum0.lock().unwrap().unwrap(), NOW).unwrap();
    for (path, content) in files {
        put(&mut draft, path, content);
    }
    draft.commit(None, NOW, &|_| {}).unwrap()
}

fn files(names: std::ops::Range<usize>) -> Vec<(String, String)> {
    names.map(|n| (format!("d/f{n}"), format!("content {n} {}", "x".repeat(n)))).collect()
}

fn small(stratum0: &Stratum0) {
    publish(stratum0, &files(0..3));
}

fn unrelated(stratum0: &Stratum0) {
    publish(stratum0, &files(5..6));
}

/// More files than are synced one by one.
fn many(stratum0: &Stratum0) {
    publish(stratum0, &files(0..60));
}

/// The first thing wrong with what a cut left, unless it is as it must be.
fn wrong(cut: &Cut, allowed: &[u64], again: Work) -> Option<String> {
    // In memory where there is such a place: hundreds of directories, hundreds of times.
    let memory = Path::new("/dev/shm");
    let place = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
    let top = tempfile::tempdir_in(place).unwrap();
    restore(&cut.survivors, top.path());
    let stratum0 = at(top.path());
    let judge = || {
        if !stratum0.exists() {
            assert!(allowed.contains(&0), "the repository is gone");
            Stratum0::create(stratum0.directory(), NAME, top.path().join("keys"), &CreateOptions::default(), NOW)
                .unwrap();
        } else {
            let reader = stratum0.reader(Expiry::Refuse { now: NOW }).unwrap();
            assert!(allowed.contains(&reader.manifest().revision), "revision {}", reader.manifest().revision);
            // Finishes what was interrupted, as the next publish would.
            stratum0.repair(&stratum0.lock().unwrap().unwrap(), &reader).unwrap();
            check(&reader);
        }
        again(&stratum0);
        check(&stratum0.reader(Expiry::Refuse { now: NOW }).unwrap());
    };
    let judged = std::panic::catch_unwind(std::panic::AssertUnwindSafe(judge));
    judged.err().map(|_| cut.when.clone())
}

/// A publish that is cut everywhere.
struct Scene {
    /// Makes what is safe on the disk before.
    before: fn() -> Sandbox,
    /// Changes the disk as another tool does, without syncing it.
    unsynced: fn(&Sandbox),
    work: Work,
    /// What is done on top of what survived.
    next: Work,
}

const SMALL: Scene = Scene { before: sandbox, unsynced: |_| {}, work: small, next: small };
const MANY: Scene = Scene { before: sandbox, unsynced: |_| {}, work: many, next: many };
const FIRST: Scene = Scene { before: Sandbox::new, unsynced: |_| {}, work: small, next: small };
const CREATION: Scene = Scene { before: keys_only, unsynced: |_| {}, work: create, next: create };
/// An object of the right length and no bytes, which only another tool's publish can leave, is taken for whole: what comes
/// next does not rely on it.
const RELYING: Scene =
    Scene { before: sandbox, unsynced: |sandbox| foreign_object(sandbox, 0), work: small, next: unrelated };
const REPLACING: Scene = Scene { before: with_a_short_object, unsynced: |_| {}, work: small, next: small };
const REPAIRING: Scene = Scene { before: interrupted, unsynced: |_| {}, work: small, next: small };
const RESIGNING: Scene = Scene { before: sandbox, unsynced: |_| {}, work: resign, next: resign };

impl Scene {
    /// Gives the first thing that went wrong, with these syncs left out.
    fn play(&self, left_out: LeftOut) -> Option<String> {
        let sandbox = (self.before)();
        let revision = |sandbox: &Sandbox| match sandbox.stratum0.exists() {
            true => sandbox.reader().manifest().revision,
            false => 0,
        };
        let before = revision(&sandbox);
        let disk = Disk::watch(sandbox.directory.path(), left_out);
        (self.unsynced)(&sandbox);
        (self.work)(&sandbox.stratum0);
        let cuts = Disk::cuts(&disk);
        let after = revision(&sandbox);
        assert!(cuts.len() > 3, "only {} cuts", cuts.len());
        cuts.iter().find_map(|cut| {
            let over = cut.when.starts_with(END);
            wrong(cut, &[after, if over { after } else { before }], self.next)
        })
    }
}

/// A repository of two revisions.
fn sandbox() -> Sandbox {
    let sandbox = Sandbox::new();
    publish(&sandbox.stratum0, &files(1..2));
    sandbox
}

/// Keys, and no repository.
fn keys_only() -> Sandbox {
    let sandbox = Sandbox::new();
    fs::remove_dir_all(sandbox.root()).unwrap();
    sandbox
}

/// A repository whose last publish was killed between manifest and reflog.
fn interrupted() -> Sandbox {
    let sandbox = sandbox();
    let base = sandbox.stratum0.directory();
    let (reflog, next) = (base.join(".cvmfsreflog"), base.join(".cvmfsreflog.next"));
    let old = fs::read(&reflog).unwrap();
    publish(&sandbox.stratum0, &files(5..6));
    fs::rename(&reflog, &next).unwrap();
    fs::write(&reflog, old).unwrap();
    sandbox
}

fn with_a_short_object() -> Sandbox {
    let sandbox = sandbox();
    foreign_object(&sandbox, 1);
    sandbox
}

/// Stores, as another tool may, the object of a file that is published later, or what a cut left of it.
fn foreign_object(sandbox: &Sandbox, cut_short: usize) {
    let donor = Sandbox::new();
    let (path, content) = files(2..3).remove(0);
    let mut draft = donor.begin();
    let NewKind::File { content: Content::Whole(hash), .. } = draft.store(&mut content.as_bytes()).unwrap() else {
        panic!("it is in chunks");
    };
    let object = hash.object_path(ObjectKind::File);
    put(&mut draft, &path, &content);
    draft.commit(None, NOW, &|_| {}).unwrap();
    let bytes = fs::read(donor.stratum0.directory().join(&object)).unwrap();
    fs::write(sandbox.stratum0.directory().join(&object), &bytes[..bytes.len() - cut_short]).unwrap();
}

fn create(stratum0: &Stratum0) {
    if !stratum0.exists() {
        let keys = stratum0.directory().parent().unwrap().parent().unwrap().join("keys");
        Stratum0::create(stratum0.directory(), NAME, keys, &CreateOptions::default(), NOW).unwrap();
    }
}

fn resign(stratum0: &Stratum0) {
    stratum0.resign(60, NOW).unwrap();
}

#[test]
fn the_first_publish_survives() {
    assert_eq!(FIRST.play(nothing_left_out), None);
}

#[test]
fn a_small_change_survives() {
    assert_eq!(SMALL.play(nothing_left_out), None);
}

#[test]
fn a_change_of_many_objects_survives() {
    assert_eq!(MANY.play(nothing_left_out), None);
}

#[test]
fn the_making_of_a_repository_survives() {
    assert_eq!(CREATION.play(nothing_left_out), None);
}

#[test]
fn a_change_that_relies_on_unsynced_objects_survives() {
    assert_eq!(RELYING.play(nothing_left_out), None);
}

#[test]
fn a_change_that_replaces_a_short_object_survives() {
    assert_eq!(REPLACING.play(nothing_left_out), None);
}

#[test]
fn a_change_after_an_interrupted_one_survives() {
    assert_eq!(REPAIRING.play(nothing_left_out), None);
}

#[test]
fn a_new_whitelist_survives() {
    assert_eq!(RESIGNING.play(nothing_left_out), None);
}

fn is_object(path: &str) -> bool {
    path.contains("/data/") && !path.contains("/txn/") && path.rsplit('/').next().is_some_and(|name| name.len() > 30)
}

fn is_base(path: &str) -> bool {
    path.ends_with(NAME)
}

#[test]
fn a_barrier_that_is_left_out_is_noticed() {
    let left_out: [(&str, Scene, LeftOut); 10] = [
        ("bytes of new objects", SMALL, |path| path.contains("/data/txn/")),
        ("bytes of objects that were there", RELYING, is_object),
        ("names of objects", SMALL, |path| path.contains("/data/") && !path.contains("/txn/") && !is_object(path)),
        ("bytes of the manifest", SMALL, |path| path.ends_with(".cvmfspublished.next")),
        ("bytes of the reflog", SMALL, |path| path.ends_with(".cvmfsreflog.next")),
        ("names at the base", SMALL, is_base),
        ("everything", MANY, |path| path == "everything"),
        ("bytes of the whitelist", RESIGNING, |path| path.ends_with(".cvmfswhitelist.next")),
        ("the first manifest", CREATION, |path| path.ends_with(".cvmfspublished.next")),
        ("the directory of the repository", CREATION, |path| path == "root"),
    ];
    let missed: Vec<_> =
        left_out.iter().filter(|(_, scene, left_out)| scene.play(*left_out).is_none()).map(|(what, ..)| what).collect();
    assert!(missed.is_empty(), "not noticed: {missed:?}");
}
