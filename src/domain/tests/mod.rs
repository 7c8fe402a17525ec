#![allow(clippy::unwrap_used, clippy::expect_used)]

mod batch;
mod dependencies;
mod job;
mod notification;
mod plan;
mod policy;
mod progress;
mod share;
mod spec;
mod table;

use crate::domain::ids::{BatchId, InstanceId, JobId};
use crate::domain::job::spec::JobSpec;

fn uuid(number: u8) -> uuid::Uuid {
    uuid::Builder::from_unix_timestamp_millis(1_772_000_000_000 + u64::from(number), &[number; 10]).into_uuid()
}

fn job_id(number: u8) -> JobId {
    JobId(uuid(number))
}

fn batch_id(number: u8) -> BatchId {
    BatchId(uuid(number))
}

fn instance(number: u8) -> InstanceId {
    InstanceId(uuid(number))
}

/// A job that is accepted as it is.
fn spec(number: u8) -> JobSpec {
    serde_json::from_value(serde_json::json!({
        "id": job_id(number),
        "name": format!("job {number}"),
        "work": {"kind": "publish", "repository": "a.example.org", "lease_path": "/rel", "payload": {"type": "empty"}},
    }))
    .unwrap()
}
