//! Reading logs.

use axum::http::StatusCode;
use serde_json::json;

use super::Server;
use super::worker::Worker;
use crate::store::logs::KEPT_BYTES;

#[tokio::test]
async fn a_log_is_followed_to_its_end() {
    let server = Server::start().await;
    let worker = Worker::new(&server);
    let id = server.submit("one").await;
    let mut stream = server.stream(&format!("/api/v1/jobs/{id}/log/stream"), None).await;
    assert!(stream.is_silent());
    let held = worker.claim().await;
    let text = "né 日本 🦀\n".as_bytes();
    // Cut within every character.
    for (offset, byte) in text.iter().enumerate() {
        assert_eq!(worker.log(&held, offset as u64, [*byte]).await.status, StatusCode::OK);
    }
    let (mut joined, mut places) = (String::new(), Vec::new());
    while joined.len() < text.len() {
        let (kind, id, data) = stream.event().await;
        assert_eq!((kind.as_str(), &data["attempt"], &data["offset"]), ("log", &json!(1), &json!(joined.len())));
        joined += data["text"].as_str().unwrap();
        assert_eq!(id, format!("1:{}", joined.len()));
        places.push(id);
    }
    assert_eq!(joined.as_bytes(), text);
    worker.succeed(&held).await;
    let (kind, _, data) = stream.event().await;
    assert_eq!((kind.as_str(), data), ("end", json!({"state": "succeeded"})));
    assert!(stream.next().await.is_none());

    // Coming back goes on behind what came.
    let mut again = server.stream(&format!("/api/v1/jobs/{id}/log/stream"), Some(&places[0])).await;
    assert_eq!(again.event().await.2["offset"].to_string(), places[0][2..]);
    let mut done = server.stream(&format!("/api/v1/jobs/{id}/log/stream?after=1:{}", text.len()), None).await;
    assert_eq!(done.event().await.0, "end");
}

#[tokio::test]
async fn later_attempts_are_followed_unless_one_is_named() {
    let server = Server::on_disk().await;
    let worker = Worker::new(&server);
    let id = server.submit("one").await;
    let held = worker.claim().await;
    let mut all = server.stream(&format!("/api/v1/jobs/{id}/log/stream"), None).await;
    let mut first = server.stream(&format!("/api/v1/jobs/{id}/log/stream?attempt=1"), None).await;
    // Ends within a character that never comes.
    worker.log(&held, 0, b"first\n\xF0\x9F".to_vec()).await;
    worker.release(&held).await;
    let held = worker.claim().await;
    worker.log(&held, 0, "second\n").await;
    worker.fail(&held).await;
    let mut told = Vec::new();
    loop {
        let (kind, id, data) = all.event().await;
        if kind == "end" {
            assert_eq!(data, json!({"state": "failed"}));
            break;
        }
        told.push((id, data["text"].as_str().unwrap().to_owned()));
    }
    let told: Vec<_> = told.iter().map(|(id, text)| (id.as_str(), text.as_str())).collect();
    assert_eq!(told, [("1:6", "first\n"), ("1:8", "\u{FFFD}"), ("2:7", "second\n")]);
    assert_eq!((first.event().await.2["text"].clone(), first.event().await.1), (json!("first\n"), "1:8".into()));
    assert_eq!(first.event().await.0, "end");

    assert_eq!(server.get(&format!("/api/v1/jobs/{id}/log")).await.text(), "second\n");
    let reply = server.get(&format!("/api/v1/jobs/{id}/log?attempt=1")).await;
    assert_eq!(
        (reply.text().as_str(), &reply.headers["content-type"]),
        ("first\n\u{FFFD}", &"text/plain; charset=utf-8".parse().unwrap())
    );
}

#[tokio::test]
async fn the_end_of_a_log_begins_with_a_whole_character() {
    let server = Server::start().await;
    let worker = Worker::new(&server);
    let id = server.submit("one").await;
    let held = worker.claim().await;
    worker.log(&held, 0, "a🦀b\n").await;
    for (tail, wanted) in [(0, ""), (1, "\n"), (2, "b\n"), (3, "b\n"), (5, "b\n"), (6, "🦀b\n"), (100, "a🦀b\n")] {
        assert_eq!(server.get(&format!("/api/v1/jobs/{id}/log?tail={tail}")).await.text(), wanted, "{tail}");
    }
}

#[tokio::test]
async fn a_dropped_middle_is_told() {
    let server = Server::start().await;
    let worker = Worker::new(&server);
    let id = server.submit("one").await;
    worker.claim().await;
    let line = vec![b'.'; 1 << 20];
    let pieces = KEPT_BYTES / line.len() as u64 + 4;
    for piece in 0..pieces {
        let (job, at) = (id.parse().unwrap(), piece * line.len() as u64);
        server.engine.log_store().append(job, 1, at, line.clone()).await.unwrap();
    }
    let log = server.get(&format!("/api/v1/jobs/{id}/log")).await.text();
    let note: Vec<_> = log.lines().filter(|line| !line.starts_with('.')).collect();
    assert_eq!(note, [format!("… {} bytes left out …", 4 << 20)]);
    let mut stream = server.stream(&format!("/api/v1/jobs/{id}/log/stream"), None).await;
    let mut offset = 0;
    let mut gaps = Vec::new();
    while offset < pieces << 20 {
        let data = stream.event().await.2;
        let start = data["offset"].as_u64().unwrap();
        if start > offset {
            gaps.push(start - offset);
        }
        offset = start + data["text"].as_str().unwrap().len() as u64;
    }
    assert_eq!(gaps, [4 << 20]);
}
