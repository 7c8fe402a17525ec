//! Before and after a standby becomes the leader.

use std::sync::{Arc, OnceLock};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{Response, StatusCode};
use tower::ServiceExt;

use super::{Server, request};
use crate::domain::protocol::ErrorBody;
use crate::http::access::TABLE;
use crate::http::until_leading;

async fn ask(router: &Router, method: &str, path: &str) -> Response<Body> {
    router.clone().oneshot(request(method, path).body(Body::empty()).unwrap()).await.unwrap()
}

#[tokio::test]
async fn every_route_but_those_of_health_says_not_leader_until_it_leads() {
    let leading = Arc::new(OnceLock::new());
    let router = until_leading(Arc::clone(&leading));
    for (method, path, _) in TABLE.iter().filter(|(_, path, _)| !matches!(*path, "/healthz" | "/readyz")) {
        let response = ask(&router, method.as_str(), path).await;
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE, "{method} {path}");
        assert_eq!(response.headers()["retry-after"], "1");
        assert!(response.headers().contains_key("x-request-id"));
        let body: ErrorBody = serde_json::from_slice(&to_bytes(response.into_body(), 10_000).await.unwrap()).unwrap();
        assert_eq!(body.error.code, "not_leader");
        assert!(body.error.hint.contains("/readyz"), "{body:?}");
    }
    assert_eq!(ask(&router, "POST", "/healthz").await.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(ask(&router, "GET", "/healthz").await.status(), StatusCode::OK);
    assert_eq!(ask(&router, "GET", "/readyz").await.status(), StatusCode::SERVICE_UNAVAILABLE);

    let server = Server::start().await;
    leading.set(server.router.clone()).unwrap();
    assert_eq!(ask(&router, "GET", "/readyz").await.status(), StatusCode::OK);
    // The routes' rules hold behind it.
    assert_eq!(ask(&router, "GET", "/api/v1/jobs").await.status(), StatusCode::OK);
    let nobody = axum::http::Request::get("/api/v1/jobs").body(Body::empty()).unwrap();
    assert_eq!(router.clone().oneshot(nobody).await.unwrap().status(), StatusCode::UNAUTHORIZED);
    assert_eq!(ask(&router, "GET", "/nowhere").await.status(), StatusCode::NOT_FOUND);
}
