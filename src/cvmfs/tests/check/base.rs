//! Damage to what stands at the base, to what the manifest names, and to objects.

use std::fs;

use super::damage::{NAME, Patient};
use crate::cvmfs::check::{Code, Data, Options};
use crate::cvmfs::hash::{ContentHash, ObjectKind};
use crate::cvmfs::reflog;

const NOWHERE: &str = "00112233445566778899aabbccddeeff00112233";

fn nowhere() -> ContentHash {
    ContentHash::parse(NOWHERE).unwrap()
}

/// Damages a golden repository and tells what is found.
fn found(damage: impl FnOnce(&Patient)) -> Vec<Code> {
    let patient = Patient::new(NAME);
    damage(&patient);
    patient.codes(Data::Exists)
}

#[test]
fn manifest() {
    assert_eq!(found(|patient| patient.manifest(|manifest| manifest.revision = 4)), [Code::ManifestRevision]);
    assert_eq!(found(|patient| patient.manifest(|manifest| manifest.root_size += 1)), [Code::CatalogSize]);
    assert_eq!(
        found(|patient| patient.manifest(|manifest| manifest.root_hash = nowhere())),
        [Code::ReflogIncomplete, Code::TagWrong, Code::CatalogUnreadable]
    );
    assert_eq!(
        found(|patient| patient.manifest(|manifest| manifest.revision = 2)),
        [Code::ManifestRevision, Code::TagWrong]
    );
}

#[test]
fn alternative_paths() {
    let patient = Patient::new(NAME);
    patient.manifest(|manifest| manifest.alternative_paths = true);
    let manifest = patient.reader().manifest().clone();
    assert_eq!(patient.report(Data::None).problems.len(), 2);
    fs::write(patient.base.join(format!(".cvmfsalt-{}X", manifest.certificate)), "").unwrap();
    assert_eq!(patient.codes(Data::None), [Code::AlternativePath]);
    fs::write(patient.base.join(format!(".cvmfsalt-{}C", manifest.root_hash)), "").unwrap();
    assert_eq!(patient.codes(Data::None), []);
}

#[test]
fn whitelist() {
    let patient = Patient::new(NAME);
    let expires_at = patient.reader().whitelist().expires_at;
    let at = |now| patient.report_with(&Options { now: Some(now), data: Data::None, ..Options::default() });
    let soon = at(expires_at - 3600);
    assert!(soon.has(Code::WhitelistExpiresSoon) && soon.is_clean());
    let late = at(expires_at);
    assert!(late.has(Code::WhitelistExpired) && !late.is_clean());
    assert_eq!(at(expires_at - 30 * 86_400).problems, []);
}

#[test]
fn metainfo() {
    assert_eq!(found(|patient| patient.metainfo(b"no JSON")), [Code::MetainfoText]);
    assert_eq!(
        found(|patient| patient.manifest(|manifest| manifest.metainfo = Some(nowhere()))),
        [Code::MetainfoUnreadable, Code::ReflogIncomplete]
    );
}

#[test]
fn reflog() {
    assert_eq!(found(|patient| fs::remove_file(patient.base.join(reflog::FILE)).unwrap()), [Code::ReflogMissing]);
    assert_eq!(found(|patient| patient.manifest(|manifest| manifest.reflog = None)), [Code::ReflogUnvouched]);
    assert_eq!(found(|patient| patient.manifest(|manifest| manifest.reflog = Some(nowhere()))), [Code::ReflogHash]);
    assert_eq!(
        found(|patient| fs::write(patient.base.join(reflog::FILE), "nothing").unwrap()),
        [Code::ReflogHash, Code::ReflogUnreadable]
    );
    assert_eq!(
        found(|patient| patient.reflog("UPDATE properties SET value = 'other' WHERE key = 'fqrn'")),
        [Code::ReflogUnreadable]
    );
    for kind in 0..4 {
        let sql = format!("DELETE FROM refs WHERE type = {kind}");
        assert_eq!(found(|patient| patient.reflog(&sql)), [Code::ReflogIncomplete], "{kind}");
        let sql = format!("UPDATE refs SET type = 3 - type WHERE type = {kind}");
        assert_eq!(found(|patient| patient.reflog(&sql)), [Code::ReflogIncomplete], "{kind}");
    }
    // A replica's reflog is its own.
    let patient = Patient::new(NAME);
    patient.manifest(|manifest| manifest.reflog = Some(nowhere()));
    assert_eq!(patient.report_with(&Options { ignore_reflog: true, ..Options::default() }).problems, []);
}

#[test]
fn history() {
    let by_sql = |sql: &str| found(|patient| patient.history(sql));
    assert_eq!(by_sql("UPDATE properties SET value = 'other' WHERE key = 'fqrn'"), [Code::HistoryUnreadable]);
    assert_eq!(by_sql("DROP TABLE tags"), [Code::HistoryUnreadable]);
    assert_eq!(by_sql("UPDATE tags SET hash = 'x' WHERE name = 'first'"), [Code::HistoryUnreadable]);
    assert_eq!(by_sql("INSERT INTO branches VALUES ('unused', '', 1)"), [Code::HistoryBranch]);
    assert_eq!(by_sql("UPDATE tags SET branch = 'none' WHERE name = 'first'"), [Code::HistoryBranch]);
    assert_eq!(by_sql("UPDATE branches SET initial_revision = 2"), [Code::HistoryBranch]);
    assert_eq!(
        by_sql("INSERT INTO branches VALUES ('a b', '', 1); UPDATE tags SET branch = 'a b' WHERE name = 'first'"),
        [Code::HistoryBranch]
    );
    assert_eq!(by_sql("DELETE FROM tags"), [Code::HistoryBranch]);
    assert_eq!(by_sql("UPDATE tags SET size = size + 1 WHERE name LIKE 'generic%'"), [Code::TagWrong]);
    assert_eq!(by_sql("UPDATE tags SET revision = 9 WHERE name = 'first'"), [Code::TagWrong]);
    let to_first = "SET hash = (SELECT hash FROM tags WHERE name = 'first')";
    assert_eq!(by_sql(&format!("UPDATE tags {to_first} WHERE name = 'trunk'")), [Code::TagWrong]);
    assert_eq!(by_sql(&format!("UPDATE tags {to_first} WHERE name = 'second'")), [Code::TagWrong]);
    assert_eq!(by_sql(&format!("UPDATE tags SET hash = '{NOWHERE}' WHERE name LIKE 'generic%'")), [Code::TagCatalog]);
    assert_eq!(
        found(|patient| patient.manifest(|manifest| manifest.history = Some(nowhere()))),
        [Code::ReflogIncomplete, Code::HistoryUnreadable]
    );
    // Without opening tags, a missing catalog is still seen where objects are.
    let patient = Patient::new(NAME);
    patient.history(&format!("UPDATE tags SET hash = '{NOWHERE}' WHERE name LIKE 'generic%'"));
    let with = |data| patient.report_with(&Options { data, ..Options::default() });
    assert!(with(Data::Exists).has(Code::TagCatalog));
    assert!(with(Data::None).is_clean());
}

#[test]
fn objects() {
    let patient = Patient::new(NAME);
    let object = patient.object("names/with space/read me.txt");
    let other = patient.object("names/ünïcödé/datei-ß.txt");
    let sound = fs::read(&object).unwrap();
    let codes = |data| patient.codes(data);
    // What one can see depends on how far one looks.
    fs::copy(&other, &object).unwrap();
    assert_eq!((codes(Data::Exists), codes(Data::Verify)), (vec![], vec![Code::ObjectSize]));
    let mut changed = sound.clone();
    *changed.last_mut().unwrap() ^= 1;
    fs::write(&object, changed).unwrap();
    assert_eq!(codes(Data::Verify), [Code::ObjectCorrupt]);
    fs::write(&object, &sound[..sound.len() - 5]).unwrap();
    assert_eq!(codes(Data::Verify), [Code::ObjectCorrupt]);
    fs::write(&object, [&sound[..], b"more"].concat()).unwrap();
    assert_eq!(codes(Data::Verify), [Code::ObjectCorrupt]);
    fs::write(&object, "").unwrap();
    assert_eq!(codes(Data::Verify), [Code::ObjectCorrupt]);
    fs::remove_file(&object).unwrap();
    assert_eq!((codes(Data::None), codes(Data::Exists)), (vec![], vec![Code::ObjectMissing]));
    assert_eq!(codes(Data::Verify), [Code::ObjectMissing]);
    fs::create_dir(&object).unwrap();
    assert_eq!((codes(Data::Exists), codes(Data::Verify)), (vec![], vec![Code::ObjectUnreadable]));
}

#[test]
fn an_object_of_another_size_than_its_file() {
    let patient = Patient::new(NAME);
    // Bytes and name fit: only the size in the catalog does not.
    let hash = patient.store(&[b'x'; 100_000], ObjectKind::File);
    let blob = hash.to_string();
    patient.catalog("", &format!("UPDATE catalog SET hash = x'{blob}' WHERE name = 'read me.txt'"));
    assert_eq!((patient.codes(Data::Exists), patient.codes(Data::Verify)), (vec![], vec![Code::ObjectSize]));
}

#[test]
fn a_catalog_that_sqlite_finds_damaged() {
    let patient = Patient::new(NAME);
    // The index says something else than the table.
    patient.catalog(
        "sw/tool/1.0",
        "PRAGMA writable_schema = ON; \
         UPDATE sqlite_master SET rootpage = (SELECT rootpage FROM sqlite_master WHERE name = 'sqlite_autoindex_chunks_1') \
         WHERE name = 'idx_catalog_parent'",
    );
    assert!(patient.report(Data::Verify).has(Code::CatalogDamaged));
}
