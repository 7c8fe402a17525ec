//! Events that lead to each state of a job, and a batch in each of its states.

use super::{batch_id, job_id, now};
use crate::domain::batch::{Batch, BatchJob, BatchState, Claim, Intent};
use crate::domain::digest::Sha256Digest;
use crate::domain::ids::InstanceId;
use crate::domain::job::event::{Failure, JobEvent};
use crate::domain::job::state::StateKind;

/// For each state the events after the first that lead there. Together they are all events there are.
pub(super) fn histories() -> Vec<(StateKind, Vec<JobEvent>)> {
    use JobEvent as E;
    let claimed = || vec![E::Offered { batch: batch_id(1) }, E::Claimed { batch: batch_id(1), node: "n1".into() }];
    let with = |more: Vec<JobEvent>| [claimed(), more].concat();
    let lost = || E::WorkerLost { node: "n1".into() };
    let failure = || Failure { code: "script_failed".into(), message: "exit status 3".into() };
    let pinned = E::SourcePinned { digest: Sha256Digest::of(b"x") };
    let permitted = || E::PublishPermitted { base_revision: 41 };
    let until = "2026-03-01T12:00:30Z".parse().unwrap();
    let succeeded = E::Succeeded {
        revision: 42,
        root_hash: "ab".repeat(20),
        outputs: [("tag".to_owned(), "v1".to_owned())].into(),
    };
    let unchanged = E::Unchanged { revision: 42, root_hash: "ab".repeat(20), outputs: Default::default() };
    let waits = || {
        let since = "2026-03-01T12:00:00Z".parse().unwrap();
        let succeeded = E::Succeeded { revision: 42, root_hash: "ab".repeat(20), outputs: Default::default() };
        vec![permitted(), succeeded, E::Distributing { since, until }]
    };
    let in_vain = || E::NotVisible { lacking: "http://s1.example.org/cvmfs/a.example.org serves revision 41".into() };
    vec![
        (StateKind::Distributing, with(waits())),
        (StateKind::Distributing, with([waits(), vec![in_vain(), E::Retried { waiting: false }]].concat())),
        (StateKind::Failed, with([waits(), vec![in_vain()]].concat())),
        (StateKind::Succeeded, with([waits(), vec![E::Visible]].concat())),
        (StateKind::Waiting, vec![]),
        (StateKind::AwaitingApproval, vec![E::DependenciesMet]),
        (StateKind::Queued, vec![E::Offered { batch: batch_id(9) }, E::OfferWithdrawn]),
        (StateKind::Queued, with(vec![E::Released])),
        (StateKind::Queued, with(vec![E::Busy { until, holder: "a person".into() }, E::BackoffEnded])),
        (StateKind::Queued, vec![E::CancelRequested, E::Retried { waiting: false }]),
        (StateKind::Queued, with(vec![lost(), E::FoundUnpublished])),
        (StateKind::Backoff, with(vec![E::AttemptFailed { failure: failure(), retry_at: Some(until) }])),
        (StateKind::Offered, vec![E::Offered { batch: batch_id(2) }]),
        (StateKind::Running, with(vec![pinned, E::CancelRequested])),
        (StateKind::Running, with(vec![permitted()])),
        (StateKind::Recovering, with(vec![permitted(), lost()])),
        (StateKind::NeedsOperator, with(vec![lost(), E::RecoveryGivenUp { reason: "no manifest".into() }])),
        (StateKind::Succeeded, with(vec![permitted(), succeeded])),
        (StateKind::Succeeded, with(vec![unchanged])),
        (StateKind::Failed, with(vec![E::AttemptFailed { failure: failure(), retry_at: None }])),
        (StateKind::Cancelled, vec![E::CancelRequested]),
        (StateKind::Skipped, vec![E::DependencyUnmet { dependency: job_id(1) }]),
        (StateKind::Queued, vec![E::DependenciesMet, E::Approved { by: "somebody".into() }]),
    ]
}

/// The first event of a history: what comes after it tells what it was.
pub(super) fn first(kind: StateKind, rest: &[JobEvent]) -> JobEvent {
    let waits = matches!(rest.first(), Some(JobEvent::DependenciesMet | JobEvent::DependencyUnmet { .. }));
    let approved = rest.iter().any(|event| matches!(event, JobEvent::Approved { .. }));
    JobEvent::Submitted {
        waiting: waits || kind == StateKind::Waiting,
        needs_approval: approved || kind == StateKind::AwaitingApproval,
        dry_run: false,
        distributed: rest.iter().any(|event| matches!(event, JobEvent::Distributing { .. })),
    }
}

/// A batch in each state.
pub(super) fn batches() -> Vec<Batch> {
    let claim =
        || Claim { token: "1.token".into(), epoch: 1, node: "n1".into(), instance: InstanceId(super::uuid(77)) };
    let intent = Intent { base_revision: 41, base_root_hash: "cd".repeat(20), changed_paths_digest: "ef".repeat(32) };
    let states = [
        BatchState::Unsent,
        BatchState::Offered { sent_at: now() },
        BatchState::Claimed { claim: claim() },
        BatchState::Publishing { claim: claim(), intent: intent.clone() },
        BatchState::Recovering { node: "n1".into(), since: now(), claim: claim(), intent: None },
        BatchState::Recovering { node: "n1".into(), since: now(), claim: claim(), intent: Some(intent) },
        BatchState::Settled,
    ];
    (1..)
        .zip(states)
        .map(|(number, state)| Batch {
            id: batch_id(number),
            fleet: "default".into(),
            repository: "a.example.org".parse().unwrap(),
            lease_path: "/releases".parse().unwrap(),
            jobs: vec![BatchJob { job_id: job_id(number), attempt: 1 }],
            generation: 2,
            state,
        })
        .collect()
}
