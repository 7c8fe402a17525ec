//! Garbage collection: what is kept, what goes, and what a kill in between leaves.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use super::support::{NAME, NOW, Sandbox, age, copy_tree, golden, put};
use crate::cvmfs::Error;
use crate::cvmfs::hash::ObjectKind;
use crate::cvmfs::history::{TRUNK, TRUNK_PREVIOUS};
use crate::cvmfs::reader::{Expiry, Reader};
use crate::cvmfs::stratum0::{GcOptions, GcReport, Keep, Stratum0};

const DAY: i64 = 86_400;
const FORCE: GcOptions = GcOptions { keep: Keep::Revisions(0), dry_run: false, force: true };

fn collect(stratum0: &Stratum0, options: GcOptions, now: i64) -> Result<(GcReport, BTreeSet<String>), Error> {
    age(stratum0.directory());
    let mut paths = BTreeSet::new();
    let lock = stratum0.lock().unwrap().unwrap();
    let report =
        stratum0.collect_garbage(lock, options, now, &mut |path, _| paths.extend([path.to_owned()]), &|_| {})?;
    assert_eq!(report.removed_objects(), paths.len() as u64);
    Ok((report, paths))
}

fn objects(base: &Path) -> BTreeSet<String> {
    let files = walkdir::WalkDir::new(base.join("data")).into_iter().map(Result::unwrap);
    let files = files.filter(|entry| entry.file_type().is_file());
    files.map(|entry| entry.path().strip_prefix(base).unwrap().to_str().unwrap().to_owned()).collect()
}

/// What a revision leads to, found the slow way.
fn reachable(reader: &Reader, root: &crate::cvmfs::hash::ContentHash) -> BTreeSet<String> {
    let mut paths = BTreeSet::from([root.object_path(ObjectKind::Catalog)]);
    let catalog = reader.catalog(root).unwrap();
    for nested in catalog.nested().unwrap() {
        paths.append(&mut reachable(reader, &nested.hash));
    }
    let mut visit = |hash: crate::cvmfs::hash::ContentHash, kind| {
        paths.insert(hash.object_path(kind));
        Ok(())
    };
    catalog.objects(&mut visit).unwrap();
    paths
}

fn without_tags(sandbox: &Sandbox, names: &[&str]) {
    sandbox.stratum0.remove_tags(sandbox.stratum0.lock().unwrap().unwrap(), names, NOW).unwrap();
}

#[test]
fn what_nothing_kept_leads_to_goes_and_all_else_stays() {
    let sandbox = Sandbox::new();
    sandbox.publish("a", "only in two", "two");
    sandbox.publish("a", "only in three", "three");
    sandbox.publish("a", "only in four", "four");
    sandbox.publish("a", "only in five", "five");
    without_tags(&sandbox, &["two", "four", "five"]);
    let base = sandbox.stratum0.directory().to_owned();
    let (report, gone) = collect(&sandbox.stratum0, FORCE, NOW + DAY).unwrap();
    // Kept: five, four (trunk-previous, and the first out of bounds), three (a tag).
    assert_eq!(report.kept_revisions, 3);
    assert_eq!(report.removed[&ObjectKind::Catalog], 2);
    assert_eq!(report.removed[&ObjectKind::File], 1);
    let reader = sandbox.reader();
    let mut expected = BTreeSet::new();
    for tag in reader.tags().unwrap() {
        assert!([TRUNK, TRUNK_PREVIOUS, "three"].contains(&tag.name.as_str()));
        expected.append(&mut reachable(&reader, &tag.root_hash));
    }
    let left = objects(&base);
    assert!(expected.is_subset(&left) && gone.is_disjoint(&left));
    let of_files = |paths: &BTreeSet<String>| paths.iter().filter(|path| path.len() == 43).count();
    assert_eq!(of_files(&left), of_files(&expected));
    sandbox.check();
    let (report, gone) = collect(&sandbox.stratum0, FORCE, NOW + DAY).unwrap();
    assert_eq!((report.removed_objects(), gone.len()), (0, 0), "nothing is left to collect");
    sandbox.publish("b", "after", "six");
    sandbox.check();
}

#[test]
fn a_dry_run_names_what_goes_and_changes_nothing() {
    let sandbox = Sandbox::new();
    sandbox.publish("a", "1", "two");
    sandbox.publish("a", "2", "three");
    sandbox.publish("a", "3", "four");
    without_tags(&sandbox, &["two", "three", "four"]);
    let (before, manifest) = (objects(sandbox.stratum0.directory()), sandbox.reader().manifest_bytes().to_vec());
    let dry = collect(&sandbox.stratum0, GcOptions { dry_run: true, ..FORCE }, NOW + DAY).unwrap();
    assert_eq!(
        (objects(sandbox.stratum0.directory()), sandbox.reader().manifest_bytes()),
        (before.clone(), &manifest[..])
    );
    let wet = collect(&sandbox.stratum0, FORCE, NOW + DAY).unwrap();
    assert_eq!(dry, wet);
    assert!(!wet.1.is_empty() && wet.1.is_subset(&before));
}

#[test]
fn revisions_are_kept_by_number_and_by_time() {
    for (keep, kept) in [
        (Keep::Revisions(0), 2),
        (Keep::Revisions(2), 3),
        (Keep::Revisions(100), 6),
        (Keep::Since(NOW + 4 * DAY), 3),
        (Keep::Since(NOW + 100 * DAY), 2),
        (Keep::Since(0), 6),
        (Keep::Default, 5),
    ] {
        let sandbox = Sandbox::new();
        for day in 1..=5 {
            let mut draft = sandbox.stratum0.begin(sandbox.stratum0.lock().unwrap().unwrap(), NOW + day * DAY).unwrap();
            put(&mut draft, "a", &day.to_string());
            draft.commit(None, NOW + day * DAY, &|_| {}).unwrap();
        }
        let (report, _) = collect(&sandbox.stratum0, GcOptions { keep, ..FORCE }, NOW + 5 * DAY).unwrap();
        assert_eq!(report.kept_revisions, kept, "{keep:?}");
        sandbox.check();
    }
}

#[test]
fn orphans_of_killed_publishes_go_and_strangers_stay() {
    let sandbox = Sandbox::new();
    sandbox.publish("a", "1", "two");
    let data = sandbox.stratum0.directory().join("data");
    let orphan = crate::cvmfs::hash::Algorithm::Sha1.hash(b"an orphan").object_path(ObjectKind::Catalog);
    let place = sandbox.stratum0.directory().join(&orphan);
    fs::write(&place, b"an orphan").unwrap();
    fs::write(data.join("ab/readme.txt"), b"no object").unwrap();
    fs::write(data.join("txn/upload.1"), b"another's").unwrap();
    let (_, gone) = collect(&sandbox.stratum0, FORCE, NOW + DAY).unwrap();
    assert!(gone.contains(&orphan) && !place.exists(), "{gone:?}");
    assert!(data.join("ab/readme.txt").exists() && data.join("txn/upload.1").exists());

    // Younger than the collection: somebody whom the lock does not bind has just brought it.
    age(sandbox.stratum0.directory());
    fs::write(&place, b"an orphan").unwrap();
    let later = SystemTime::UNIX_EPOCH + Duration::from_secs((NOW + 2 * DAY).cast_unsigned());
    fs::File::options().write(true).open(&place).unwrap().set_modified(later).unwrap();
    let lock = sandbox.stratum0.lock().unwrap().unwrap();
    sandbox.stratum0.collect_garbage(lock, FORCE, NOW + DAY, &mut |_, _| {}, &|_| {}).unwrap();
    assert!(place.exists());
}

#[test]
fn collecting_needs_leave_and_a_whole_present_revision() {
    let sandbox = Sandbox::new();
    sandbox.publish("a", "1", "two");
    let options = GcOptions { force: false, ..FORCE };
    let error = collect(&sandbox.stratum0, options, NOW + DAY).unwrap_err();
    assert!(error.to_string().contains("CVMFS_GARBAGE_COLLECTION"), "{error}");
    let root = sandbox.reader().manifest().root_hash.object_path(ObjectKind::Catalog);
    fs::remove_file(sandbox.stratum0.directory().join(&root)).unwrap();
    let before = objects(sandbox.stratum0.directory());
    assert!(matches!(collect(&sandbox.stratum0, FORCE, NOW + DAY), Err(Error::Missing(_))));
    assert_eq!(objects(sandbox.stratum0.directory()), before);
}

#[test]
fn a_kill_at_any_step_loses_nothing_that_is_kept_and_the_next_collection_finishes() {
    let sandbox = Sandbox::new();
    for (content, tag) in [("1", "two"), ("2", "three"), ("3", "four"), ("4", "five")] {
        sandbox.publish("a", content, tag);
    }
    without_tags(&sandbox, &["two", "three", "five"]);
    age(sandbox.stratum0.directory());
    let states = RefCell::new(Vec::new());
    let passing = |step: &str| {
        if states.borrow().iter().any(|(seen, _)| seen == step) {
            return;
        }
        let state = tempfile::tempdir().unwrap();
        copy_tree(sandbox.directory.path(), state.path());
        states.borrow_mut().push((step.to_owned(), state));
    };
    let lock = sandbox.stratum0.lock().unwrap().unwrap();
    sandbox.stratum0.collect_garbage(lock, FORCE, NOW + DAY, &mut |_, _| {}, &passing).unwrap();
    let finished = Cell::new(objects(sandbox.stratum0.directory()).len());
    let mut steps = BTreeSet::new();
    for (step, state) in states.into_inner() {
        let stratum0 = Stratum0::at(state.path().join("root").join(NAME), NAME, state.path().join("keys"));
        let (report, _) = collect(&stratum0, FORCE, NOW + 2 * DAY).unwrap();
        assert_eq!(report.missing, Vec::<String>::new(), "{step}");
        let reader = stratum0.reader(Expiry::Ignore).unwrap();
        super::support::check(&reader);
        for tag in reader.tags().unwrap() {
            assert!(reachable(&reader, &tag.root_hash).is_subset(&objects(stratum0.directory())), "{step}");
        }
        assert_eq!(objects(stratum0.directory()).len(), finished.get(), "{step}");
        steps.insert(step);
    }
    for step in ["gc-marked", "before-flip", "flipped", "gc-committed", "gc-removed"] {
        assert!(steps.contains(step), "{steps:?}");
    }
}

#[test]
fn a_repository_of_the_real_tools_keeps_all_that_its_tags_name() {
    let (_directory, base, keys) = golden("sample.example.org");
    let stratum0 = Stratum0::at(&base, "sample.example.org", &keys);
    let reader = stratum0.reader(Expiry::Ignore).unwrap();
    let mut expected = BTreeSet::new();
    for tag in reader.tags().unwrap() {
        expected.append(&mut reachable(&reader, &tag.root_hash));
    }
    let (report, gone) = collect(&stratum0, FORCE, NOW + DAY).unwrap();
    assert_eq!(report.missing, Vec::<String>::new());
    let left = objects(&base);
    assert!(expected.is_subset(&left) && gone.is_disjoint(&left));
}
