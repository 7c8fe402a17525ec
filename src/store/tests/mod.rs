#![allow(clippy::unwrap_used, clippy::expect_used)]

mod backup;
mod blobs;
mod durability;
mod group_commit;
mod listing;
mod logs;
mod old_database;
mod samples;

use jiff::Timestamp;

use super::{NewJob, Store, StoreError, Tx};
use crate::domain::ids::{BatchId, JobId, SubmissionId};
use crate::domain::job::Job;
use crate::domain::job::event::JobEvent;
use crate::domain::job::spec::JobSpec;

/// A moment in 2026.
fn now() -> Timestamp {
    "2026-03-01T12:00:00Z".parse().unwrap()
}

/// A UUID of version 7 that is always the same for the same number.
fn uuid(number: u64) -> uuid::Uuid {
    let mut random = [0; 10];
    random[2..].copy_from_slice(&number.to_be_bytes());
    uuid::Builder::from_unix_timestamp_millis(1_772_000_000_000 + number, &random).into_uuid()
}

fn job_id(number: u64) -> JobId {
    JobId(uuid(number))
}

fn batch_id(number: u64) -> BatchId {
    BatchId(uuid(1_000_000 + number))
}

fn submission_id(number: u64) -> SubmissionId {
    SubmissionId(uuid(2_000_000 + number))
}

/// A job like any other.
fn spec(number: u64) -> JobSpec {
    serde_json::from_value(serde_json::json!({
        "id": job_id(number),
        "name": format!("job {number}"),
        "work": {"kind": "publish", "repository": "a.example.org", "payload": {"type": "empty"}},
    }))
    .unwrap()
}

impl Tx<'_> {
    /// Writes nonsense over what a job asks for.
    pub(crate) fn damage_spec(&mut self, id: JobId) -> Result<(), StoreError> {
        self.connection.execute("UPDATE jobs SET spec = '{' WHERE id = ?1", [id.0])?;
        Ok(())
    }
}

/// A job of nobody in particular; its rank is its number.
fn new(spec: &JobSpec) -> NewJob<'_> {
    let rank = i64::try_from(spec.id.0.as_u128() & 0xff).unwrap() - 100 * i64::from(spec.priority);
    NewJob { submission: submission_id(1), owner: None, spec, bytes: 0, rank }
}

/// Accepts a job and lets events happen to it.
async fn add(store: &Store, spec: JobSpec, events: Vec<JobEvent>) -> Job {
    let first = JobEvent::Submitted {
        waiting: !spec.dependencies.is_empty(),
        needs_approval: false,
        dry_run: false,
        distributed: false,
    };
    store
        .write::<_, StoreError, _>(move |tx| {
            tx.insert_job(now(), &new(&spec), &first)?;
            let mut job = tx.job(spec.id)?.unwrap();
            for event in &events {
                job = tx.apply(now(), job, event)?;
            }
            Ok(job)
        })
        .await
        .unwrap()
}

async fn job(store: &Store, number: u64) -> Option<Job> {
    store.read::<_, StoreError, _>(move |db| db.job(job_id(number))).await.unwrap()
}

async fn assert_sound(store: &Store) {
    let damaged = store.read::<_, StoreError, _>(|db| db.damaged_jobs()).await.unwrap();
    assert!(damaged.is_empty(), "{damaged:?}");
}
