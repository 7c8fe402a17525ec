//! Waiting for jobs by one stream.

use serde_json::json;
use uuid::Uuid;

use super::worker::Worker;
use super::{Server, Sse, job};

/// Submits jobs together; gives the path of their stream.
async fn submitted(server: &Server, names: &[&str]) -> (String, Vec<String>) {
    let submission = Uuid::now_v7();
    let jobs: Vec<_> = names.iter().map(|name| job(name)).collect();
    let reply = server.post(&format!("/api/v1/jobs?submission={submission}"), json!(jobs)).await;
    assert_eq!(reply.status.as_u16(), 201, "{}", reply.text());
    let ids = jobs.iter().map(|job| job["id"].as_str().unwrap().to_owned()).collect();
    (format!("/api/v1/watch?submission={submission}"), ids)
}

/// The next event as its type, the job's name or id, and its state.
async fn told(stream: &mut Sse) -> (String, String, String) {
    let (kind, _, data) = stream.event().await;
    let text = |key: &str| data[key].as_str().unwrap_or_default().to_owned();
    (kind, if data["name"].is_string() { text("name") } else { text("job_id") }, text("state"))
}

fn said(kind: &str, name: &str, state: &str) -> (String, String, String) {
    (kind.into(), name.into(), state.into())
}

#[tokio::test]
async fn a_submission_is_watched_until_all_have_ended() {
    for server in [Server::start().await, Server::on_disk().await] {
        let (path, ids) = submitted(&server, &["a", "b"]).await;
        server.submit("foreign").await;
        let mut ends = server.stream(&format!("{path}&ends=true"), None).await;
        let mut named = server.stream_of("/api/v1/watch", json!({"jobs": [ids[0], Uuid::nil()], "ends": true})).await;
        for name in ["a", "b"] {
            let (kind, found, state) = told(&mut ends).await;
            assert!(
                (kind.as_str(), found.as_str()) == ("standing", name) && state != "succeeded",
                "{kind} {found} {state}"
            );
        }
        assert_eq!(told(&mut ends).await.0, "synced");
        assert_eq!(told(&mut named).await.0, "standing");
        assert_eq!(told(&mut named).await, said("unknown", &Uuid::nil().to_string(), ""));
        assert_eq!(told(&mut named).await.0, "synced");

        let worker = Worker::new(&server);
        worker.succeed(&worker.claim().await).await;
        assert_eq!(told(&mut ends).await, said("standing", "a", "succeeded"));
        assert_eq!(told(&mut named).await, said("standing", "a", "succeeded"));
        assert_eq!(told(&mut named).await.0, "end");
        assert!(named.next().await.is_none());
        worker.fail(&worker.claim().await).await;
        assert_eq!(told(&mut ends).await, said("standing", "b", "failed"));
        assert_eq!(told(&mut ends).await.0, "end");
        // Who comes when all is over is told so at once.
        let mut late = server.stream(&path, None).await;
        let kinds =
            [told(&mut late).await.0, told(&mut late).await.0, told(&mut late).await.0, told(&mut late).await.0];
        assert_eq!(kinds, ["standing", "standing", "synced", "end"]);
    }
}

#[tokio::test]
async fn who_comes_back_is_told_only_what_happened_since() {
    let server = Server::on_disk().await;
    let (path, ids) = submitted(&server, &["a", "b"]).await;
    let mut first = server.stream(&path, None).await;
    let last = loop {
        let (kind, id, _) = first.event().await;
        if kind == "synced" {
            break id;
        }
    };
    drop(first);
    let worker = Worker::new(&server);
    worker.succeed(&worker.claim().await).await;
    let mut again = server.stream(&path, Some(&last)).await;
    let mut events = Vec::new();
    let ended = loop {
        let (kind, id, data) = again.event().await;
        assert!(kind == "job" || kind == "standing", "{kind}");
        if kind == "standing" {
            assert_eq!((data["job_id"].as_str(), &data["status"]["revision"]), (Some(ids[0].as_str()), &json!(7)));
            break id;
        }
        events.push(data["event"].as_str().unwrap().to_owned());
    };
    assert_eq!(events.last().map(String::as_str), Some("succeeded"), "{events:?}");
    // A job that is tried again has not ended.
    server.post(&format!("/api/v1/jobs/{}/cancel", ids[1]), json!({})).await;
    server.post(&format!("/api/v1/jobs/{}/retry", ids[1]), json!({})).await;
    let mut more = server.stream(&format!("{path}&ends=true"), Some(&ended)).await;
    assert!(more.is_silent());
    server.post(&format!("/api/v1/jobs/{}/cancel", ids[1]), json!({})).await;
    assert_eq!(told(&mut more).await, said("standing", "b", "cancelled"));
    assert_eq!(told(&mut more).await.0, "end");
}

#[tokio::test]
async fn a_number_of_another_database_begins_anew() {
    let server = Server::start().await;
    let (path, _) = submitted(&server, &["a"]).await;
    let mut stream = server.stream(&path, Some("99999")).await;
    let kinds = [told(&mut stream).await.0, told(&mut stream).await.0, told(&mut stream).await.0];
    assert_eq!(kinds, ["reset", "standing", "synced"]);
}

#[tokio::test]
async fn nonsense_is_refused() {
    let server = Server::start().await;
    for (body, status) in
        [(json!({"jobs": []}), 422), (json!({"jobs": vec![Uuid::nil(); 20_001]}), 422), (json!([]), 400)]
    {
        assert_eq!(server.post("/api/v1/watch", body).await.status.as_u16(), status);
    }
    assert_eq!(server.get("/api/v1/watch").await.status.as_u16(), 400);
    let mut nobody = server.stream(&format!("/api/v1/watch?submission={}", Uuid::nil()), None).await;
    assert_eq!([told(&mut nobody).await.0, told(&mut nobody).await.0], ["synced", "end"]);
}
