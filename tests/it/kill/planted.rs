//! The check is itself checked: what it is there to find is planted.

use std::collections::BTreeMap;

use conveyor::cvmfs::stratum0::{CreateOptions, Stratum0};
use conveyor::domain::ids::{BatchId, JobId};
use conveyor::domain::job::spec::{Condition, Dependency};
use conveyor::domain::job::state::JobState;
use conveyor::domain::names::{LeasePath, RepositoryName};
use conveyor::domain::tree::{Attributes, EntryKind, EntryMeta, EntryPath};
use conveyor::publisher::native::NativePublisher;
use conveyor::publisher::{Publisher, Revision};
use uuid::Uuid;

use super::chain::{Chain, Change};
use super::home::{Home, REPOSITORIES};
use super::ledger::{self, End, Entry};

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
        let first = publish(&publisher, &home, "jobs/a", "once\n");
        Self { home, publisher, entry: entry("jobs/a"), first }
    }

    /// What the ledger says if the job's state names this revision.
    fn check(&self, state: Option<&Revision>) -> Vec<String> {
        let states: Vec<_> = state.map(|made| (&self.entry, succeeded(made))).into_iter().collect();
        self.check_all(std::slice::from_ref(&self.entry), &states)
    }

    /// What the ledger says of several jobs in these states.
    fn check_all(&self, entries: &[Entry], states: &[(&Entry, JobState)]) -> Vec<String> {
        let states = states.iter().map(|(entry, state)| (entry.job, state.clone())).collect();
        let mut chain = Chain::default();
        chain.extend(&self.home.reader(REPOSITORIES[0]).unwrap()).unwrap();
        ledger::check(entries, &states, &BTreeMap::from([(REPOSITORIES[0].into(), chain)]))
    }

    fn publish(&self, path: &str, content: &str) -> Revision {
        publish(&self.publisher, &self.home, path, content)
    }
}

fn entry(path: &str) -> Entry {
    let (repository, changes) = (REPOSITORIES[0].to_owned(), vec![Change::Added(path.into())]);
    Entry { job: JobId(Uuid::now_v7()), repository, changes, end: End::Success, dependencies: Vec::new() }
}

fn succeeded(made: &Revision) -> JobState {
    JobState::Succeeded { revision: made.number, root_hash: made.root_hash.clone(), unchanged: false }
}

/// Publishes one file as a batch of its own, behind Conveyor's back.
fn publish(publisher: &NativePublisher, home: &Home, path: &str, content: &str) -> Revision {
    let repository = RepositoryName::new(REPOSITORIES[0]).unwrap();
    let key = BatchId(Uuid::now_v7()).key();
    let mut transaction = publisher.open(&repository, &LeasePath::root(), &key, &home.temporary()).unwrap();
    let meta = EntryMeta { mode: 0o644, mtime: 0, uid: 0, gid: 0, attributes: Attributes::new() };
    let kind = EntryKind::File { size: content.len() as u64 };
    transaction.put(&EntryPath::new(path.as_bytes()).unwrap(), &meta, &kind, &mut content.as_bytes()).unwrap();
    transaction.publish("planted").unwrap().revision
}

#[track_caller]
fn assert_finds(wrong: &[String], what: &str) {
    assert!(wrong.iter().any(|line| line.contains(what)), "{what:?} is not in {wrong:#?}");
}

#[test]
fn the_ledger_agrees_with_a_job_that_was_published_once() {
    let planted = Planted::new();
    assert_eq!(planted.check(Some(&planted.first)), Vec::<String>::new());
}

#[test]
fn the_ledger_finds_a_job_that_was_published_twice() {
    let planted = Planted::new();
    let second = planted.publish("jobs/a", "once\n");
    for named in [&planted.first, &second] {
        assert_finds(&planted.check(Some(named)), "is that of 0 jobs");
    }
}

#[test]
fn the_ledger_finds_a_payload_that_took_effect_twice() {
    let planted = Planted::new();
    planted.publish("jobs/a", "once\nonce\n");
    assert_finds(&planted.check(Some(&planted.first)), "replaced jobs/a");
}

#[test]
fn the_ledger_finds_a_lost_job_and_a_wrong_revision() {
    let planted = Planted::new();
    assert_finds(&planted.check(None), "is lost");
    let elsewhere = Revision { number: planted.first.number + 1, ..planted.first.clone() };
    assert_finds(&planted.check(Some(&elsewhere)), "its state names revision");
    let other = Revision { root_hash: "0".repeat(40), ..planted.first.clone() };
    assert_finds(&planted.check(Some(&other)), "root hash");
}

#[test]
fn the_ledger_finds_what_a_cancelled_job_left_and_how_a_job_must_not_end() {
    let mut planted = Planted::new();
    planted.entry.end = End::SuccessOrCancelled;
    assert_eq!(planted.check(Some(&planted.first)), Vec::<String>::new());
    let entries = [planted.entry.clone()];
    assert_finds(&planted.check_all(&entries, &[(&entries[0], JobState::Cancelled)]), "is cancelled, and yet Added");
    planted.entry.end = End::Failure;
    assert_finds(&planted.check(Some(&planted.first)), "did not end as [Failed]");
}

#[test]
fn the_ledger_finds_a_batch_with_one_job_too_many_or_too_few() {
    let planted = Planted::new();
    let second = entry("jobs/b");
    let both = [planted.entry.clone(), second.clone()];
    let states = [(&both[0], succeeded(&planted.first)), (&both[1], succeeded(&planted.first))];
    assert_finds(&planted.check_all(&both, &states), "happened in []");
    let more = Entry { changes: vec![Change::Added("jobs/a".into()), Change::Added("jobs/b".into())], ..second };
    assert_finds(
        &planted.check_all(std::slice::from_ref(&more), &[(&more, succeeded(&planted.first))]),
        "its jobs asked for",
    );
}

#[test]
fn the_ledger_finds_a_job_before_what_it_waits_for_and_one_that_ran_in_vain() {
    let planted = Planted::new();
    let made = planted.publish("jobs/b", "once\n");
    let (mut first, mut second) = (planted.entry.clone(), entry("jobs/b"));
    let on = |job_id| vec![Dependency { job_id, condition: Condition::Success }];
    second.dependencies = on(first.job);
    let both = [first.clone(), second.clone()];
    let ended = [(&both[0], succeeded(&planted.first)), (&both[1], succeeded(&made))];
    assert_eq!(planted.check_all(&both, &ended), Vec::<String>::new());
    second.dependencies.clear();
    first.dependencies = on(second.job);
    let both = [first, second];
    assert_finds(&planted.check_all(&both, &ended), "is not behind that of job");
    let skipped = [(&both[0], succeeded(&planted.first)), (&both[1], JobState::Cancelled)];
    assert_finds(&planted.check_all(&both, &skipped), "did not end as [Skipped]");
}
