//! What is refused, and what is only said, before a publish.

use crate::cvmfs::reader::Expiry;
use crate::cvmfs::tests::support::Sandbox;
use crate::publisher::cvmfs_server::inspect::{Checks, WorldReadable};
use crate::publisher::cvmfs_server::upper::{Kind, State};

use super::*;

fn added(at: &str, mode: u32, size: u64) -> Change {
    let now = Some(State { size, mtime: 0, mode, uid: 0, gid: 0, target: None });
    Change { path: path(at), kind: Kind::Added, only_mtime: false, breaks_links: false, now }
}

fn removed(at: &str) -> Change {
    Change { path: path(at), kind: Kind::Removed, only_mtime: false, breaks_links: false, now: None }
}

/// The warnings on changes of a repository that has `n/.cvmfscatalog`, `n/file` and `top`.
fn warnings(checks: &Checks, changes: &[Change]) -> Result<Vec<String>, PublisherError> {
    let sandbox = Sandbox::new();
    for name in ["n/.cvmfscatalog", "n/file", "top"] {
        sandbox.publish(name, "", &name.replace('/', "-"));
    }
    // What is mounted then.
    let merged = tempfile::tempdir().unwrap();
    for name in ["n/.cvmfscatalog", "new/deep/.cvmfscatalog"] {
        let place = merged.path().join(name);
        fs::create_dir_all(place.parent().unwrap()).unwrap();
        fs::write(place, "").unwrap();
    }
    let mut inspection = checks.begin(merged.path());
    changes.iter().try_for_each(|change| inspection.see(change))?;
    let reader = sandbox.stratum0.reader(Expiry::Ignore).unwrap();
    Ok(inspection.finish(&mut reader.tree().unwrap()).unwrap())
}

#[test]
fn what_is_too_large_or_in_the_way_is_refused() {
    let checks = Checks { max_file_bytes: Some(10), ..Checks::default() };
    assert_eq!(warnings(&checks, &[added("ten", 0o100_644, 10)]).unwrap(), [""; 0]);
    let refused = warnings(&checks, &[added("d/eleven", 0o100_644, 11)]).unwrap_err();
    assert_eq!(refused.to_string(), "/d/eleven of 11 bytes exceeds the limit of 10 bytes for a file");
    assert!(why(warnings(&checks, &[added(".cvmfs/x", 0o100_644, 0)])).contains("own"));
    let link = Change { breaks_links: true, kind: Kind::Modified, ..added("l", 0o100_644, 0) };
    assert!(why(warnings(&checks, &[link])).contains("eliminate-hardlinks"));
}

#[test]
fn what_not_everybody_can_read_is_told_or_refused() {
    let changes = [
        added("d", 0o040_754, 0),
        added("f", 0o100_640, 0),
        added("link", 0o120_000, 0),
        added("pipe", 0o010_600, 0),
        added("x", 0o100_644, 0),
    ];
    let with = |world_readable| warnings(&Checks { world_readable, ..Checks::default() }, &changes);
    assert_eq!(
        with(WorldReadable::Warn).unwrap(),
        ["not everybody can read 2 of the new or changed entries, the first is /d"]
    );
    assert_eq!(with(WorldReadable::Off).unwrap(), [""; 0]);
    assert!(why(with(WorldReadable::Refuse)).contains("0754"));
}

#[test]
fn a_catalog_that_gets_too_large_is_named() {
    let checks = Checks { max_catalog_entries: 3, ..Checks::default() };
    // The catalog at `n` has three entries, with its directory; the root has as many, and `new/deep` is a new one.
    let fits = [
        added("new", 0o040_755, 0),
        added("new/deep/1", 0o100_644, 0),
        added("new/deep/2", 0o100_644, 0),
        added("new/deep/3", 0o100_644, 0),
        removed("top"),
    ];
    assert_eq!(warnings(&checks, &fits).unwrap(), [""; 0]);
    let more = [
        added("n/more", 0o100_644, 0),
        added("new/deep/1", 0o100_644, 0),
        added("new/deep/2", 0o100_644, 0),
        added("new/deep/3", 0o100_644, 0),
        added("new/deep/d/4", 0o100_644, 0),
    ];
    let found = warnings(&checks, &more).unwrap();
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].starts_with("the catalog at /n will have about 4 entries, more than 3"), "{found:?}");
    assert!(found[1].starts_with("the catalog at /new/deep will have about 4 entries"), "{found:?}");
}

#[test]
fn a_spool_that_is_nearly_full_is_not_used_for_now() {
    let spool = tempfile::tempdir().unwrap();
    Checks { min_free_bytes: 0, ..Checks::default() }.free_space(spool.path()).unwrap();
    let full = Checks { min_free_bytes: u64::MAX, ..Checks::default() }.free_space(spool.path()).unwrap_err();
    assert!(full.is_transient(), "{full:?}");
}
