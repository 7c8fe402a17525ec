//! The ledger: what was asked for, kept outside Conveyor, and compared with what the repositories say.

use std::collections::BTreeMap;

use conveyor::domain::ids::JobId;
use conveyor::domain::job::state::JobState;

use super::chain::{Chain, Change, Revision};

/// One accepted job and the one change that it stands for.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) job: JobId,
    pub(super) repository: String,
    pub(super) change: Change,
}

/// Compares every entry with its job's state and with the chains; tells all that is wrong.
pub(super) fn check(
    entries: &[Entry],
    states: &BTreeMap<JobId, JobState>,
    chains: &BTreeMap<String, Chain>,
) -> Vec<String> {
    let mut wrong: Vec<String> = chains.values().flat_map(Chain::repetitions).collect();
    for (repository, chain) in chains {
        let mine = || entries.iter().filter(|entry| entry.repository == *repository);
        wrong.extend(mine().filter_map(|entry| check_entry(entry, states.get(&entry.job), chain).err()));
        wrong.extend(chain.revisions.iter().skip(1).filter_map(|revision| {
            let owners = mine().filter(|entry| revision_of(states.get(&entry.job)) == Some(revision.number)).count();
            (owners != 1).then(|| format!("{repository}: revision {} is that of {owners} jobs", revision.number))
        }));
    }
    wrong
}

/// One job: published, in exactly one revision, which is the one that its state names, with its tag.
fn check_entry(entry: &Entry, state: Option<&JobState>, chain: &Chain) -> Result<(), String> {
    let job = entry.job;
    let Some(JobState::Succeeded { revision, root_hash }) = state else {
        return Err(format!("job {job} is lost or did not succeed: {state:?}"));
    };
    let made = |made: &&Revision| made.changes.contains(&entry.change);
    let numbers: Vec<u64> = chain.revisions.iter().filter(made).map(|revision| revision.number).collect();
    if numbers != [*revision] {
        return Err(format!(
            "job {job}: its state names revision {revision}, {:?} happened in {numbers:?}",
            entry.change
        ));
    }
    let is_named = |made: &Revision| made.number == *revision && made.root_hash == *root_hash;
    if !chain.revisions.iter().any(is_named) {
        return Err(format!("job {job}: revision {revision} does not have the root hash {root_hash}"));
    }
    let is_its_tag = |name: &str| name.strip_prefix("cj-").is_some_and(|id| uuid::Uuid::parse_str(id).is_ok());
    let tags = chain.tags.iter().filter(|tag| tag.revision == *revision && is_its_tag(&tag.name)).count();
    if tags != 1 {
        return Err(format!("job {job}: revision {revision} has {tags} tags of batches"));
    }
    Ok(())
}

fn revision_of(state: Option<&JobState>) -> Option<u64> {
    match state {
        Some(JobState::Succeeded { revision, .. }) => Some(*revision),
        _ => None,
    }
}
