//! What is pruned, and what is not.

use std::time::{Duration, Instant};

use super::{REPOSITORY, Rig};
use crate::app::Pruned;
use crate::domain::batch::BatchState;
use crate::domain::digest::Sha256Digest;
use crate::domain::ids::JobId;
use crate::domain::job::spec::JobSpec;
use crate::domain::outcome::Outcome;
use crate::domain::retention::Retention;
use crate::store::Store;
use crate::store::blobs::BlobStore;

const DAY: Duration = Duration::from_secs(24 * 3600);

fn for_ever() -> Retention {
    let (jobs, jobs_max, logs, logs_max_bytes, blobs, blobs_max_bytes) = (None, None, None, None, None, None);
    Retention { jobs, jobs_max, logs, logs_max_bytes, blobs, blobs_max_bytes, interval: DAY }
}

fn spec(repository: &str, depends_on: &[JobId], blob: Option<Sha256Digest>) -> JobSpec {
    let payload = match blob {
        Some(digest) => serde_json::json!({"type": "tarball", "source": {"from": "blob", "digest": digest}}),
        None => serde_json::json!({"type": "empty"}),
    };
    let dependencies: Vec<_> = depends_on.iter().map(|id| serde_json::json!({"job_id": id})).collect();
    serde_json::from_value(serde_json::json!({
        "id": uuid::Uuid::now_v7(), "name": "one", "labels": {"a": "b"}, "dependencies": dependencies,
        "work": {"kind": "publish", "repository": repository, "payload": payload},
    }))
    .unwrap()
}

impl Rig {
    /// One round, from its beginning to its end.
    async fn round(&self, retention: &Retention) -> Pruned {
        self.engine.begin_round();
        let mut round = self.engine.begin_round().unwrap();
        while self.engine.prune(retention, &mut round).await.unwrap() {}
        round.pruned()
    }

    async fn submit_all(&self, specs: Vec<JobSpec>) -> Vec<JobId> {
        let ids = specs.iter().map(|spec| spec.id).collect();
        self.engine.submit(None, specs).await.unwrap();
        ids
    }

    async fn succeed_next(&self) -> super::Held {
        let held = self.claim("default").await;
        self.permit(&held).await;
        let outcome = Outcome::Succeeded { revision: 7, root_hash: "ef".into(), outputs: Default::default() };
        self.report(&held, outcome).await;
        held
    }

    async fn exists(&self, id: JobId) -> bool {
        self.engine.job(id).await.is_ok()
    }
}

#[tokio::test]
async fn a_job_goes_with_all_that_is_told_of_it_when_it_is_old_enough() {
    let rig = Rig::new().await;
    let id = rig.submit_all(vec![spec(REPOSITORY, &[], None)]).await[0];
    let held = rig.succeed_next().await;
    rig.engine.log_store().append(id, 1, 0, b"said".to_vec()).await.unwrap();
    let retention = Retention { jobs: Some(DAY), ..for_ever() };
    rig.clock.pass(DAY - Duration::from_secs(1));
    assert_eq!(rig.round(&retention).await, Pruned::default());
    let last = *rig.engine.store().committed().borrow();
    rig.clock.pass(Duration::from_secs(2));
    assert_eq!(rig.round(&retention).await.jobs, 1);
    assert!(!rig.exists(id).await);
    assert!(rig.engine.read_log(id, 1, 0).await.unwrap().is_none());
    assert_eq!(rig.engine.events_pruned_to().await.unwrap(), last);
    let batch = rig.engine.store().read(move |db| db.batch(held.batch)).await.unwrap();
    assert!(batch.is_none(), "{batch:?}");
    rig.assert_sound().await;
}

#[tokio::test]
async fn the_oldest_go_where_there_are_too_many() {
    let rig = Rig::new().await;
    let mut ids = Vec::new();
    for _ in 0..40 {
        ids.push(rig.submit().await);
        rig.succeed_next().await;
        rig.clock.pass(Duration::from_secs(1));
    }
    let pruned = rig.round(&Retention { jobs_max: Some(5), ..for_ever() }).await;
    assert_eq!(pruned.jobs, 35);
    for (number, id) in ids.into_iter().enumerate() {
        assert_eq!(rig.exists(id).await, number >= 35, "{number}");
    }
}

#[tokio::test]
async fn nothing_goes_that_is_waited_for_or_whose_submission_goes_on_or_that_a_retry_would_ask_for() {
    let rig = Rig::new().await;
    let retention = Retention { jobs: Some(DAY), ..for_ever() };
    let old = |seconds| DAY + Duration::from_secs(seconds);
    // One that has ended, and one of the same submission that has not.
    let pair = rig.submit_all(vec![spec(REPOSITORY, &[], None), spec(REPOSITORY, &[], None)]).await;
    rig.succeed_next().await;
    rig.clock.pass(old(1));
    assert_eq!(rig.round(&retention).await.jobs, 0);
    // One of another submission waits for a job that ended; it was cancelled, and a retry would look at how that one ended.
    let behind = rig.submit_all(vec![spec(REPOSITORY, &pair, None)]).await[0];
    rig.succeed_next().await;
    rig.clock.pass(old(1));
    assert_eq!(rig.round(&retention).await.jobs, 0);
    rig.engine.cancel(behind).await.unwrap();
    assert_eq!(rig.round(&retention).await.jobs, 0);
    rig.engine.retry(behind, false).await.unwrap();
    rig.succeed_next().await;
    assert_eq!(rig.round(&retention).await.jobs, 2, "those before it, since it succeeded");
    assert!(rig.exists(behind).await);
    rig.assert_sound().await;
    rig.clock.pass(old(1));
    assert_eq!(rig.round(&retention).await.jobs, 1);
}

#[tokio::test]
async fn logs_go_by_age_and_by_size_before_their_jobs() {
    let rig = Rig::new().await;
    let mut ids = Vec::new();
    for number in 0..20u8 {
        let id = rig.submit().await;
        rig.succeed_next().await;
        // What does not compress.
        let noise: Vec<u8> = (0..3000)
            .flat_map(|n: u32| Sha256Digest::of(&[number, n as u8, (n >> 8) as u8]).to_hex().into_bytes())
            .collect();
        rig.engine.log_store().append(id, 1, 0, noise).await.unwrap();
        rig.clock.pass(Duration::from_secs(60));
        ids.push(id);
    }
    let has_log = async |id| rig.engine.read_log(id, 1, 0).await.unwrap().is_some();
    let by_age = Retention { logs: Some(Duration::from_secs(60 * 4) + Duration::from_secs(30)), ..for_ever() };
    assert_eq!(rig.round(&by_age).await, Pruned { logs: 16, ..Pruned::default() });
    assert!(!has_log(ids[15]).await && has_log(ids[16]).await && rig.exists(ids[0]).await);
    let used = rig.engine.log_store().used_bytes().await.unwrap();
    assert_eq!(rig.round(&Retention { logs_max_bytes: Some(used), ..for_ever() }).await.logs, 0);
    assert!(rig.round(&Retention { logs_max_bytes: Some(used / 2), ..for_ever() }).await.logs > 0);
}

#[tokio::test]
async fn a_clock_that_jumps_makes_nothing_old() {
    let rig = Rig::new().await;
    rig.submit().await;
    rig.succeed_next().await;
    let retention = Retention { jobs: Some(DAY), ..for_ever() };
    assert!(rig.engine.begin_round().is_none(), "nothing is known yet of how steady it is");
    rig.clock.jump(40 * 86_400_000);
    assert!(rig.engine.begin_round().is_none());
    rig.clock.jump(-40 * 86_400_000);
    assert!(rig.engine.begin_round().is_none());
    assert_eq!(rig.round(&retention).await.jobs, 0);
}

#[tokio::test]
async fn tokens_that_have_been_void_for_a_month_go_and_are_refused_as_before() {
    let rig = Rig::new().await;
    let in_days = |days: i64| Some(rig.engine.clock.now() + jiff::SignedDuration::from_hours(24 * days));
    let good = rig.token("good", None).await;
    let later = rig.token("later", in_days(40)).await;
    let expired = rig.token("expired", in_days(1)).await;
    let revoked = rig.token("revoked", None).await;
    let by = crate::domain::access::TokenId::bootstrap().into();
    rig.engine.revoke_token(crate::domain::access::TokenId::new("revoked").unwrap(), &by).await.unwrap();
    rig.clock.pass(DAY * 30 - Duration::from_secs(1));
    assert_eq!(rig.round(&for_ever()).await.tokens, 0);
    rig.clock.pass(Duration::from_secs(2));
    assert_eq!(rig.round(&for_ever()).await.tokens, 1, "the one that was revoked");
    rig.clock.pass(DAY);
    assert_eq!(rig.round(&for_ever()).await.tokens, 1);
    for token in [&expired, &revoked] {
        assert_eq!(rig.engine.authenticate(token.expose()).unwrap_err(), crate::app::Denied::Unknown);
    }
    for token in [&good, &later] {
        rig.engine.authenticate(token.expose()).unwrap();
    }
    let again = Rig::on(rig.engine.store().restarted().unwrap(), "default").await;
    assert_eq!(again.engine.tokens().len(), 2);
}

#[tokio::test]
async fn blobs_go_when_nobody_names_them_or_their_jobs_ended_long_ago() {
    let directory = tempfile::tempdir().unwrap();
    let blobs = BlobStore::open(directory.path(), 1 << 20).unwrap();
    let mut rig = Rig::new().await;
    rig.engine.blobs = Some(blobs.clone());
    // The clock of files is the machine's.
    let now = jiff::Timestamp::now().as_millisecond() - rig.engine.clock.now().as_millisecond();
    rig.clock.jump(now);
    let mut put = Vec::new();
    for content in [&b"unused"[..], b"used", b"waited for"] {
        let digest = Sha256Digest::of(content);
        rig.engine.put_blob(digest, content).await.unwrap();
        put.push(digest);
    }
    rig.submit_all(vec![spec(REPOSITORY, &[], Some(put[1]))]).await;
    rig.succeed_next().await;
    rig.submit_all(vec![spec(REPOSITORY, &[], Some(put[2]))]).await;
    let there = async || {
        let mut there = Vec::new();
        for digest in &put {
            there.push(blobs.size(*digest).await.unwrap().is_some());
        }
        there
    };
    let all = Retention { blobs: Some(DAY * 10), blobs_max_bytes: Some(1), ..for_ever() };
    assert_eq!(rig.round(&all).await.blobs, 0, "they are all young");
    rig.clock.pass(DAY + Duration::from_secs(60));
    assert_eq!(rig.round(&Retention { blobs: Some(DAY * 10), ..for_ever() }).await.blobs, 1);
    assert_eq!(there().await, [false, true, true]);
    assert_eq!(rig.round(&all).await.blobs, 1, "there are too many bytes");
    assert_eq!(there().await, [false, false, true], "what is waited for stays");
}

/// How long a submission takes beside the pruning of 100,000 jobs. Prints figures; run by hand, in release.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "measures; run it by hand"]
async fn measure_submissions_beside_pruning() {
    let directory = tempfile::tempdir().unwrap();
    let rig = Rig::on(Store::open(directory.path()).unwrap(), "default").await;
    for _ in 0..20 {
        let ids = rig.submit_all((0..5000).map(|_| spec(REPOSITORY, &[], None)).collect()).await;
        rig.engine
            .store()
            .write::<_, crate::store::StoreError, _>(move |tx| {
                for id in ids {
                    let job = tx.job(id)?.unwrap();
                    if let crate::domain::job::state::JobState::Offered { batch } = job.progress.state {
                        let mut batch = tx.batch(batch)?.unwrap();
                        batch.state = BatchState::Settled;
                        tx.update_batch(&batch)?;
                    }
                    tx.apply(jiff::Timestamp::UNIX_EPOCH, job, &crate::domain::job::event::JobEvent::CancelRequested)?;
                }
                Ok(())
            })
            .await
            .unwrap();
    }
    let size = || std::fs::metadata(directory.path().join("conveyor.db")).unwrap().len() >> 20;
    let quick = |mut took: Vec<Duration>| {
        took.sort_unstable();
        let at = |part: f64| took[((took.len() - 1) as f64 * part) as usize];
        format!("{} submissions, p50 {:?}, p99 {:?}, longest {:?}", took.len(), at(0.5), at(0.99), at(1.0))
    };
    let submit_one = async || {
        let began = Instant::now();
        rig.submit_all(vec![spec(REPOSITORY, &[], None)]).await;
        began.elapsed()
    };
    let mut alone = Vec::new();
    for _ in 0..500 {
        alone.push(submit_one().await);
    }
    println!("alone: {}; the database has {} MiB", quick(alone), size());
    let retention = Retention { jobs: Some(DAY), ..for_ever() };
    rig.engine.begin_round();
    let mut round = rig.engine.begin_round().unwrap();
    let (began, over) = (Instant::now(), std::cell::Cell::new(false));
    let beside = async {
        let mut took = Vec::new();
        while !over.get() {
            took.push(submit_one().await);
        }
        took
    };
    let pruning = async {
        while rig.engine.prune(&retention, &mut round).await.unwrap() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        over.set(true);
    };
    let (took, ()) = tokio::join!(beside, pruning);
    println!(
        "beside pruning {:?} in {:?}: {}; the database has {} MiB",
        round.pruned(),
        began.elapsed(),
        quick(took),
        size()
    );
}
