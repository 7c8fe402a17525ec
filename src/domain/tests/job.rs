use std::collections::BTreeMap;

use jiff::Timestamp;
use proptest::prelude::*;

use super::{batch_id, job_id};
use crate::domain::digest::Sha256Digest;
use crate::domain::ids::BatchId;
use crate::domain::job::event::{Failure, JobEvent, Verdict};
use crate::domain::job::replay;
use crate::domain::job::state::{JobState, Progress, StateKind, next};

fn batch_of() -> impl Strategy<Value = BatchId> + Clone {
    (1u8..3).prop_map(batch_id)
}

fn verdict_of(number: u8) -> Verdict {
    match number % 3 {
        0 => Verdict::Published { revision: number.into(), root_hash: "ab".into() },
        1 => Verdict::NotPublished,
        _ => Verdict::GivenUp,
    }
}

/// Any event, with so few different values that they often fit.
pub(super) fn event() -> impl Strategy<Value = JobEvent> {
    use JobEvent as E;
    let batch = batch_of();
    let node = prop_oneof!["n1", "n2"];
    let text = "[a-z]{0,3}";
    let failure = text.prop_map(|message| Failure { code: "failed".into(), message });
    let at = (0i64..1000).prop_map(|s| Timestamp::from_second(s).unwrap());
    prop_oneof![
        1 => any::<(bool, bool, bool, bool)>().prop_map(|(waiting, needs_approval, dry_run, distributed)| E::Submitted { waiting, needs_approval, dry_run, distributed }),
        1 => Just(E::DependenciesMet),
        1 => Just(E::DependencyUnmet { dependency: job_id(9) }),
        1 => text.prop_map(|by| E::Approved { by }),
        4 => batch.clone().prop_map(|batch| E::Offered { batch }),
        1 => Just(E::OfferWithdrawn),
        6 => (batch, node.clone()).prop_map(|(batch, node)| E::Claimed { batch, node }),
        1 => any::<u8>().prop_map(|byte| E::SourcePinned { digest: Sha256Digest::of(&[byte]) }),
        1 => Just(E::CancelRequested),
        3 => any::<u64>().prop_map(|base_revision| E::PublishPermitted { base_revision }),
        1 => any::<u64>().prop_map(|revision| E::Succeeded { revision, root_hash: "ab".into(), outputs: BTreeMap::new() }),
        1 => any::<u64>().prop_map(|revision| E::Unchanged { revision, root_hash: "ab".into(), outputs: BTreeMap::new() }),
        1 => (failure, proptest::option::of(at.clone())).prop_map(|(failure, retry_at)| E::AttemptFailed { failure, retry_at }),
        1 => (at.clone(), text).prop_map(|(until, holder)| E::Busy { until, holder }),
        2 => at.clone().prop_map(|at| E::Distributing { since: at, until: at }),
        2 => Just(E::Visible),
        1 => text.prop_map(|lacking| E::NotVisible { lacking }),
        1 => Just(E::BackoffEnded),
        1 => Just(E::Released),
        3 => node.prop_map(|node| E::WorkerLost { node }),
        1 => Just(E::FoundUnpublished),
        1 => text.prop_map(|reason| E::RecoveryGivenUp { reason }),
        2 => (batch_of(), any::<u8>(), text).prop_map(|(batch, verdict, by)| E::Resolved { batch, verdict: verdict_of(verdict), by: by.clone(), reason: by }),
        1 => (batch_of(), text).prop_map(|(batch, evidence)| E::Contradicted { batch, evidence }),
        1 => Just(E::Restored { backup_at: Timestamp::UNIX_EPOCH }),
        1 => any::<bool>().prop_map(|waiting| E::Retried { waiting }),
    ]
}

/// Events as they come, of which only the legal ones happen.
fn live(events: &[JobEvent]) -> (Option<Progress>, Vec<JobEvent>) {
    let (mut progress, mut happened) = (None, Vec::new());
    for event in events {
        if let Ok(then) = next(progress.as_ref(), event) {
            progress = Some(then);
            happened.push(event.clone());
        }
    }
    (progress, happened)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn what_happened_adds_up_to_the_row(events in proptest::collection::vec(event(), 0..60)) {
        let (progress, happened) = live(&events);
        prop_assert_eq!(replay(&happened), Ok(progress));
    }

    #[test]
    fn a_final_state_is_left_by_a_retry_only_and_success_never(events in proptest::collection::vec(event(), 0..60)) {
        let mut progress: Option<Progress> = None;
        for event in &events {
            let Ok(then) = next(progress.as_ref(), event) else { continue };
            if let (Some(before), JobEvent::Contradicted { .. }) = (&progress, event) {
                prop_assert_eq!(before, &then, "evidence that comes late changes nothing");
            } else if let Some(before) = &progress {
                let retried = matches!(event, JobEvent::Retried { .. });
                prop_assert_eq!(before.state.is_final(), retried, "{:?} by {:?}", before.state, event);
                prop_assert_ne!(before.state.kind(), StateKind::Succeeded);
            }
            progress = Some(then);
        }
    }

    #[test]
    fn only_a_claim_begins_an_attempt_and_without_one_there_is_no_success(
        events in proptest::collection::vec(event(), 0..80)
    ) {
        let (_, happened) = live(&events);
        let (mut progress, mut claimed): (Option<Progress>, u32) = (None, 0);
        for event in &happened {
            let then = next(progress.as_ref(), event).unwrap();
            claimed += u32::from(matches!(event, JobEvent::Claimed { .. }));
            prop_assert_eq!(then.attempt, claimed);
            if matches!(event, JobEvent::Succeeded { .. }) {
                prop_assert!(claimed > 0, "no success without an attempt");
            }
            progress = Some(then);
        }
    }

    #[test]
    fn what_was_cancelled_is_never_permitted_to_publish(events in proptest::collection::vec(event(), 0..80)) {
        let (_, happened) = live(&events);
        let mut unwanted = false;
        for event in happened {
            match event {
                JobEvent::CancelRequested => unwanted = true,
                JobEvent::Retried { .. } => unwanted = false,
                JobEvent::PublishPermitted { .. } => prop_assert!(!unwanted),
                _ => {}
            }
        }
    }

    #[test]
    fn what_is_published_is_never_permitted_to_publish_again(events in proptest::collection::vec(event(), 0..80)) {
        let (_, happened) = live(&events);
        let mut published = false;
        for event in happened {
            match event {
                JobEvent::Succeeded { .. } | JobEvent::Resolved { verdict: Verdict::Published { .. }, .. } => published = true,
                JobEvent::Offered { .. } | JobEvent::Claimed { .. } | JobEvent::PublishPermitted { .. } => {
                    prop_assert!(!published);
                }
                _ => {}
            }
        }
    }

    #[test]
    fn progress_and_events_survive_their_json(events in proptest::collection::vec(event(), 0..40)) {
        let (progress, happened) = live(&events);
        let text = serde_json::to_string(&(&progress, &happened)).unwrap();
        prop_assert_eq!(serde_json::from_str::<(Option<Progress>, Vec<JobEvent>)>(&text).unwrap(), (progress, happened));
    }
}

#[test]
fn a_state_has_one_word_and_the_word_names_the_state() {
    for kind in StateKind::ALL {
        assert_eq!(StateKind::parse(kind.as_str()), Some(kind));
        assert_eq!(serde_json::to_value(kind).unwrap(), kind.as_str());
    }
    assert_eq!(StateKind::parse("Queued"), None);
}

#[test]
fn an_event_carries_its_word_in_its_json() {
    let events = super::table::events();
    for (_, event) in events {
        assert_eq!(serde_json::to_value(&event).unwrap()["event"], event.word());
    }
}

#[test]
fn a_retry_counts_failures_anew_and_goes_on_counting_attempts() {
    let batch = batch_id(1);
    let failure = Failure { code: "x".into(), message: "y".into() };
    let attempt = [
        JobEvent::Offered { batch },
        JobEvent::Claimed { batch, node: "n".into() },
        JobEvent::AttemptFailed { failure, retry_at: None },
    ];
    let first = JobEvent::Submitted { waiting: false, needs_approval: false, dry_run: false, distributed: false };
    let failed = replay([&first].into_iter().chain(&attempt)).unwrap().unwrap();
    assert_eq!((failed.attempt, failed.failures), (1, 1));
    let retried = next(Some(&failed), &JobEvent::Retried { waiting: false }).unwrap();
    assert_eq!((retried.attempt, retried.failures, retried.state), (1, 0, JobState::Queued));
}

#[test]
fn the_first_download_decides_for_all_attempts() {
    let batch = batch_id(1);
    let pin = |byte| JobEvent::SourcePinned { digest: Sha256Digest::of(&[byte]) };
    let events = [
        JobEvent::Submitted { waiting: false, needs_approval: false, dry_run: false, distributed: false },
        JobEvent::Offered { batch },
        JobEvent::Claimed { batch, node: "n".into() },
        pin(1),
    ];
    let pinned = replay(&events).unwrap().unwrap();
    assert!(next(Some(&pinned), &pin(2)).is_err());
    assert!(next(Some(&pinned), &pin(1)).is_err());
    assert_eq!(pinned.pinned, Some(Sha256Digest::of(&[1])));
}
