use jiff::Timestamp;
use proptest::prelude::*;

use super::{batch_id, instance, job_id};
use crate::domain::batch::{Batch, BatchError, BatchJob, BatchState, Claim, Intent};

fn batch() -> Batch {
    Batch {
        id: batch_id(1),
        fleet: "f".into(),
        repository: "a.example.org".parse().unwrap(),
        lease_path: "/".parse().unwrap(),
        jobs: vec![BatchJob { job_id: job_id(1), attempt: 1 }],
        generation: 1,
        state: BatchState::Unsent,
    }
}

fn claim(who: u8, token: u32) -> Claim {
    Claim { token: token.to_string(), epoch: 1, node: format!("n{who}"), instance: instance(who) }
}

fn intent(base_revision: u64) -> Intent {
    Intent { base_revision, base_root_hash: String::new(), changed_paths_digest: String::new() }
}

const NOW: Timestamp = Timestamp::UNIX_EPOCH;

#[test]
fn the_same_instance_claiming_again_gets_the_claim_it_has() {
    let mut batch = batch();
    assert!(batch.claim(1, claim(1, 10)).unwrap().1);
    let (again, is_new) = batch.claim(1, claim(1, 11)).unwrap();
    assert_eq!((again.token.as_str(), is_new), ("10", false));
    let taken = batch.claim(1, claim(2, 12)).unwrap_err();
    assert_eq!(taken, BatchError::Taken { node: "n1".into() });
}

#[test]
fn an_offer_of_an_older_generation_is_stale() {
    let mut batch = batch();
    batch.sent(NOW).unwrap();
    batch.offer_again().unwrap();
    assert_eq!((batch.generation, batch.state.clone()), (2, BatchState::Unsent));
    assert_eq!(batch.claim(1, claim(1, 1)).unwrap_err(), BatchError::Stale { current: 2, offered: 1 });
    assert_eq!(batch.claim(3, claim(1, 1)).unwrap_err(), BatchError::Stale { current: 2, offered: 3 });
    assert!(batch.claim(2, claim(1, 1)).is_ok());
    assert!(matches!(batch.offer_again(), Err(BatchError::NotNow { .. })), "what is claimed is not offered");
}

#[test]
fn the_permission_is_for_the_live_claim_and_for_one_intent() {
    let mut batch = batch();
    assert_eq!(batch.permit("1", intent(5)), Err(BatchError::ClaimLost));
    batch.claim(1, claim(1, 1)).unwrap();
    assert_eq!(batch.permit("2", intent(5)), Err(BatchError::ClaimLost));
    batch.permit("1", intent(5)).unwrap();
    batch.permit("1", intent(5)).unwrap();
    assert!(matches!(batch.permit("1", intent(6)), Err(BatchError::NotNow { .. })));
    batch.lose(NOW).unwrap();
    assert_eq!(batch.permit("1", intent(5)), Err(BatchError::ClaimLost));
}

#[test]
fn a_late_outcome_counts_only_after_the_permission() {
    let mut batch = batch();
    batch.claim(1, claim(1, 1)).unwrap();
    let mut unpermitted = batch.clone();
    unpermitted.lose(NOW).unwrap();
    assert_eq!(unpermitted.may_report("1"), Err(BatchError::ClaimLost));
    batch.permit("1", intent(5)).unwrap();
    batch.lose(NOW).unwrap();
    assert_eq!(batch.may_report("1"), Ok(()));
    assert_eq!(batch.may_report("2"), Err(BatchError::ClaimLost));
    batch.state = BatchState::Settled;
    assert_eq!(batch.may_report("1"), Err(BatchError::Settled));
}

#[test]
fn what_is_lost_can_only_be_settled() {
    let mut batch = batch();
    batch.claim(1, claim(1, 1)).unwrap();
    batch.lose(NOW).unwrap();
    assert_eq!(batch.state.node(), Some("n1"));
    assert!(batch.claim(1, claim(1, 2)).is_err() && batch.claim(1, claim(2, 2)).is_err());
    assert!(batch.sent(NOW).is_err() && batch.offer_again().is_err() && batch.lose(NOW).is_err());
}

#[test]
fn a_token_is_not_shown_in_debug_output() {
    let mut batch = batch();
    batch.claim(1, Claim { token: "very-secret".into(), ..claim(1, 1) }).unwrap();
    assert!(!format!("{batch:?}").contains("very-secret"));
}

#[derive(Debug, Clone)]
enum Step {
    Sent,
    OfferAgain,
    Claim { generation: u32, who: u8 },
    Permit { token: u32, base: u64 },
    Lose,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        Just(Step::Sent),
        Just(Step::OfferAgain),
        (1u32..4, 1u8..4).prop_map(|(generation, who)| Step::Claim { generation, who }),
        (0u32..20, 0u64..2).prop_map(|(token, base)| Step::Permit { token, base }),
        Just(Step::Lose),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn a_batch_is_given_away_at_most_once_and_an_error_changes_nothing(steps in proptest::collection::vec(step(), 0..40)) {
        let mut batch = batch();
        let mut given: Option<Claim> = None;
        for (number, step) in (0u32..).zip(steps) {
            let before = batch.clone();
            let done = match step {
                Step::Sent => batch.sent(NOW),
                Step::OfferAgain => batch.offer_again(),
                Step::Claim { generation, who } => match batch.claim(generation, claim(who, number)) {
                    Ok((granted, true)) => {
                        prop_assert_eq!(generation, before.generation);
                        prop_assert!(given.is_none(), "given to {:?} and to {:?}", given, granted);
                        given = Some(granted.clone());
                        Ok(())
                    }
                    Ok((granted, false)) => {
                        prop_assert_eq!(Some(granted), given.as_ref());
                        Ok(())
                    }
                    Err(error) => Err(error),
                },
                Step::Permit { token, base } => batch.permit(&token.to_string(), intent(base)),
                Step::Lose => batch.lose(NOW),
            };
            if done.is_err() {
                prop_assert_eq!(&batch, &before);
            }
            prop_assert!(batch.generation >= before.generation);
            if let Some(live) = batch.state.claim() {
                prop_assert_eq!(Some(live), given.as_ref());
            }
        }
    }
}
