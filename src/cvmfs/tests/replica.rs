//! The state of replicas.

use std::fs;

use super::support::{NAME, NOW, Sandbox, copy_tree};
use crate::cvmfs::Error;
use crate::cvmfs::fetch::LocalDir;
use crate::cvmfs::replica::Replica;

#[test]
fn a_replica_tells_its_revision_and_its_snapshots() {
    let sandbox = Sandbox::new();
    let replica = tempfile::tempdir().unwrap();
    copy_tree(sandbox.stratum0.directory(), replica.path());
    sandbox.publish("a", "1", "two");
    let reader = sandbox.reader();
    let read = || Replica::read(&LocalDir::new(replica.path()), NAME, reader.certificate());
    let state = read().unwrap();
    assert_eq!((state.revision, state.last_snapshot, state.snapshotting_since), (1, None, None));

    let status = r#"{"last_snapshot": "Sat Nov 21 05:46:40 UTC 2026", "last_gc": "never"}"#;
    fs::write(replica.path().join(".cvmfs_status.json"), status).unwrap();
    assert_eq!(read().unwrap().last_snapshot.unwrap().seconds, Some(NOW));
    fs::write(replica.path().join(".cvmfs_last_snapshot"), "Sat Nov 21 05:46:41 UTC 2026\n").unwrap();
    fs::write(replica.path().join(".cvmfs_is_snapshotting"), "Sat Nov 21 05:46:42 UTC 2026\n").unwrap();
    let state = read().unwrap();
    assert_eq!(state.last_snapshot.unwrap().seconds, Some(NOW + 1));
    assert_eq!(state.snapshotting_since.unwrap().seconds, Some(NOW + 2));

    let manifest = replica.path().join(".cvmfspublished");
    let mut bytes = fs::read(&manifest).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&manifest, bytes).unwrap();
    assert!(matches!(read(), Err(Error::Untrusted { .. })));
    fs::remove_file(&manifest).unwrap();
    assert!(matches!(read(), Err(Error::Missing(_))));
}
