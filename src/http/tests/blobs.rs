//! Storing and fetching blobs.

use axum::body::Body;
use axum::http::{StatusCode, header};
use serde_json::json;

use super::{Reply, Server, request};
use crate::domain::digest::Sha256Digest;

async fn put(server: &Server, digest: Sha256Digest, content: Vec<u8>) -> Reply {
    server.raw(request("PUT", &format!("/api/v1/blobs/{digest}")).body(Body::from(content)).unwrap()).await
}

#[tokio::test]
async fn a_blob_is_stored_once_and_fetched_as_it_was() {
    let server = Server::start().await;
    let content: Vec<u8> = (0..50_000u32).map(|n| n as u8).collect();
    let digest = Sha256Digest::of(&content);
    let path = format!("/api/v1/blobs/{digest}");
    assert_eq!(server.get(&path).await.code(), "not_found");
    let stored = put(&server, digest, content.clone()).await;
    assert_eq!((stored.status, stored.json()), (StatusCode::CREATED, json!({"digest": digest, "size": 50_000})));
    let again = put(&server, digest, content.clone()).await;
    assert_eq!((again.status, again.json()), (StatusCode::OK, json!({"digest": digest, "size": 50_000})));
    let got = server.get(&path).await;
    assert_eq!((got.status, got.body.to_vec()), (StatusCode::OK, content));
    let head = server.raw(request("HEAD", &path).body(Body::empty()).unwrap()).await;
    assert_eq!(
        (head.status, head.body.len(), &head.headers[header::CONTENT_LENGTH]),
        (StatusCode::OK, 0, &"50000".parse().unwrap())
    );
}

#[tokio::test]
async fn bytes_that_are_not_those_of_the_name_are_not_stored() {
    let server = Server::start().await;
    let digest = Sha256Digest::of(b"this");
    let reply = put(&server, digest, b"that".to_vec()).await;
    assert_eq!((reply.status, reply.code().as_str()), (StatusCode::UNPROCESSABLE_ENTITY, "digest_mismatch"));
    assert_eq!(server.get(&format!("/api/v1/blobs/{digest}")).await.status, StatusCode::NOT_FOUND);
    let left = std::fs::read_dir(server.directory.path().join("blobs/tmp")).unwrap().count();
    assert_eq!(left, 0, "nothing is left half-done");
}

#[tokio::test]
async fn a_blob_beyond_the_limit_is_refused() {
    let server = Server::start().await;
    let content = vec![7; 64 * 1024 + 1];
    let digest = Sha256Digest::of(&content);
    let reply = put(&server, digest, content.clone()).await;
    assert_eq!((reply.status, reply.code().as_str()), (StatusCode::PAYLOAD_TOO_LARGE, "too_large"));
    // Without its size announced.
    let pieces = futures_util::stream::iter(
        content.chunks(1000).map(|piece| Ok::<_, std::io::Error>(piece.to_vec())).collect::<Vec<_>>(),
    );
    let request = request("PUT", &format!("/api/v1/blobs/{digest}")).body(Body::from_stream(pieces)).unwrap();
    let reply = server.raw(request).await;
    assert_eq!((reply.status, reply.code().as_str()), (StatusCode::PAYLOAD_TOO_LARGE, "too_large"));
    assert_eq!(server.get(&format!("/api/v1/blobs/{digest}")).await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_body_that_breaks_off_is_not_stored() {
    let server = Server::start().await;
    let digest = Sha256Digest::of(b"whole");
    let pieces =
        futures_util::stream::iter([Ok("who"), Err(std::io::Error::from(std::io::ErrorKind::ConnectionReset))]);
    let request = request("PUT", &format!("/api/v1/blobs/{digest}"));
    let reply = server.raw(request.body(Body::from_stream(pieces)).unwrap()).await;
    assert_eq!((reply.status, reply.code().as_str()), (StatusCode::BAD_REQUEST, "bad_body"));
    assert_eq!(server.get(&format!("/api/v1/blobs/{digest}")).await.status, StatusCode::NOT_FOUND);
}
