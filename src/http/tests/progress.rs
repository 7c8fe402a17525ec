//! How far a running job has come, as its worker says with its heartbeats.

use axum::http::StatusCode;
use serde_json::{Value, json};

use super::Server;
use super::worker::Worker;

async fn shown(server: &Server, job: &str) -> Value {
    let one = server.get(&format!("/api/v1/jobs/{job}")).await.json()["progress"].clone();
    let list = server.get("/api/v1/jobs").await.json();
    let listed = list["jobs"].as_array().unwrap().iter().find(|listed| listed["job_id"] == job).unwrap().clone();
    assert_eq!(listed["progress"], one);
    one
}

#[tokio::test]
async fn a_running_jobs_progress_is_shown_and_told_until_its_attempt_ends() {
    for server in [Server::start().await, Server::on_disk().await] {
        let worker = Worker::new(&server);
        let job = server.submit("one").await;
        let mut events = server.stream(&format!("/api/v1/jobs/{job}/events"), None).await;
        let held = worker.claim().await;
        assert_eq!(shown(&server, &job).await, Value::Null);
        for _ in ["submitted", "offered", "claimed"] {
            assert_eq!(events.event().await.0, "job");
        }
        let numbered = server.engine.store().committed().borrow().to_string();

        let reply = worker.beat(&held, json!({"step": "staging", "files": 3, "bytes": 5000})).await;
        assert_eq!((reply.status, &reply.json()["lost"]), (StatusCode::OK, &json!([])));
        let first = json!({"step": "staging", "files": 3, "bytes": 5000});
        assert_eq!(shown(&server, &job).await, first);
        let (kind, id, data) = events.event().await;
        let told = json!({"job_id": job, "attempt": 1, "step": "staging", "files": 3, "bytes": 5000});
        assert_eq!((kind.as_str(), data), ("progress", told));
        assert_eq!(id, numbered, "it has no number, so that a client comes back behind the last stored event");
        assert!(server.get(&format!("/jobs/{job}")).await.text().contains("staged 3 files, 4.9 KiB"));

        worker.beat(&held, json!({"step": "staging", "files": 4, "bytes": 9000})).await;
        let (kind, _, data) = events.event().await;
        assert_eq!((kind.as_str(), &data["files"], &data["bytes"]), ("progress", &json!(4), &json!(9000)));

        worker.succeed(&held).await;
        assert_eq!(shown(&server, &job).await, Value::Null);
        for wanted in ["publish_permitted", "succeeded"] {
            assert_eq!(events.event().await.2["event"], wanted);
        }
        let reply = worker.beat(&held, json!({"step": "staging", "files": 5, "bytes": 9000})).await;
        assert_eq!(reply.json()["lost"], json!([held.batch]));
        assert!(events.is_silent(), "what an ended attempt says is told nobody");
    }
}

#[tokio::test]
async fn whoever_begins_to_follow_is_told_the_latest_of_its_own_jobs_only() {
    let server = Server::start().await;
    let worker = Worker::new(&server);
    let job = server.submit("one").await;
    let held = worker.claim().await;
    for bytes in [1000, 2000] {
        worker.beat(&held, json!({"step": "fetching", "files": 0, "bytes": bytes})).await;
    }
    let foreign = server.submit("foreign").await;
    let view = server.get(&format!("/api/v1/jobs/{job}")).await.json();
    let submission = view["submission_id"].as_str().unwrap();
    let last = *server.engine.store().committed().borrow();
    for path in [
        format!("/api/v1/jobs/{job}/events?after={last}"),
        format!("/api/v1/events?submission={submission}&after={last}"),
        "/api/v1/events".to_owned(),
    ] {
        let mut events = server.stream(&path, None).await;
        let (kind, _, data) = events.event().await;
        assert_eq!((kind.as_str(), &data["job_id"], &data["bytes"]), ("progress", &json!(job), &json!(2000)), "{path}");
        assert!(events.is_silent(), "{path}");
    }
    let mut events = server.stream(&format!("/api/v1/jobs/{foreign}/events?after={last}"), None).await;
    assert!(events.is_silent());
}

#[tokio::test]
async fn only_the_holder_of_a_claim_is_believed() {
    let server = Server::start().await;
    let worker = Worker::new(&server);
    let job = server.submit("one").await;
    let mut held = worker.claim().await;
    let nonsense = worker.beat(&held, json!({"step": "staging", "files": -1, "bytes": 0})).await;
    assert!(nonsense.status.is_client_error());
    held.token = "guessed".into();
    worker.beat(&held, json!({"step": "staging", "files": 3, "bytes": 5000})).await;
    assert_eq!(shown(&server, &job).await, Value::Null);
}
