//! The check is itself checked: what it is there to find is planted.

use std::collections::BTreeMap;

use conveyor::cvmfs::stratum0::{CreateOptions, Stratum0};
use conveyor::domain::ids::{BatchId, JobId};
use conveyor::domain::job::state::JobState;
use conveyor::domain::names::{LeasePath, RepositoryName};
use conveyor::domain::tree::{Attributes, EntryKind, EntryMeta, EntryPath};
use conveyor::publisher::native::NativePublisher;
use conveyor::publisher::{Publisher, Revision};
use uuid::Uuid;

use super::chain::{Chain, Change};
use super::home::{Home, REPOSITORIES};
use super::ledger::{self, Entry};

/// A repository and one job that added `jobs/a` to it.
struct Planted {
    home: Home,
    publisher: NativePublisher,
    entry: Entry,
    first: Revision,
}

impl Planted {
    fn new() -> Self {
        let home = Home::new();
        let (repository, keys) = (REPOSITORIES[0], home.state().join("keys"));
        std::fs::create_dir_all(&keys).unwrap();
        let directory = home.repositories().join(repository);
        std::fs::create_dir_all(&directory).unwrap();
        let now = jiff::Timestamp::now().as_second();
        Stratum0::create(directory, repository, &keys, &CreateOptions::default(), now).unwrap();
        let publisher = NativePublisher::new(home.repositories(), keys);
        let change = Change::Added("jobs/a".into());
        let entry = Entry { job: JobId(Uuid::now_v7()), repository: repository.into(), change };
        let first = publish(&publisher, &home, "jobs/a", "once\n");
        Self { home, publisher, entry, first }
    }

    /// What the ledger says if the job's state names this revision.
    fn check(&self, state: Option<&Revision>) -> Vec<String> {
        let succeeded =
            |made: &Revision| JobState::Succeeded { revision: made.number, root_hash: made.root_hash.clone() };
        let states = state.map(|made| (self.entry.job, succeeded(made))).into_iter().collect();
        let mut chain = Chain::default();
        chain.extend(&self.home.reader(REPOSITORIES[0]).unwrap()).unwrap();
        ledger::check(std::slice::from_ref(&self.entry), &states, &BTreeMap::from([(REPOSITORIES[0].into(), chain)]))
    }
}

/// Publishes one file as a batch of its own, behind Conveyor's back.
fn publish(publisher: &NativePublisher, home: &Home, path: &str, content: &str) -> Revision {
    let repository = RepositoryName::new(REPOSITORIES[0]).unwrap();
    let key = BatchId(Uuid::now_v7()).key();
    let mut transaction = publisher.open(&repository, &LeasePath::root(), &key, &home.temporary()).unwrap();
    let meta = EntryMeta { mode: 0o644, mtime: 0, uid: 0, gid: 0, attributes: Attributes::new() };
    let kind = EntryKind::File { size: content.len() as u64 };
    transaction.put(&EntryPath::new(path.as_bytes()).unwrap(), &meta, &kind, &mut content.as_bytes()).unwrap();
    transaction.publish("planted").unwrap()
}

#[test]
fn the_ledger_agrees_with_a_job_that_was_published_once() {
    let planted = Planted::new();
    assert_eq!(planted.check(Some(&planted.first)), Vec::<String>::new());
}

#[test]
fn the_ledger_finds_a_job_that_was_published_twice() {
    let planted = Planted::new();
    let second = publish(&planted.publisher, &planted.home, "jobs/a", "once\n");
    for named in [&planted.first, &second] {
        let wrong = planted.check(Some(named));
        assert!(wrong.iter().any(|line| line.contains("is that of 0 jobs")), "{wrong:?}");
    }
}

#[test]
fn the_ledger_finds_a_payload_that_took_effect_twice() {
    let planted = Planted::new();
    publish(&planted.publisher, &planted.home, "jobs/a", "once\nonce\n");
    let wrong = planted.check(Some(&planted.first));
    assert!(wrong.iter().any(|line| line.contains("replaced jobs/a")), "{wrong:?}");
}

#[test]
fn the_ledger_finds_a_lost_job_and_a_wrong_revision() {
    let planted = Planted::new();
    assert!(planted.check(None).iter().any(|line| line.contains("is lost")));
    let elsewhere = Revision { number: planted.first.number + 1, ..planted.first.clone() };
    assert!(planted.check(Some(&elsewhere)).iter().any(|line| line.contains("its state names revision")));
    let other = Revision { root_hash: "0".repeat(40), ..planted.first.clone() };
    assert!(planted.check(Some(&other)).iter().any(|line| line.contains("root hash")));
}
