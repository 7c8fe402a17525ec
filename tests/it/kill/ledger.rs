//! The ledger: what was asked for, kept outside Conveyor, and compared with what the repositories say.

use std::collections::{BTreeMap, BTreeSet};

use conveyor::domain::dependencies::is_met;
use conveyor::domain::ids::JobId;
use conveyor::domain::job::spec::{Condition, Dependency};
use conveyor::domain::job::state::{JobState, StateKind};

use super::chain::{Chain, Change, Revision};

/// How a job must end whose dependencies ended as it wants them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Success,
    Failure,
    Cancelled,
    /// Somebody wanted it cancelled, perhaps too late.
    SuccessOrCancelled,
}

/// One accepted job and all that it may change.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) job: JobId,
    pub(super) repository: String,
    pub(super) changes: Vec<Change>,
    pub(super) end: End,
    pub(super) dependencies: Vec<Dependency>,
}

impl Entry {
    /// The states that it may end in, given those of the others.
    fn ends(&self, states: &BTreeMap<JobId, JobState>) -> &'static [StateKind] {
        let unmet = |dependency: &Dependency| {
            let state = states.get(&dependency.job_id).map(JobState::kind);
            state.is_none_or(|state| is_met(dependency.condition, state) == Some(false))
        };
        if self.dependencies.iter().any(unmet) {
            return &[StateKind::Skipped];
        }
        match self.end {
            End::Success => &[StateKind::Succeeded],
            End::Failure => &[StateKind::Failed],
            End::Cancelled => &[StateKind::Cancelled],
            End::SuccessOrCancelled => &[StateKind::Succeeded, StateKind::Cancelled],
        }
    }
}

/// Compares every entry with its job's state and with the chains; tells all that is wrong.
pub(super) fn check(
    entries: &[Entry],
    states: &BTreeMap<JobId, JobState>,
    chains: &BTreeMap<String, Chain>,
) -> Vec<String> {
    let mut wrong: Vec<String> = chains.values().flat_map(Chain::repetitions).collect();
    for (repository, chain) in chains {
        let mut made: BTreeMap<&Change, Vec<u64>> = BTreeMap::new();
        for revision in &chain.revisions {
            revision.changes.iter().for_each(|change| made.entry(change).or_default().push(revision.number));
        }
        let mine: Vec<&Entry> = entries.iter().filter(|entry| entry.repository == *repository).collect();
        wrong.extend(mine.iter().filter_map(|entry| check_entry(entry, states, chain, &made).err()));
        wrong.extend(check_order(&mine, states));
        let mut owners: BTreeMap<u64, Vec<&Entry>> = BTreeMap::new();
        for entry in mine {
            if let Some(number) = revision_of(states.get(&entry.job)) {
                owners.entry(number).or_default().push(entry);
            }
        }
        // The first is that of the repository's making.
        let others = chain.revisions.iter().skip(1);
        let (none, tags) = (Vec::new(), tags_of_batches(chain));
        wrong.extend(others.filter_map(|revision| {
            let owners = owners.get(&revision.number).unwrap_or(&none);
            check_revision(revision, owners, &tags).err().map(|why| format!("{repository}: {why}"))
        }));
    }
    wrong
}

/// One job: it ended as it must; published, it was so in exactly one revision, which is the one that its state names, and
/// behind all that it waited for; otherwise nothing of it was.
fn check_entry(
    entry: &Entry,
    states: &BTreeMap<JobId, JobState>,
    chain: &Chain,
    made: &BTreeMap<&Change, Vec<u64>>,
) -> Result<(), String> {
    let (job, state) = (entry.job, states.get(&entry.job));
    let ends = entry.ends(states);
    let Some(state) = state.filter(|state| ends.contains(&state.kind())) else {
        return Err(format!("job {job} is lost or did not end as {ends:?}: {state:?}"));
    };
    let none = Vec::new();
    let numbers = |change: &Change| made.get(change).unwrap_or(&none).clone();
    if let JobState::Succeeded { unchanged: true, .. } = state {
        return Err(format!("job {job} says that there was nothing to publish, and every job here changes something"));
    }
    let JobState::Succeeded { revision, root_hash, .. } = state else {
        let happened = entry.changes.iter().find(|change| !numbers(change).is_empty());
        return happened.map_or(Ok(()), |change| {
            Err(format!("job {job} is {}, and yet {change:?} happened in {:?}", state.kind(), numbers(change)))
        });
    };
    if let Some(change) = entry.changes.iter().find(|change| numbers(change) != [*revision]) {
        return Err(format!(
            "job {job}: its state names revision {revision}, {change:?} happened in {:?}",
            numbers(change)
        ));
    }
    let first = chain.revisions.first().map_or(0, |first| first.number);
    let named = revision.checked_sub(first).and_then(|at| chain.revisions.get(usize::try_from(at).ok()?));
    if named.is_none_or(|named| named.root_hash != *root_hash) {
        return Err(format!("job {job}: revision {revision} does not have the root hash {root_hash}"));
    }
    Ok(())
}

/// In one repository, what waits for a job's success comes behind it.
fn check_order(entries: &[&Entry], states: &BTreeMap<JobId, JobState>) -> Vec<String> {
    let here: BTreeSet<JobId> = entries.iter().map(|entry| entry.job).collect();
    let mut wrong = Vec::new();
    for entry in entries {
        let Some(number) = revision_of(states.get(&entry.job)) else { continue };
        // One that waits for a mere end may have had it before that job was tried again, and succeeded.
        let success = entry.dependencies.iter().filter(|dependency| dependency.condition == Condition::Success);
        for before in success.map(|dependency| dependency.job_id).filter(|job| here.contains(job)) {
            if revision_of(states.get(&before)).is_some_and(|before| before >= number) {
                let job = entry.job;
                wrong.push(format!(
                    "job {job}: revision {number} is not behind that of job {before}, which it waits for"
                ));
            }
        }
    }
    wrong
}

/// One revision: it has its batch's tag, and did what its jobs asked for, neither more nor less.
fn check_revision(revision: &Revision, owners: &[&Entry], tags: &BTreeMap<u64, usize>) -> Result<(), String> {
    let number = revision.number;
    if owners.is_empty() {
        return Err(format!("revision {number} is that of 0 jobs"));
    }
    let asked: BTreeSet<&Change> = owners.iter().flat_map(|entry| &entry.changes).collect();
    let made: BTreeSet<&Change> = revision.changes.iter().collect();
    if asked != made {
        return Err(format!("revision {number} did {made:?}; its jobs asked for {asked:?}"));
    }
    let tags = tags.get(&number).copied().unwrap_or(0);
    if tags != 1 {
        return Err(format!("revision {number} has {tags} tags of batches"));
    }
    Ok(())
}

/// How many tags of batches each revision has.
fn tags_of_batches(chain: &Chain) -> BTreeMap<u64, usize> {
    let is_batch = |name: &str| name.strip_prefix("cj-").is_some_and(|id| uuid::Uuid::parse_str(id).is_ok());
    let mut tags = BTreeMap::new();
    chain.tags.iter().filter(|tag| is_batch(&tag.name)).for_each(|tag| *tags.entry(tag.revision).or_default() += 1);
    tags
}

fn revision_of(state: Option<&JobState>) -> Option<u64> {
    match state {
        Some(JobState::Succeeded { revision, .. }) => Some(*revision),
        _ => None,
    }
}
