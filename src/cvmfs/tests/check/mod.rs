//! A check finds nothing in sound repositories, and every kind of damage in others.

mod base;
pub(super) mod damage;
mod planted;

use damage::{NAME, Patient};

use super::support::{NOW, Sandbox, put};
use crate::cvmfs::check::{Code, Data, Options, Place, check};

#[test]
fn repositories_of_the_real_tools_are_clean() {
    for name in [NAME, "shake.example.org"] {
        let patient = Patient::new(name);
        // 44 MiB of SHAKE-128 take seconds in a build for debugging; the other repository has the same file.
        let data = if name == NAME { Data::Verify } else { Data::Exists };
        let report = patient.report(data);
        assert_eq!(report.problems, [], "{name}");
        assert!(report.is_clean());
        // 88 paths and the roots of three nested catalogs.
        assert_eq!((report.summary.catalogs, report.summary.entries), (4, 91));
        assert_eq!(report.summary.objects, 75);
    }
}

#[test]
fn every_revision_of_the_chain_is_clean() {
    let patient = Patient::new(NAME);
    let reader = patient.reader();
    let mut entries = Vec::new();
    for revision in reader.revisions().map(Result::unwrap) {
        let options = Options { root: Some(revision.root_hash), ..Options::default() };
        let report = check(&reader, &options).unwrap();
        assert_eq!(report.problems, [], "revision {}", revision.revision);
        entries.push(report.summary.entries);
    }
    assert_eq!(entries, [91, 86, 2, 1]);
}

#[test]
fn a_subtree_is_checked_by_itself() {
    let patient = Patient::new(NAME);
    let at = |path: &[u8]| check(&patient.reader(), &Options { subtree: path.to_vec(), ..Options::default() });
    let report = at(b"sw/tool/1.0").unwrap();
    assert_eq!((report.problems.as_slice(), report.summary.catalogs, report.summary.entries), (&[][..], 1, 9));
    for none in [&b"sw"[..], b"sw/tool/1.0/bin", b"conditions2", b"nowhere"] {
        assert!(at(none).is_err(), "{}", String::from_utf8_lossy(none));
    }
    // Its mount point belongs to it.
    patient.catalog("", "UPDATE catalog SET mode = mode & ~1 WHERE name = '1.0'");
    let options = Options { subtree: b"sw/tool/1.0".to_vec(), ..Options::default() };
    assert!(patient.report_with(&options).has(Code::TransitionDiffers));
}

#[test]
fn what_this_publisher_writes_is_clean() {
    let sandbox = Sandbox::new();
    let options = Options { data: Data::Verify, tags: true, now: Some(NOW), ..Options::default() };
    assert_eq!(check(&sandbox.reader(), &options).unwrap().problems, []);
    sandbox.publish("a/b/c", "content", "one");
    let mut draft = sandbox.begin();
    put(&mut draft, "a/b/d", "content");
    draft.tree().remove(b"a/b/c").unwrap();
    draft.commit(None, NOW, &|_| {}).unwrap();
    let report = check(&sandbox.reader(), &options).unwrap();
    assert_eq!(report.problems, []);
    assert_eq!((report.summary.entries, report.summary.objects, report.summary.bytes), (4, 1, 7));
}

#[test]
fn many_threads_find_what_one_finds() {
    let patient = Patient::new(NAME);
    patient.catalog("conditions", "UPDATE catalog SET size = size + 1; UPDATE catalog SET uid = 1 WHERE name = ''");
    patient.catalog("", "UPDATE catalog SET hardlinks = 0");
    std::fs::remove_file(patient.object("names/with space/read me.txt")).unwrap();
    let with = |threads| patient.report_with(&Options { threads, ..Options::default() });
    let one = with(1);
    assert!(one.problems.len() > 20, "{one}");
    for threads in [2, 8] {
        // Which of two references that disagree came first is not determined.
        let only = |report: &crate::cvmfs::check::Report| {
            let sure = report.problems.iter().filter(|problem| problem.code != Code::ObjectSize);
            sure.cloned().collect::<Vec<_>>()
        };
        assert_eq!(only(&with(threads)), only(&one));
    }
}

#[test]
fn further_problems_are_counted() {
    let patient = Patient::new(NAME);
    patient.catalog("conditions", "UPDATE catalog SET hardlinks = 0");
    let all = patient.report_with(&Options { data: Data::None, ..Options::default() });
    let some = patient.report_with(&Options { data: Data::None, most_problems: 10, ..Options::default() });
    assert_eq!(some.problems.len(), 10);
    assert_eq!(some.omitted as usize + 10, all.problems.len());
    assert!(!some.is_clean());
}

#[test]
fn an_unreadable_catalog_hides_no_other() {
    let patient = Patient::new(NAME);
    patient.catalog("sw/tool/1.1", "UPDATE catalog SET mode = 0 WHERE name = 'tool'");
    let reader = patient.reader();
    let nested = reader.catalog(&reader.manifest().root_hash).unwrap().nested().unwrap();
    let conditions = nested.iter().find(|nested| nested.path == b"conditions").unwrap();
    let place = patient.base.join(conditions.hash.object_path(crate::cvmfs::hash::ObjectKind::Catalog));
    std::fs::write(place, "no catalog").unwrap();
    let report = patient.report(Data::Exists);
    let found: Vec<_> = report.problems.iter().map(|problem| (problem.code, problem.place.clone())).collect();
    let catalog = Place::Catalog { path: b"conditions".to_vec(), hash: conditions.hash };
    let entry = Place::Entry { path: b"sw/tool/1.1/bin/tool".to_vec() };
    assert_eq!(found, [(Code::CatalogUnreadable, catalog), (Code::Mode, entry)]);
}

#[test]
fn problems_are_told_with_place_and_code() {
    let patient = Patient::new(NAME);
    patient.catalog("sw/tool/1.0", "UPDATE catalog SET size = 5 WHERE name = 'tool-link'");
    let report = patient.report(Data::None);
    assert!(report.to_string().starts_with(
        "/sw/tool/1.0/bin/tool-link: its size is 5, its target has 4 bytes [symlink-size]\n4 catalogs, 91 entries, "
    ));
    assert_eq!(
        Code::ALL.iter().map(|code| code.as_str()).collect::<std::collections::BTreeSet<_>>().len(),
        Code::ALL.len()
    );
}
