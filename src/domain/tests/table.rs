//! The whole transition table, to be read and to be pinned: every state, every event, and where it leads.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::{batch_id, job_id};
use crate::domain::digest::Sha256Digest;
use crate::domain::job::event::{Failure, JobEvent, Verdict};
use crate::domain::job::state::{JobState, Phase, Progress, Published, StateKind, next};

/// Small letters stay in the life of a job, capitals end it; `p` publishing or published, `c` cancelling, `f` at first, `.` illegal.
const TABLE: &str = r"
                          sub met unm app off wdr clm pin can per suc fai lst bus bke rel los fnd giv rsp rsn rsg rst con ret bfa dea dis vis niv unc
not submitted             que .   .   .   .   .   .   .   .   .   .   .   .   .   .   .   .   .   .   .   .   .   .   .   .   .   .   .   .   .   .
waiting                   .   que SKI .   .   .   .   .   CAN .   .   .   .   .   .   .   .   .   .   .   .   .   FAI wai .   .   FAI .   .   .   .
awaiting_approval         .   .   .   que .   .   .   .   CAN .   .   .   .   .   .   .   .   .   .   .   .   .   FAI app .   .   FAI .   .   .   .
queued                    .   .   .   .   off .   .   .   CAN .   .   .   .   .   .   .   .   .   .   .   .   .   FAI que .   .   FAI .   .   .   .
backoff                   .   .   .   .   .   .   .   .   CAN .   .   .   .   .   que .   .   .   .   .   .   .   FAI bac .   .   FAI .   .   .   .
offered                   .   .   .   .   .   que ru  .   CAN .   .   .   .   .   .   .   .   .   .   .   .   .   FAI off .   .   FAI .   .   .   .
running                   .   .   .   .   .   .   .   ru  ruc rup .   bac FAI bac .   que re  .   .   .   .   .   .   ru  .   bac .   .   .   .   SUC
running cancelling        .   .   .   .   .   .   .   ruc .   .   .   CAN CAN CAN .   CAN rec .   .   .   .   .   .   ruc .   CAN .   .   .   .   CAN
running publishing        .   .   .   .   .   .   .   .   .   .   SUC bac FAI bac .   que rep .   .   .   .   .   .   rup .   bac .   .   .   .   .
recovering                .   .   .   .   .   .   .   .   rec .   SUC .   FAI .   .   .   .   que ne  .   .   .   rec re  .   .   .   .   .   .   .
recovering cancelling     .   .   .   .   .   .   .   .   .   .   SUC .   CAN .   .   .   .   CAN nec .   .   .   rec rec .   .   .   .   .   .   .
recovering publishing     .   .   .   .   .   .   .   .   .   .   SUC .   FAI .   .   .   .   que nep .   .   .   rep rep .   .   .   .   .   .   .
needs_operator            .   .   .   .   .   .   .   .   nec .   SUC .   .   .   .   .   .   que .   SUC que FAI nec ne  .   .   .   .   .   .   .
needs_operator cancelling .   .   .   .   .   .   .   .   .   .   SUC .   .   .   .   .   .   CAN .   SUC CAN CAN nec nec .   .   .   .   .   .   .
needs_operator publishing .   .   .   .   .   .   .   .   .   .   SUC .   .   .   .   .   .   que .   SUC que FAI nep nep .   .   .   .   .   .   .
distributing at first     .   .   .   .   .   .   .   .   .   .   .   .   .   .   .   .   .   .   .   .   .   .   .   dif .   .   .   di  .   .   .
distributing              .   .   .   .   .   .   .   .   .   .   .   .   .   .   .   .   .   .   .   .   .   .   .   di  .   .   .   .   SUC FAp .
succeeded                 .   .   .   .   .   .   .   .   .   .   .   .   .   .   .   .   .   .   .   .   .   .   .   SUC .   .   .   .   .   .   .
failed                    .   .   .   .   .   .   .   .   .   .   .   .   .   .   .   .   .   .   .   .   .   .   .   FAI que .   .   .   .   .   .
failed published          .   .   .   .   .   .   .   .   .   .   .   .   .   .   .   .   .   .   .   .   .   .   .   FAp dif .   .   .   .   .   .
cancelled                 .   .   .   .   .   .   .   .   .   .   .   .   .   .   .   .   .   .   .   .   .   .   .   CAN que .   .   .   .   .   .
skipped                   .   .   .   .   .   .   .   .   .   .   .   .   .   .   .   .   .   .   .   .   .   .   .   SKI que .   .   .   .   .   .
";

/// Every event that there is, with its column. A failure has two: with another attempt, and without; a verdict has three.
pub(super) fn events() -> Vec<(&'static str, JobEvent)> {
    use JobEvent as E;
    let failure = || Failure { code: "c".into(), message: "m".into() };
    let (batch, node, until) = (batch_id(1), "n".to_owned(), Timestamp::UNIX_EPOCH);
    let resolved = |verdict| E::Resolved { batch, verdict, by: "b".into(), reason: "r".into() };
    vec![
        ("sub", E::Submitted { waiting: false, needs_approval: false, dry_run: false, distributed: false }),
        ("met", E::DependenciesMet),
        ("unm", E::DependencyUnmet { dependency: job_id(1) }),
        ("app", E::Approved { by: "b".into() }),
        ("off", E::Offered { batch }),
        ("wdr", E::OfferWithdrawn),
        ("clm", E::Claimed { batch, node: node.clone() }),
        ("pin", E::SourcePinned { digest: Sha256Digest::of(b"") }),
        ("can", E::CancelRequested),
        ("per", E::PublishPermitted { base_revision: 1 }),
        ("suc", E::Succeeded { revision: 2, root_hash: "r".into(), outputs: BTreeMap::new() }),
        ("fai", E::AttemptFailed { failure: failure(), retry_at: Some(until) }),
        ("lst", E::AttemptFailed { failure: failure(), retry_at: None }),
        ("bus", E::Busy { until, holder: "h".into() }),
        ("bke", E::BackoffEnded),
        ("rel", E::Released),
        ("los", E::WorkerLost { node }),
        ("fnd", E::FoundUnpublished),
        ("giv", E::RecoveryGivenUp { reason: "r".into() }),
        ("rsp", resolved(Verdict::Published { revision: 2, root_hash: "r".into() })),
        ("rsn", resolved(Verdict::NotPublished)),
        ("rsg", resolved(Verdict::GivenUp)),
        ("rst", E::Restored { backup_at: until }),
        ("con", E::Contradicted { batch, evidence: "e".into() }),
        ("ret", E::Retried { waiting: false }),
        ("bfa", E::BatchFailed { failure: failure(), together: 2, until }),
        ("dea", E::DeadlinePassed),
        ("dis", E::Distributing { since: until, until }),
        ("vis", E::Visible),
        ("niv", E::NotVisible { lacking: "l".into() }),
        ("unc", E::Unchanged { revision: 2, root_hash: "r".into(), outputs: BTreeMap::new() }),
    ]
}

/// Every state that there is; those that differ in what may happen have a row each.
fn states() -> Vec<JobState> {
    use JobState as S;
    let (batch, node, reason) = (batch_id(1), || "n".to_owned(), || "r".to_owned());
    let running = |phase, cancel_requested| S::Running { batch, node: node(), phase, cancel_requested };
    let recovering = |publishing, cancel_requested| S::Recovering { batch, node: node(), publishing, cancel_requested };
    let unclear = |publishing, cancel_requested| S::NeedsOperator {
        batch,
        node: node(),
        publishing,
        cancel_requested,
        reason: reason(),
    };
    vec![
        S::Waiting,
        S::AwaitingApproval,
        S::Queued,
        S::Backoff { until: Timestamp::UNIX_EPOCH, reason: reason() },
        S::Offered { batch },
        running(Phase::Staging, false),
        running(Phase::Staging, true),
        running(Phase::Publishing, false),
        recovering(false, false),
        recovering(false, true),
        recovering(true, false),
        unclear(false, false),
        unclear(false, true),
        unclear(true, false),
        S::Distributing { revision: 2, root_hash: "r".into(), unchanged: false, since: None, until: None },
        distributing(),
        S::Succeeded { revision: 2, root_hash: "r".into(), unchanged: false },
        S::Failed { failure: Failure { code: "c".into(), message: "m".into() }, published: None },
        S::Failed { failure: Failure { code: "c".into(), message: "m".into() }, published: Some(there()) },
        S::Cancelled,
        S::Skipped { dependency: job_id(1) },
    ]
}

fn there() -> Published {
    Published { revision: 2, root_hash: "r".into(), unchanged: false }
}

fn distributing() -> JobState {
    let at = Some(Timestamp::UNIX_EPOCH);
    JobState::Distributing { revision: 2, root_hash: "r".into(), unchanged: false, since: at, until: at }
}

fn label(state: &JobState) -> String {
    let details = match state {
        JobState::Running { phase: Phase::Publishing, .. }
        | JobState::Recovering { publishing: true, .. }
        | JobState::NeedsOperator { publishing: true, .. } => " publishing",
        JobState::Running { cancel_requested: true, .. }
        | JobState::Recovering { cancel_requested: true, .. }
        | JobState::NeedsOperator { cancel_requested: true, .. } => " cancelling",
        JobState::Distributing { until: None, .. } => " at first",
        JobState::Failed { published: Some(_), .. } => " published",
        _ => "",
    };
    format!("{}{details}", state.kind())
}

fn cell(state: &JobState) -> String {
    let short = match state.kind() {
        StateKind::Waiting => "wai",
        StateKind::AwaitingApproval => "app",
        StateKind::Queued => "que",
        StateKind::Backoff => "bac",
        StateKind::Offered => "off",
        StateKind::Running => "ru",
        StateKind::Recovering => "re",
        StateKind::NeedsOperator => "ne",
        StateKind::Distributing => "di",
        StateKind::Succeeded => "SUC",
        StateKind::Failed => "FAI",
        StateKind::Cancelled => "CAN",
        StateKind::Skipped => "SKI",
    };
    match label(state) {
        label if label.ends_with("at first") => format!("{short}f"),
        label if label.ends_with("published") => format!("{}p", &short[..2]),
        label if label.ends_with("publishing") => format!("{short}p"),
        label if label.ends_with("cancelling") => format!("{short}c"),
        _ => short.to_owned(),
    }
}

fn progress(state: JobState) -> Progress {
    let distributed = matches!(state, JobState::Distributing { .. } | JobState::Failed { published: Some(_), .. });
    Progress {
        state,
        attempt: 1,
        needs_approval: false,
        dry_run: false,
        distributed,
        failures: 0,
        interruptions: 0,
        together: None,
        pinned: None,
        outputs: BTreeMap::new(),
    }
}

#[test]
fn every_event_leads_from_every_state_where_the_table_says() {
    let columns = |cells: Vec<String>| cells.iter().map(|cell| format!(" {cell:<3}")).collect::<String>();
    let line = |head: &str, cells: Vec<String>| format!("{}\n", format!("{head:<25}{}", columns(cells)).trim_end());
    let mut table = line("", events().into_iter().map(|(name, _)| name.to_owned()).collect());
    let row = |current: Option<&Progress>| -> Vec<String> {
        events().iter().map(|(_, event)| next(current, event).map_or(".".into(), |then| cell(&then.state))).collect()
    };
    table += &line("not submitted", row(None));
    for state in states() {
        table += &line(&label(&state), row(Some(&progress(state))));
    }
    assert!(table == TABLE[1..], "the table is now\n{table}");
}

#[test]
fn the_table_has_every_state_and_every_event() {
    let kinds: std::collections::BTreeSet<_> = states().iter().map(JobState::kind).collect();
    assert_eq!(kinds.len(), StateKind::ALL.len());
    let words: std::collections::BTreeSet<_> = events().iter().map(|(_, event)| event.word()).collect();
    assert_eq!(words.len(), 28);
}

#[test]
fn an_event_of_another_batch_or_node_is_illegal() {
    let offered = progress(JobState::Offered { batch: batch_id(1) });
    assert!(next(Some(&offered), &JobEvent::Claimed { batch: batch_id(2), node: "n".into() }).is_err());
    let running = next(Some(&offered), &JobEvent::Claimed { batch: batch_id(1), node: "n".into() }).unwrap();
    assert!(next(Some(&running), &JobEvent::WorkerLost { node: "other".into() }).is_err());
}

#[test]
fn nothing_to_publish_is_no_end_once_the_publish_was_permitted() {
    let unchanged =
        JobEvent::Unchanged { revision: 2, root_hash: "r".into(), outputs: [("k".to_owned(), "v".to_owned())].into() };
    let running = |phase| JobState::Running { batch: batch_id(1), node: "n".into(), phase, cancel_requested: false };
    let then = next(Some(&progress(running(Phase::Staging))), &unchanged).unwrap();
    assert_eq!(then.state, JobState::Succeeded { revision: 2, root_hash: "r".into(), unchanged: true });
    assert_eq!(then.outputs["k"], "v");
    assert!(next(Some(&progress(running(Phase::Publishing))), &unchanged).is_err());
}

#[test]
fn a_dry_run_is_never_permitted_to_publish() {
    let submitted = JobEvent::Submitted { waiting: false, needs_approval: false, dry_run: true, distributed: false };
    let mut job = next(None, &submitted).unwrap();
    for event in [JobEvent::Offered { batch: batch_id(1) }, JobEvent::Claimed { batch: batch_id(1), node: "n".into() }]
    {
        job = next(Some(&job), &event).unwrap();
    }
    assert!(next(Some(&job), &JobEvent::PublishPermitted { base_revision: 1 }).is_err());
    assert!(
        next(Some(&job), &JobEvent::Succeeded { revision: 2, root_hash: "r".into(), outputs: BTreeMap::new() })
            .is_err()
    );
}

/// A job with URLs, one step before its publish is known.
fn with_urls(phase: Phase) -> Progress {
    let state = JobState::Running { batch: batch_id(1), node: "n".into(), phase, cancel_requested: false };
    Progress { distributed: true, ..progress(state) }
}

#[test]
fn a_job_with_urls_succeeds_only_once_they_serve_its_revision() {
    let batch = batch_id(1);
    let succeeded = JobEvent::Succeeded { revision: 2, root_hash: "r".into(), outputs: BTreeMap::new() };
    let unchanged = JobEvent::Unchanged { revision: 2, root_hash: "r".into(), outputs: BTreeMap::new() };
    let verdict = Verdict::Published { revision: 2, root_hash: "r".into() };
    let resolved = JobEvent::Resolved { batch, verdict, by: "b".into(), reason: String::new() };
    let unclear = JobState::NeedsOperator {
        batch,
        node: "n".into(),
        publishing: true,
        cancel_requested: false,
        reason: String::new(),
    };
    let unclear = Progress { distributed: true, ..progress(unclear) };
    let ways = [(with_urls(Phase::Publishing), succeeded), (with_urls(Phase::Staging), unchanged), (unclear, resolved)];
    let at = Timestamp::UNIX_EPOCH;
    for (before, event) in ways {
        let published = next(Some(&before), &event).unwrap();
        assert_eq!(published.state.kind(), StateKind::Distributing, "{event:?}");
        assert!(next(Some(&published), &JobEvent::Visible).is_err(), "nothing waits yet");
        let waits = next(Some(&published), &JobEvent::Distributing { since: at, until: at }).unwrap();
        assert!(next(Some(&waits), &JobEvent::CancelRequested).is_err());
        let then = next(Some(&waits), &JobEvent::Visible).unwrap();
        let was_unchanged = matches!(event, JobEvent::Unchanged { .. });
        let want = JobState::Succeeded { revision: 2, root_hash: "r".into(), unchanged: was_unchanged };
        assert_eq!(then.state, want);
    }
}

#[test]
fn a_retry_of_what_is_published_waits_again_and_never_publishes() {
    let waits = Progress { distributed: true, ..progress(distributing()) };
    let failed = next(Some(&waits), &JobEvent::NotVisible { lacking: "http://a/x serves revision 1".into() }).unwrap();
    let JobState::Failed { failure, published } = &failed.state else { panic!("{failed:?}") };
    assert_eq!((failure.code.as_str(), published), ("not_visible", &Some(there())));
    assert!(failure.message.contains("published as revision 2"), "{failure:?}");
    assert!(failure.message.contains("http://a/x serves revision 1"), "{failure:?}");
    let again = next(Some(&failed), &JobEvent::Retried { waiting: false }).unwrap();
    let state =
        JobState::Distributing { revision: 2, root_hash: "r".into(), unchanged: false, since: None, until: None };
    assert_eq!((again.state, again.attempt), (state, failed.attempt));
    assert!(next(Some(&failed), &JobEvent::Retried { waiting: true }).is_err(), "it waits for no job any more");
}
