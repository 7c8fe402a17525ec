//! What a run was like.

use std::collections::BTreeMap;
use std::time::Duration;

use conveyor::domain::job::state::JobState;
use serde::Serialize;

use super::Settled;
use super::plan::Fault;
use super::run::Happened;
use super::site::{NODES, Target};
use super::stories::Publishing;

/// The figures.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    seed: u64,
    seconds: u64,
    faults: usize,
    /// How often what happened.
    by_kind: BTreeMap<String, usize>,
    /// `kill -9` of the server or a worker that fell between a permission to publish and its outcome, that worker's own.
    pub(super) between: usize,
    between_by_kind: BTreeMap<String, usize>,
    /// Attempts whose worker was lost before its permission to publish, and behind it.
    lost_staging: usize,
    lost_publishing: usize,
    /// Milliseconds from permission to outcome where no worker was lost: the median.
    publishing_ms: i64,
    submissions: usize,
    jobs: usize,
    by_state: BTreeMap<String, usize>,
    retried: usize,
    revisions: BTreeMap<String, usize>,
    /// Revisions of more than one job, and the most jobs of one.
    shared: usize,
    most_jobs: usize,
    /// Scripts that ran more than once, of all that ran.
    scripts: usize,
    scripts_again: usize,
    wrong: usize,
}

impl Report {
    pub(super) fn of(seed: u64, time: Duration, happened: &[Happened], settled: &Settled, signed: &[String]) -> Self {
        let heard = settled.stories.heard();
        let met = |happened: &&Happened| heard.publishing.iter().any(|publishing| is_met(happened, publishing));
        let between_by_kind = count(happened.iter().filter(met).map(|happened| kind(&happened.fault)));
        let kills = |target: Target| between_by_kind.get(&format!("kill {target}")).copied().unwrap_or(0);
        let mut runs: BTreeMap<&str, usize> = BTreeMap::new();
        for job in signed {
            *runs.entry(job).or_default() += 1;
        }
        let mut times: Vec<i64> = heard
            .publishing
            .iter()
            .filter(|publishing| !publishing.lost)
            .map(|publishing| publishing.to.as_millisecond() - publishing.from.as_millisecond())
            .collect();
        times.sort_unstable();
        let mut together: BTreeMap<(&str, u64), usize> = BTreeMap::new();
        for entry in &settled.asked.entries {
            if let Some(JobState::Succeeded { revision, .. }) = settled.states.get(&entry.job) {
                *together.entry((&entry.repository, *revision)).or_default() += 1;
            }
        }
        let revisions = settled.chains.iter().map(|(name, chain)| (name.clone(), chain.revisions.len()));
        Self {
            seed,
            seconds: time.as_secs(),
            faults: happened.len(),
            by_kind: count(happened.iter().map(|happened| kind(&happened.fault))),
            between: kills(Target::Server) + kills(Target::Worker(0)),
            between_by_kind,
            lost_staging: heard.lost_staging,
            lost_publishing: heard.publishing.iter().filter(|publishing| publishing.lost).count(),
            publishing_ms: times.get(times.len() / 2).copied().unwrap_or(0),
            submissions: settled.asked.submissions,
            jobs: settled.asked.entries.len(),
            by_state: count(settled.states.values().map(|state| state.kind().to_string())),
            retried: settled.asked.retried,
            revisions: revisions.collect(),
            shared: together.values().filter(|jobs| **jobs > 1).count(),
            most_jobs: together.values().max().copied().unwrap_or(0),
            scripts: runs.len(),
            scripts_again: runs.values().filter(|runs| **runs > 1).count(),
            wrong: settled.wrong.len(),
        }
    }
}

/// Whether it happened between a permission and its outcome, to somebody whom that concerns.
pub(super) fn is_met(happened: &Happened, publishing: &Publishing) -> bool {
    let concerns = match happened.fault {
        Fault::Kill { target, .. } | Fault::Stop { target } | Fault::Freeze { target, .. } => match target {
            Target::Worker(number) => NODES[number] == publishing.node,
            Target::Server => true,
            Target::Broker => false,
        },
        Fault::Cut { .. } | Fault::Silence { .. } => false,
    };
    concerns && publishing.from <= happened.at && happened.at <= publishing.to
}

fn kind(fault: &Fault) -> String {
    match fault {
        Fault::Kill { target, .. } => format!("kill {target}"),
        Fault::Stop { target } => format!("stop {target}"),
        Fault::Freeze { target, time } if time.as_secs() >= 60 => format!("freeze {target} for {} s", time.as_secs()),
        Fault::Freeze { target, .. } => format!("freeze {target} shortly"),
        Fault::Cut { link } => format!("cut {link}"),
        Fault::Silence { link, .. } => format!("silence {link}"),
    }
}

fn count(names: impl Iterator<Item = String>) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    names.for_each(|name| *counts.entry(name).or_default() += 1);
    counts
}
