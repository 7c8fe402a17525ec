//! Waiting for work.

use std::future::Future;
use std::pin::pin;

use axum::http::StatusCode;
use serde_json::json;
use uuid::Uuid;

use super::worker::Worker;
use super::{Server, job};

/// Lets a future begin; it must not be done yet.
async fn begin(mut future: std::pin::Pin<&mut impl Future>) {
    tokio::select! {
        biased;
        _ = &mut future => panic!("it did not wait"),
        () = std::future::ready(()) => {}
    }
}

#[tokio::test]
async fn a_waiting_worker_is_woken_by_a_submission() {
    let server = Server::start().await;
    let worker = Worker::new(&server);
    let mut poll = pin!(worker.offers(60));
    begin(poll.as_mut()).await;
    let id = server.submit("one").await;
    let offers = poll.await;
    assert_eq!(offers[0]["jobs"], json!([{"job_id": id, "attempt": 1}]));
    assert_eq!(worker.offers(0).await, json!([]), "an offer goes out once");
}

#[tokio::test]
async fn a_worker_that_goes_away_takes_nothing() {
    let server = Server::start().await;
    let worker = Worker::new(&server);
    {
        let mut poll = pin!(worker.offers(60));
        begin(poll.as_mut()).await;
    }
    server.submit("one").await;
    assert_eq!(Worker::new(&server).offers(0).await.as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn waiting_ends_with_the_time_or_the_server() {
    let server = Server::start().await;
    let worker = Worker::new(&server);
    assert_eq!(worker.offers(0).await, json!([]));
    assert_eq!(worker.offers(1).await, json!([]));
    let mut poll = pin!(worker.offers(60));
    begin(poll.as_mut()).await;
    server.shutdown.cancel();
    assert_eq!(poll.await, json!([]));
}

#[tokio::test]
async fn a_replaced_worker_and_a_lost_claim_are_told_so() {
    let server = Server::start().await;
    let (old, new) = (Worker::new(&server), Worker::new(&server));
    new.offers(0).await;
    let old = format!("/api/v1/fleets/default/offers?node=n1&instance={}", old.instance);
    let reply = server.get(&old).await;
    assert_eq!((reply.status, reply.code().as_str()), (StatusCode::CONFLICT, "superseded"));

    server.submit("one").await;
    let held = new.claim().await;
    let claim = json!({"generation": 1, "node": "n2", "instance": Uuid::now_v7()});
    let reply = server.post(&format!("/api/v1/batches/{}/claim", held.batch), claim).await;
    assert_eq!((reply.status, reply.code().as_str()), (StatusCode::CONFLICT, "already_claimed"));
    let beat = json!({"node": "n1", "instance": new.instance, "fleet": "default", "free_slots": 3,
        "claims": [{"batch_id": held.batch, "token": held.token}, {"batch_id": Uuid::now_v7(), "token": "x"}]});
    let reply = server.post("/api/v1/workers/heartbeat", beat.clone()).await;
    assert_eq!(reply.json()["lost"], json!([beat["claims"][1]["batch_id"]]));
    server.post(&format!("/api/v1/jobs/{}/cancel", held.job), json!(null)).await;
    let reply = server.post("/api/v1/workers/heartbeat", beat).await;
    assert_eq!(reply.json()["cancel"], json!([held.batch]));
    let intent = json!({"token": held.token, "base_revision": 6, "base_root_hash": "0", "changed_paths_digest": "0"});
    let reply = server.post(&format!("/api/v1/batches/{}/intent", held.batch), intent).await;
    assert_eq!((reply.status, reply.code().as_str()), (StatusCode::CONFLICT, "cancel_requested"));
    let finding = json!({"node": "n1", "evidence": "not_published"});
    let reply = server.post(&format!("/api/v1/batches/{}/finding", held.batch), finding).await;
    assert_eq!((reply.status, reply.code().as_str()), (StatusCode::CONFLICT, "not_now"));
    new.release(&held).await;
    assert_eq!(server.state_of(&held.job).await, "cancelled");
}

#[tokio::test]
async fn a_worker_needs_a_name_that_can_be_shown() {
    let server = Server::start().await;
    server.post("/api/v1/jobs", job("one")).await;
    let worker = Worker::new(&server);
    let offer = worker.offers(0).await[0].clone();
    let claim = json!({"generation": 1, "node": "a\u{1b}[2Jb", "instance": Uuid::now_v7()});
    let reply = server.post(&format!("/api/v1/batches/{}/claim", offer["batch_id"].as_str().unwrap()), claim).await;
    assert_eq!((reply.status, reply.code().as_str()), (StatusCode::UNPROCESSABLE_ENTITY, "bad_node"));
}
