//! What breaks on our side says so, and says no more.

use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode};
use axum::middleware::from_fn;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Router, http::HeaderMap};
use serde_json::{Value, json};
use tower::ServiceExt;

use super::Server;
use crate::app::AppError;
use crate::domain::digest::Sha256Digest;
use crate::http::error::ApiError;
use crate::http::request::accompany;
use crate::store::StoreError;
use crate::store::blobs::BlobError;

async fn answer(error: impl Fn() -> Response + Clone + Send + Sync + 'static) -> (StatusCode, HeaderMap, Value) {
    let router = Router::new().route("/", get(async move || error())).layer(from_fn(accompany));
    let response = router.oneshot(Request::get("/").body(Body::empty()).unwrap()).await.unwrap();
    let (status, headers) = (response.status(), response.headers().clone());
    let body = to_bytes(response.into_body(), usize::MAX).await.unwrap();
    (status, headers, serde_json::from_slice(&body).unwrap())
}

#[tokio::test]
async fn a_failure_shows_its_request_and_not_its_cause() {
    let corrupt = || ApiError::from(AppError::from(StoreError::Corrupt { what: "job 7".into(), why: "secret".into() }));
    let (status, headers, body) = answer(move || corrupt().into_response()).await;
    assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
    let id = headers["x-request-id"].to_str().unwrap();
    assert_eq!(body["error"]["message"], json!(format!("internal error (request id {id})")));
    assert!(!body.to_string().contains("secret"));
}

#[tokio::test]
async fn a_panic_is_a_failure_of_its_request() {
    let (status, _, body) = answer(|| panic!("planted")).await;
    assert_eq!((status, &body["error"]["code"]), (StatusCode::INTERNAL_SERVER_ERROR, &json!("internal")));
    assert!(!body.to_string().contains("planted"));
}

#[tokio::test]
async fn a_full_disk_is_told_apart() {
    let full = || AppError::from(StoreError::Full { path: "/secret".into() });
    let (status, headers, body) = answer(move || ApiError::from(full()).into_response()).await;
    assert_eq!((status, &body["error"]["code"]), (StatusCode::INSUFFICIENT_STORAGE, &json!("storage_full")));
    assert!(headers.contains_key("retry-after") && !body.to_string().contains("/secret"));
    let blob = || AppError::from(BlobError::Store(StoreError::Full { path: "/secret".into() }));
    assert_eq!(answer(move || ApiError::from(blob()).into_response()).await.0, StatusCode::INSUFFICIENT_STORAGE);
    let stopped = || AppError::from(StoreError::Stopped);
    assert_eq!(answer(move || ApiError::from(stopped()).into_response()).await.0, StatusCode::SERVICE_UNAVAILABLE);
}

#[tokio::test]
async fn a_blob_that_was_not_taken_says_why() {
    let mismatch = || {
        AppError::from(BlobError::Mismatch { wanted: Sha256Digest::new([0; 32]), found: Sha256Digest::new([1; 32]) })
    };
    let (status, _, body) = answer(move || ApiError::from(mismatch()).into_response()).await;
    assert_eq!((status, &body["error"]["code"]), (StatusCode::UNPROCESSABLE_ENTITY, &json!("digest_mismatch")));
    assert!(body["error"]["message"].as_str().unwrap().contains(&"01".repeat(32)), "{body}");
    let broken = || AppError::from(BlobError::Receive(std::io::ErrorKind::UnexpectedEof.into()));
    assert_eq!(answer(move || ApiError::from(broken()).into_response()).await.0, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn a_server_that_stops_is_not_ready_but_alive() {
    let server = Server::on_disk().await;
    assert_eq!(
        (server.get("/readyz").await.status, server.get("/healthz").await.status),
        (StatusCode::OK, StatusCode::OK)
    );
    server.shutdown.cancel();
    let reply = server.get("/readyz").await;
    assert_eq!((reply.status, &reply.json()["ready"]), (StatusCode::SERVICE_UNAVAILABLE, &json!(false)));
    assert!(reply.json()["reason"].is_string());
    assert_eq!(server.get("/healthz").await.text(), "ok\n");
}
