//! Submitting, listing, steering.

use axum::http::StatusCode;
use serde_json::{Value, json};
use uuid::Uuid;

use super::worker::Worker;
use super::{REPOSITORY, Server, job};

#[tokio::test]
async fn submitting_twice_is_submitting_once() {
    let server = Server::on_disk().await;
    let job = job("one");
    let submission = Uuid::now_v7();
    let first = server.post(&format!("/api/v1/jobs?submission={submission}"), job.clone()).await;
    assert_eq!(first.status, StatusCode::CREATED);
    assert_eq!(first.json()["submission_id"], json!(submission));
    assert_eq!(first.json()["jobs"][0]["created"], true);

    let again = server.post("/api/v1/jobs", json!([job])).await;
    assert_eq!(again.status, StatusCode::OK);
    assert_eq!(again.json()["submission_id"], json!(submission));
    assert_eq!(again.json()["jobs"][0]["created"], false);

    let mut other = job.clone();
    other["priority"] = json!(5);
    let other = server.post("/api/v1/jobs", other).await;
    assert_eq!((other.status, other.code().as_str()), (StatusCode::CONFLICT, "different_job"));
    assert_eq!(server.get("/api/v1/jobs").await.json()["jobs"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn an_array_is_accepted_whole_or_not_at_all() {
    let server = Server::start().await;
    let (good, mut bad) = (job("good"), job("bad"));
    bad["work"]["repository"] = json!("unknown.example.org");
    let reply = server.post("/api/v1/jobs", json!([good, bad])).await;
    assert_eq!((reply.status, reply.code().as_str()), (StatusCode::UNPROCESSABLE_ENTITY, "unknown_repository"));
    assert_eq!(server.get("/api/v1/jobs").await.json()["jobs"], json!([]));

    let mut after = job("after");
    after["dependencies"] = json!([{"job_id": good["id"]}]);
    let reply = server.post("/api/v1/jobs", json!([after, good])).await;
    assert_eq!(reply.status, StatusCode::CREATED);
    assert_eq!(reply.json()["jobs"][0]["state"], "waiting");
}

#[tokio::test]
async fn a_listing_is_filtered_and_paged() {
    let server = Server::start().await;
    let submission = Uuid::now_v7();
    for number in 0..25 {
        let mut job = job(&format!("job {}", number % 5));
        job["submitter"] = json!(if number % 2 == 0 { "alice" } else { "bob & co" });
        job["labels"] = json!({"n": number.to_string(), "kind": "test"});
        if number % 5 == 0 {
            job["work"]["repository"] = json!("other.example.org");
        }
        let query = if number < 3 { format!("?submission={submission}") } else { String::new() };
        let reply = server.post(&format!("/api/v1/jobs{query}"), job).await;
        assert_eq!(reply.status, StatusCode::CREATED, "{}", reply.text());
    }
    let count = async |query: &str| {
        let reply = server.get(&format!("/api/v1/jobs?{query}")).await;
        assert_eq!(reply.status, StatusCode::OK, "{query}: {}", reply.text());
        reply.json()["jobs"].as_array().unwrap().len()
    };
    assert_eq!(count("").await, 25);
    assert_eq!(count("repository=other.example.org").await, 5);
    assert_eq!(count("name=job+1").await, 5);
    assert_eq!(count("submitter=bob+%26+co").await, 12);
    assert_eq!(count(&format!("submission={submission}")).await, 3);
    assert_eq!(count("label=n=7").await, 1);
    assert_eq!(count("label=n=7&label=kind=test").await, 1);
    assert_eq!(count("label=n=7&label=n=8").await, 0);
    assert_eq!(count("state=queued,offered").await, 25);
    assert_eq!(count("state=offered&state=succeeded").await, 1);
    assert_eq!(count("state=&name=&repository=").await, 25);
    assert_eq!(count("name=%27%3B+DROP+TABLE+jobs%3B--").await, 0);

    let (mut seen, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = server.get(&format!("/api/v1/jobs?limit=10{cursor}")).await.json();
        seen.extend(page["jobs"].as_array().unwrap().iter().map(|job| job["job_id"].clone()));
        let Value::Number(next) = &page["next_cursor"] else { break };
        cursor = format!("&cursor={next}");
    }
    assert_eq!(seen.len(), 25);
    let all = server.get("/api/v1/jobs").await.json();
    assert_eq!(all["jobs"].as_array().unwrap().iter().map(|job| job["job_id"].clone()).collect::<Vec<_>>(), seen);
    assert_eq!(all["jobs"][0]["spec"]["work"]["repository"], REPOSITORY);
}

#[tokio::test]
async fn a_job_is_cancelled_and_tried_again() {
    let server = Server::start().await;
    let id = server.submit("one").await;
    let act = async |what: &str| server.post(&format!("/api/v1/jobs/{id}/{what}"), json!(null)).await;
    assert_eq!(act("retry").await.code(), "not_retryable");
    let cancelled = act("cancel").await;
    assert_eq!((cancelled.status, &cancelled.json()["state"]), (StatusCode::OK, &json!("cancelled")));
    assert_eq!(act("cancel").await.status, StatusCode::OK);
    let retried = act("retry?with_dependents=true").await;
    assert_eq!(retried.status, StatusCode::OK, "{}", retried.text());
    let worker = Worker::new(&server);
    worker.succeed(&worker.claim().await).await;
    let late = act("cancel").await;
    assert_eq!((late.status, late.code().as_str()), (StatusCode::CONFLICT, "already_ended"));
}
