//! Taking over a repository of `cvmfs_server`, and living beside it.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use nix::fcntl::{Flock, FlockArg};

use super::support::{NOW, copy_tree, golden, put};
use crate::cvmfs::Error;
use crate::cvmfs::check::{Code, Options, check};
use crate::cvmfs::reader::Expiry;
use crate::cvmfs::stratum0::{Adopted, GcOptions, Keep, NewTag, Stratum0};

const NAME: &str = "sample.example.org";

/// A machine on which `cvmfs_server` made a repository.
struct Machine {
    directory: tempfile::TempDir,
    keys: PathBuf,
}

impl Machine {
    fn new() -> Self {
        let (directory, storage, keys) = golden(NAME);
        let machine = Self { directory, keys };
        copy_tree(&storage, &machine.storage());
        fs::create_dir_all(machine.spool()).unwrap();
        fs::create_dir_all(machine.root()).unwrap();
        let text = fs::read_to_string(machine.directory.path().join(NAME).join("server.conf")).unwrap();
        let text = text
            .replace("/srv/cvmfs/sample.example.org", machine.storage().to_str().unwrap())
            .replace("/var/spool/cvmfs/sample.example.org", machine.spool().to_str().unwrap());
        fs::write(machine.server_conf(), text).unwrap();
        let hash = machine.theirs().reader(Expiry::Ignore).unwrap().manifest().reflog.unwrap();
        fs::write(machine.spool().join("reflog.chksum"), hash.to_string()).unwrap();
        machine
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn storage(&self) -> PathBuf {
        self.path("srv")
    }

    fn spool(&self) -> PathBuf {
        self.path("spool")
    }

    fn root(&self) -> PathBuf {
        self.path("root")
    }

    fn server_conf(&self) -> PathBuf {
        self.path("server.conf")
    }

    fn theirs(&self) -> Stratum0 {
        Stratum0::at(self.storage(), NAME, &self.keys)
    }

    fn adopt(&self) -> Result<Adopted, Error> {
        Stratum0::adopt(self.root().join(NAME), NAME, &self.keys, &self.server_conf(), NOW)
    }

    fn change_conf(&self, from: &str, to: &str) {
        let text = fs::read_to_string(self.server_conf()).unwrap();
        assert!(text.contains(from));
        fs::write(self.server_conf(), text.replace(from, to)).unwrap();
    }

    fn checksum(&self) -> String {
        fs::read_to_string(self.spool().join("reflog.chksum")).unwrap()
    }
}

fn publish(stratum0: &Stratum0, path: &str) {
    let mut draft = stratum0.begin(stratum0.lock().unwrap().unwrap(), NOW).unwrap();
    put(&mut draft, path, path);
    draft.commit(Some(NewTag { name: path, description: "" }), NOW, &|_| {}).unwrap();
}

#[test]
fn it_is_adopted_once_and_published_by_its_own_settings() {
    let machine = Machine::new();
    let adopted = machine.adopt().unwrap();
    assert!(adopted.is_new && adopted.settings.auto_tag && !adopted.settings.xattrs);
    assert_eq!((adopted.revision, adopted.server.user.as_str()), (3, "root"));
    assert!(!machine.adopt().unwrap().is_new);
    publish(&adopted.stratum0, "new");
    let reader = machine.theirs().reader(Expiry::Ignore).unwrap();
    assert_eq!(reader.manifest().revision, 4);
    assert_eq!(machine.checksum(), reader.manifest().reflog.unwrap().to_string());
    // What the administrator changes there counts here.
    machine.change_conf("CVMFS_GARBAGE_COLLECTION=false", "CVMFS_GARBAGE_COLLECTION=true");
    publish(&adopted.stratum0, "newer");
    assert!(machine.theirs().reader(Expiry::Ignore).unwrap().manifest().garbage_collectable);
    machine.change_conf("CVMFS_EXTERNAL_DATA=false", "CVMFS_EXTERNAL_DATA=true");
    let error = adopted.stratum0.lock().unwrap_err().to_string();
    assert!(error.contains("CVMFS_EXTERNAL_DATA"), "{error}");
    fs::remove_file(machine.server_conf()).unwrap();
    assert!(adopted.stratum0.lock().is_err(), "a lost server.conf is no leave to publish by other rules");
}

#[test]
fn nothing_is_made_where_something_does_not_fit() {
    let refused = |machine: &Machine, why: &str| {
        let error = machine.adopt().unwrap_err();
        let chain = format!("{error}: {:?}", std::error::Error::source(&error));
        assert!(chain.contains(why), "{chain}");
        let left: Vec<_> = fs::read_dir(machine.root()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert!(left.iter().all(|name| name == ".sample.example.org.lock"), "{left:?}");
    };
    let machine = Machine::new();
    machine.change_conf("=local,", "=gw,");
    refused(&machine, "CVMFS_UPSTREAM_STORAGE");

    let machine = Machine::new();
    fs::remove_file(machine.keys.join(format!("{NAME}.key"))).unwrap();
    refused(&machine, ".key");

    let machine = Machine::new();
    fs::remove_dir(machine.spool().join("missing")).unwrap_err();
    fs::remove_dir_all(machine.spool()).unwrap();
    refused(&machine, "is_publishing.lock");

    let machine = Machine::new();
    fs::write(machine.spool().join("in_transaction.lock"), b"").unwrap();
    refused(&machine, "a transaction of user");

    let machine = Machine::new();
    fs::write(machine.storage().join(".cvmfspublished"), b"").unwrap();
    refused(&machine, "manifest");
}

#[test]
fn another_thing_in_its_place_is_not_overwritten() {
    let machine = Machine::new();
    fs::create_dir(machine.root().join(NAME)).unwrap();
    assert!(matches!(machine.adopt(), Err(Error::Exists(_))));
    fs::remove_dir(machine.root().join(NAME)).unwrap();
    fs::write(machine.root().join(".sample.example.org.conf"), b"").unwrap();
    assert!(matches!(machine.adopt(), Err(Error::Exists(_))));
}

#[test]
fn their_locks_bind_us_and_ours_bind_them() {
    let machine = Machine::new();
    let ours = machine.adopt().unwrap().stratum0;
    let publishing = machine.spool().join("is_publishing.lock");
    assert!(!publishing.exists(), "the lock's file goes with the lock");
    fs::write(&publishing, b"").unwrap();
    drop(ours.lock().unwrap().unwrap()); // a stale file means nothing

    let try_lock = || {
        let file = File::options().create(true).append(true).open(&publishing).unwrap();
        Flock::lock(file, FlockArg::LockExclusiveNonblock)
    };
    let theirs = try_lock().unwrap();
    let held = ours.lock().unwrap().unwrap_err();
    assert_eq!(held.path, publishing);
    drop(theirs);

    // Their transactions and collections look at one file only, their publishes and aborts at the other.
    let flag = machine.spool().join("in_transaction.lock");
    let lock = ours.lock().unwrap().unwrap();
    assert!(try_lock().is_err() && flag.exists());
    drop(lock);
    assert!(try_lock().is_ok() && !flag.exists());

    let collecting = File::create(machine.spool().join("is_collecting.lock")).unwrap();
    let collecting = Flock::lock(collecting, FlockArg::LockExclusiveNonblock).unwrap();
    assert!(ours.lock().unwrap().unwrap_err().path.ends_with("is_collecting.lock"));
    drop(collecting);

    fs::write(&flag, b"").unwrap();
    let held = ours.lock().unwrap().unwrap_err();
    assert!(held.holder.starts_with("a transaction of user "), "{}", held.holder);
    assert!(flag.exists() && fs::read(&flag).unwrap().is_empty());
}

#[test]
fn a_transaction_that_a_killed_process_left_is_cleared() {
    let machine = Machine::new();
    let ours = machine.adopt().unwrap().stratum0;
    let lock = ours.lock().unwrap().unwrap();
    let flag = machine.spool().join("in_transaction.lock");
    let left = fs::read(&flag).unwrap();
    drop(lock);
    fs::write(&flag, left).unwrap();
    fs::write(machine.spool().join("is_publishing.lock"), b"").unwrap();
    publish(&ours, "new");
    assert!(!flag.exists());
}

#[test]
fn a_transaction_that_opens_meanwhile_is_not_published_over() {
    let machine = Machine::new();
    let ours = machine.adopt().unwrap().stratum0;
    let mut draft = ours.begin(ours.lock().unwrap().unwrap(), NOW).unwrap();
    put(&mut draft, "new", "new");
    // By hand: their tools refuse.
    let flag = machine.spool().join("in_transaction.lock");
    fs::write(&flag, b"").unwrap();
    assert!(draft.commit(None, NOW, &|_| {}).is_err());
    assert_eq!(machine.theirs().reader(Expiry::Ignore).unwrap().manifest().revision, 3);
    assert!(flag.exists(), "it is theirs");
}

#[test]
fn the_hash_of_the_reflog_follows_and_is_made_up_for() {
    let machine = Machine::new();
    let ours = machine.adopt().unwrap().stratum0;
    let before = machine.checksum();
    publish(&ours, "new");
    let after = machine.checksum();
    assert_ne!(before, after);
    for stale in [before.as_str(), "", "nonsense that is longer than any hash and means nothing to anybody"] {
        fs::write(machine.spool().join("reflog.chksum"), stale).unwrap();
        let lock = ours.lock().unwrap().unwrap();
        ours.repair(&lock, &ours.reader(Expiry::Ignore).unwrap()).unwrap();
        assert_eq!(machine.checksum(), after);
    }
}

#[test]
fn a_reflog_that_their_garbage_collection_wrote_is_taken_as_it_is() {
    let machine = Machine::new();
    let ours = machine.adopt().unwrap().stratum0;
    // It replaces the reflog and notes its hash, but signs no manifest.
    let file = machine.storage().join(".cvmfsreflog");
    let reflog = crate::cvmfs::reflog::Reflog::open_for_editing(&file).unwrap();
    let marker = crate::cvmfs::hash::Algorithm::Sha1.hash(b"only this reflog knows it");
    reflog.add(&[(crate::cvmfs::hash::ObjectKind::Metainfo, marker)], NOW).unwrap();
    reflog.close().unwrap();
    let hash = crate::cvmfs::reflog::hash_file(&file, crate::cvmfs::hash::Algorithm::Sha1).unwrap().unwrap();
    fs::write(machine.spool().join("reflog.chksum"), hash.to_string()).unwrap();
    let problems = |noted_reflog| {
        let options = Options { noted_reflog, ..Options::default() };
        check(&ours.reader(Expiry::Ignore).unwrap(), &options).unwrap().problems
    };
    assert_eq!(problems(None)[0].code, Code::ReflogHash);
    assert_eq!(problems(ours.noted_reflog().unwrap()), []);
    // As for their own check, the note counts, and not what the manifest says.
    assert_eq!(problems(Some(marker))[0].code, Code::ReflogHash);
    publish(&ours, "new");
    assert_eq!(problems(ours.noted_reflog().unwrap()), []);
    assert!(crate::cvmfs::reflog::Reflog::open(&file).unwrap().contains(&marker).unwrap(), "it was rebuilt");
}

#[test]
fn what_root_makes_is_its_owner_s() {
    // Only root can give files away; for others there is nothing to give.
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let machine = Machine::new();
    let ours = machine.adopt().unwrap().stratum0;
    for place in [machine.storage(), machine.spool()] {
        for entry in walkdir::WalkDir::new(place) {
            std::os::unix::fs::lchown(entry.unwrap().path(), Some(12345), Some(12346)).unwrap();
        }
    }
    publish(&ours, "new");
    ours.collect_garbage(
        ours.lock().unwrap().unwrap(),
        GcOptions { keep: Keep::Revisions(0), dry_run: false, force: true },
        NOW,
        &mut |_, _| {},
        &|_| {},
    )
    .unwrap();
    for place in [machine.storage(), machine.spool()] {
        for entry in walkdir::WalkDir::new(place) {
            let entry = entry.unwrap();
            let metadata = entry.metadata().unwrap();
            assert_eq!((metadata.uid(), metadata.gid()), (12345, 12346), "{}", entry.path().display());
        }
    }
}

#[test]
fn collecting_garbage_takes_their_lock_for_that_as_well() {
    let machine = Machine::new();
    let ours = machine.adopt().unwrap().stratum0;
    let file = File::create(machine.spool().join("is_collecting.lock")).unwrap();
    let theirs = Flock::lock(file, FlockArg::LockExclusiveNonblock).unwrap();
    let options = GcOptions { keep: Keep::Revisions(0), dry_run: true, force: true };
    assert!(ours.lock().unwrap().is_err());
    drop(theirs);
    // Begun after our transaction, as a check may be.
    let lock = ours.lock().unwrap().unwrap();
    let file = File::create(machine.spool().join("is_collecting.lock")).unwrap();
    let theirs = Flock::lock(file, FlockArg::LockExclusiveNonblock).unwrap();
    let error = ours.collect_garbage(lock, options, NOW, &mut |_, _| {}, &|_| {}).unwrap_err();
    assert!(error.to_string().contains("is_collecting.lock"), "{error}");
    drop(theirs);
    ours.collect_garbage(ours.lock().unwrap().unwrap(), options, NOW, &mut |_, _| {}, &|_| {}).unwrap();
    assert!(!machine.spool().join("is_collecting.lock").exists());
}
