//! Following what happens.

use serde_json::json;
use uuid::Uuid;

use super::worker::Worker;
use super::{Server, job};

#[tokio::test]
async fn a_jobs_story_is_told_from_its_beginning_and_goes_on() {
    for server in [Server::start().await, Server::on_disk().await] {
        let id = server.submit("one").await;
        let mut events = server.stream(&format!("/api/v1/jobs/{id}/events"), None).await;
        let (kind, first, data) = events.event().await;
        assert_eq!((kind.as_str(), &data["event"], &data["state"]), ("job", &json!("submitted"), &json!("queued")));
        assert_eq!((data["number"].to_string(), &data["job_id"]), (first, &json!(id)));
        assert_eq!(events.event().await.2["event"], "offered");
        server.submit("another").await;
        let worker = Worker::new(&server);
        worker.succeed(&worker.claim().await).await;
        for wanted in ["claimed", "publish_permitted", "succeeded"] {
            let (_, _, data) = events.event().await;
            assert_eq!((&data["event"], &data["job_id"]), (&json!(wanted), &json!(id)));
        }
        server.shutdown.cancel();
        assert!(events.next().await.is_none());
    }
}

#[tokio::test]
async fn a_client_goes_on_where_it_was() {
    let server = Server::on_disk().await;
    let mut first = server.stream("/api/v1/events?after=0", None).await;
    for number in 0..5 {
        server.submit(&format!("job {number}")).await;
    }
    let mut seen = Vec::new();
    for _ in 0..3 {
        seen.push(first.event().await.1);
    }
    drop(first);
    // The header goes before the query, which a browser repeats unchanged.
    let mut second = server.stream("/api/v1/events?after=0", seen.last().map(String::as_str)).await;
    let last = *server.engine.store().committed().borrow();
    while seen.len() < last as usize {
        seen.push(second.event().await.1);
    }
    assert_eq!(seen, (1..=last).map(|number| number.to_string()).collect::<Vec<_>>());
}

#[tokio::test]
async fn without_a_number_only_news_is_told() {
    let server = Server::start().await;
    server.submit("old").await;
    let mut events = server.stream("/api/v1/events", None).await;
    assert!(events.is_silent());
    let id = server.submit("new").await;
    assert_eq!(events.event().await.2["job_id"], json!(id));
}

#[tokio::test]
async fn a_submission_is_followed_alone_and_whole() {
    let server = Server::start().await;
    let submission = Uuid::now_v7();
    let path = format!("/api/v1/jobs?submission={submission}");
    let jobs = json!([job("a"), job("b")]);
    server.post(&path, jobs.clone()).await;
    server.submit("foreign").await;
    let mut events = server.stream(&format!("/api/v1/events?submission={submission}"), None).await;
    for wanted in [(0, "submitted"), (1, "submitted"), (0, "offered")] {
        let (_, _, data) = events.event().await;
        assert_eq!((&data["job_id"], &data["event"]), (&jobs[wanted.0]["id"], &json!(wanted.1)));
    }
    assert!(events.is_silent());
    server.post(&format!("/api/v1/jobs/{}/cancel", jobs[1]["id"].as_str().unwrap()), json!(null)).await;
    assert_eq!(events.event().await.2["event"], "cancel_requested");
}

#[tokio::test]
async fn numbers_of_another_database_are_reset() {
    let server = Server::start().await;
    let id = server.submit("one").await;
    let last = *server.engine.store().committed().borrow();
    for number in [last + 1, 1_000_000, u64::MAX] {
        let number = number.to_string();
        let mut events = server.stream("/api/v1/events", Some(&number)).await;
        let (kind, at, data) = events.event().await;
        assert_eq!((kind.as_str(), at, data), ("reset", last.to_string(), json!({"last": last})));
        assert!(events.is_silent());
        // Of one job, everything comes again.
        let mut events = server.stream(&format!("/api/v1/jobs/{id}/events"), Some(&number)).await;
        assert_eq!(events.event().await.0, "reset");
        assert_eq!(events.event().await.2["event"], "submitted");
    }
    let mut events = server.stream("/api/v1/events", Some(&last.to_string())).await;
    assert!(events.is_silent());
}

#[tokio::test]
async fn more_events_than_are_read_at_once_come_in_order() {
    let server = Server::on_disk().await;
    let jobs: Vec<_> = (0..1200).map(|number| job(&format!("job {number}"))).collect();
    server.post("/api/v1/jobs", json!(jobs)).await;
    let mut events = server.stream("/api/v1/events?after=0", None).await;
    for number in 1..=1200 {
        assert_eq!(events.event().await.1, number.to_string());
    }
}

#[tokio::test]
async fn who_missed_events_that_are_pruned_is_told() {
    let server = Server::start().await;
    let old: crate::domain::ids::JobId = server.submit("old").await.parse().unwrap();
    server.post(&format!("/api/v1/jobs/{old}/cancel"), json!(null)).await;
    let pruned = *server.engine.store().committed().borrow();
    let id = server.submit("kept").await;
    let far = jiff::Timestamp::MAX;
    let gone = server.engine.store().write::<_, crate::store::StoreError, _>(move |tx| tx.prune_job(old, far)).await;
    assert!(gone.unwrap());
    let last = server.engine.store().committed().borrow().to_string();
    let mut events = server.stream("/api/v1/events", Some("1")).await;
    let (kind, at, _) = events.event().await;
    assert_eq!((kind.as_str(), at), ("reset", last));
    // Who knows the last of them has missed nothing; and of a job there is all or nothing.
    let mut events = server.stream("/api/v1/events", Some(&pruned.to_string())).await;
    assert_eq!(events.event().await.0, "job");
    let mut events = server.stream(&format!("/api/v1/jobs/{id}/events"), Some("1")).await;
    assert_eq!(events.event().await.0, "job");
}
