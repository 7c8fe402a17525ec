//! Who gets in where: every route with every role, and with every way of having none.

use std::collections::{BTreeMap, BTreeSet};

use axum::body::Body;
use axum::http::{Method, Request, StatusCode};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::tokens::{record, secret};
use super::{Server, TOKEN, job};
use crate::domain::access::Role;
use crate::http::access::{COOKIE, TABLE};

/// Every route, and who gets in: written down once more, so that a slip in the table is one in two places.
const EXPECTED: &[(&str, &str, &str)] = &[
    ("POST", "/api/v1/jobs", "submit operator admin"),
    ("GET", "/api/v1/jobs", "read submit operator admin"),
    ("GET", "/api/v1/jobs/{id}", "read submit operator admin"),
    ("POST", "/api/v1/jobs/{id}/cancel", "operator admin"),
    ("POST", "/api/v1/jobs/{id}/retry", "operator admin"),
    ("POST", "/api/v1/jobs/{id}/resolve", "operator admin"),
    ("POST", "/api/v1/jobs/{id}/revert", "submit operator admin"),
    ("GET", "/api/v1/jobs/{id}/events", "read submit operator admin"),
    ("GET", "/api/v1/events", "read submit operator admin"),
    ("GET", "/api/v1/watch", "read submit operator admin"),
    ("POST", "/api/v1/watch", "read submit operator admin"),
    ("GET", "/api/v1/jobs/{id}/log", "read submit operator admin"),
    ("GET", "/api/v1/jobs/{id}/log/stream", "read submit operator admin"),
    ("GET", "/api/v1/jobs/{id}/changes", "read submit operator admin"),
    ("PUT", "/api/v1/blobs/{digest}", "submit operator admin"),
    ("GET", "/api/v1/blobs/{digest}", "submit worker operator admin"),
    ("HEAD", "/api/v1/blobs/{digest}", "submit worker operator admin"),
    ("GET", "/api/v1/fleets/{fleet}/offers", "worker admin"),
    ("POST", "/api/v1/batches/{batch}/claim", "worker admin"),
    ("POST", "/api/v1/workers/heartbeat", "worker admin"),
    ("GET", "/api/v1/workers", "read submit operator admin"),
    ("POST", "/api/v1/batches/{batch}/intent", "worker admin"),
    ("POST", "/api/v1/batches/{batch}/outcome", "worker admin"),
    ("POST", "/api/v1/batches/{batch}/finding", "worker admin"),
    ("POST", "/api/v1/batches/{batch}/jobs/{job}/pin", "worker admin"),
    ("PUT", "/api/v1/batches/{batch}/jobs/{job}/log", "worker admin"),
    ("PUT", "/api/v1/batches/{batch}/jobs/{job}/changes", "worker admin"),
    ("GET", "/api/v1/repositories", "read submit operator admin"),
    ("GET", "/api/v1/repositories/{name}", "read submit operator admin"),
    ("POST", "/api/v1/repositories/{name}/pause", "operator admin"),
    ("POST", "/api/v1/repositories/{name}/resume", "operator admin"),
    ("POST", "/api/v1/repositories/{name}/hold", "operator admin"),
    ("POST", "/api/v1/repositories/{name}/release", "operator admin"),
    ("POST", "/api/v1/tokens", "admin"),
    ("GET", "/api/v1/tokens", "admin"),
    ("POST", "/api/v1/tokens/{id}/revoke", "admin"),
    ("GET", "/api/v1/openapi.json", "all"),
    ("GET", "/metrics", "read submit operator admin"),
    ("GET", "/healthz", "all"),
    ("GET", "/readyz", "all"),
    ("GET", "/cvmfs/{repository}/{path}", "all"),
    ("HEAD", "/cvmfs/{repository}/{path}", "all"),
    ("GET", "/login", "all"),
    ("POST", "/login", "all"),
    ("GET", "/assets/{file}", "all"),
    ("GET", "/", "read submit operator admin"),
    ("GET", "/jobs/{id}", "read submit operator admin"),
    ("GET", "/workers", "read submit operator admin"),
];

/// A route's path with something in place of its parameters; `id` is that of a job.
fn filled(path: &str, id: &str) -> String {
    let digest = format!("sha256:{}", "0".repeat(64));
    let path = path.replace("/tokens/{id}", "/tokens/absent").replace("{*path}", "{path}");
    let path = path
        .replace("{digest}", &digest)
        .replace("{fleet}", "absent")
        .replace("{repository}", "a.b")
        .replace("{name}", "a.b");
    path.replace("{path}", ".cvmfspublished")
        .replace("{file}", "icon.svg")
        .replace("{id}", id)
        .replace("{batch}", "01890000-0000-7000-8000-000000000000")
        .replace("{job}", id)
}

/// A request for a route, with one header.
pub(super) fn with(method: &Method, path: &str, header: Option<(&str, String)>) -> Request<Body> {
    about("01890000-0000-7000-8000-000000000000", method, path, header)
}

fn about(id: &str, method: &Method, path: &str, header: Option<(&str, String)>) -> Request<Body> {
    // The shortest wait for offers.
    let wait = if path.ends_with("/offers") { "?wait=0" } else { "" };
    let mut request = Request::builder().method(method).uri(filled(path, id) + wait);
    if let Some((name, value)) = header {
        request = request.header(name, value);
    }
    request.body(Body::empty()).unwrap()
}

fn bearer(secret: &str) -> Option<(&'static str, String)> {
    Some(("authorization", format!("Bearer {secret}")))
}

fn cookie(secret: &str) -> Option<(&'static str, String)> {
    Some(("cookie", format!("theme=dark; {COOKIE}={}; x=y", hex::encode(secret))))
}

/// A server that knows a token of each role, by the role's name, and two that are no longer good.
async fn server(anonymous_read: bool) -> (Server, BTreeMap<String, String>) {
    let server = Server::with(|state| state.anonymous_read = tokio::sync::watch::channel(anonymous_read).1).await;
    let mut tokens = Vec::new();
    for role in Role::ALL {
        tokens.push(record(role.as_str(), role.as_str(), [role]));
    }
    let mut expired = record("expired", "expired", [Role::Admin]);
    expired.expires_at = Some(Timestamp::now() - SignedDuration::from_secs(1));
    let mut revoked = record("revoked", "revoked", [Role::Admin]);
    revoked.revoked_at = Some(Timestamp::now());
    tokens.extend([expired, revoked]);
    server.engine.set_file_tokens(tokens);
    let secrets = Role::ALL.map(|role| (role.as_str().to_owned(), secret(role.as_str())));
    (server, secrets.into())
}

#[tokio::test]
async fn every_route_lets_in_the_roles_that_it_should_and_no_other() {
    for anonymous_read in [false, true] {
        let (server, secrets) = server(anonymous_read).await;
        let id = server.submit("of the bootstrap token").await;
        for (method, path, roles) in EXPECTED {
            let (method, is_login) = (Method::from_bytes(method.as_bytes()).unwrap(), *path == "/login");
            let status = async |header| server.status(about(&id, &method, path, header)).await;
            let is_open = *roles == "all" || anonymous_read && roles.contains("read");
            // Of the form, a refusal is the answer.
            let lets_in =
                |status: StatusCode| is_login || !matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN);
            for (role, secret) in &secrets {
                let why = format!("{method} {path} {role} anonymous_read={anonymous_read}");
                let may = is_open || roles.split(' ').any(|word| word == role);
                let found = status(bearer(secret)).await;
                assert_eq!(lets_in(found), may, "{why}: {found}");
                assert!(may || found == StatusCode::FORBIDDEN, "{why}: {found}");
                // A cookie comes with requests that another site's page caused, so it only looks at jobs.
                let looks = is_open || may && roles.contains("read") && method == Method::GET;
                let found = status(cookie(secret)).await;
                assert_eq!(lets_in(found), looks, "{why} by cookie: {found}");
            }
            assert!(lets_in(status(bearer(TOKEN)).await), "{method} {path} bootstrap");
            let mut right = secrets["admin"].clone();
            assert!(lets_in(status(Some(("authorization", format!("bEARER  {right}")))).await), "{method} {path}");
            right.pop();
            let wrong = [
                None,
                bearer(""),
                bearer("wrong"),
                bearer(&right),
                bearer(&format!("{right}x")),
                bearer(&secrets["admin"].to_uppercase()),
                bearer(&secrets["admin"].replace("admin", "expired")),
                bearer(&format!("{TOKEN}x")),
                bearer(&secret("expired")),
                bearer(&secret("revoked")),
                bearer(&secret("bootstrap")),
                Some(("authorization", secrets["admin"].clone())),
                Some(("authorization", format!("Basic {}", secrets["admin"]))),
                cookie("wrong"),
                cookie(&secret("revoked")),
            ];
            for header in wrong {
                let why = format!("{method} {path} {header:?} anonymous_read={anonymous_read}");
                let found = status(header).await;
                assert_eq!(lets_in(found), is_open, "{why}: {found}");
                assert!(is_open || found == StatusCode::UNAUTHORIZED, "{why}: {found}");
            }
        }
    }
}

#[tokio::test]
async fn no_route_is_without_a_rule_and_no_rule_without_a_route() {
    let (server, _) = server(false).await;
    let document = server.get("/api/v1/openapi.json").await.json();
    let paths = document["paths"].as_object().unwrap();
    let routes = paths.iter().flat_map(|(path, item)| {
        item.as_object().unwrap().keys().map(move |method| (method.to_uppercase(), path.clone()))
    });
    let expected: BTreeSet<_> = EXPECTED.iter().map(|(method, path, _)| ((*method).into(), (*path).into())).collect();
    assert_eq!(routes.collect::<BTreeSet<(String, String)>>(), expected);
    let table = TABLE.iter().map(|(method, path, _)| (method.to_string(), path.replace("{*", "{")));
    let expected: BTreeSet<_> = expected.into_iter().filter(|(method, _)| method != "HEAD").collect();
    assert_eq!(table.collect::<BTreeSet<_>>(), expected);
    for (method, path, _) in TABLE {
        let reply = server.raw(with(method, path, bearer(TOKEN)));
        if path.ends_with("events") || path.ends_with("stream") {
            continue;
        }
        let reply = reply.await;
        assert_ne!(reply.status, StatusCode::METHOD_NOT_ALLOWED, "{method} {path}");
        assert!(!reply.text().contains("no_such_route"), "{method} {path}");
    }
}

/// Sends a body as a token's holder.
async fn post(server: &Server, secret: &str, path: &str, body: Value) -> super::Reply {
    let request = Request::post(path).header("authorization", format!("Bearer {secret}"));
    server.raw(request.header("content-type", "application/json").body(Body::from(body.to_string())).unwrap()).await
}

#[tokio::test]
async fn a_refusal_names_the_role_that_is_needed_and_those_that_are_there() {
    let (server, secrets) = server(false).await;
    let error = async |secret: &str| {
        let reply = post(&server, secret, "/api/v1/jobs", job("x")).await;
        (reply.status.as_u16(), reply.code(), reply.text())
    };
    let (status, code, text) = error(&secrets["worker"]).await;
    assert_eq!((status, code.as_str()), (403, "forbidden"));
    assert!(text.contains("role submit") && text.contains("has worker") && text.contains("token create"), "{text}");
    for (secret, said) in [
        ("none", "not known"),
        (&secret("expired"), "token expired (expired) has expired"),
        (&secret("revoked"), "was revoked"),
        // Who only guesses the id is told nothing about the token.
        (&secret("revoked").replace("5e", "5f"), "not known"),
    ] {
        let (status, code, text) = error(secret).await;
        assert_eq!((status, code.as_str()), (401, "unauthorized"), "{text}");
        assert!(text.contains(said) && text.contains("role submit"), "{text}");
        assert!(!text.contains(secret), "{text}");
    }
}

#[tokio::test]
async fn a_submitter_steers_its_own_jobs_and_an_operator_all() {
    let (server, secrets) = server(false).await;
    server.engine.set_file_tokens(vec![
        record("alic", "alice", [Role::Submit]),
        record("alicenew", "alice", [Role::Submit]),
        record("robert", "robert", [Role::Submit]),
        record("operator", "operator", [Role::Operator]),
    ]);
    let (alice, renewed, robert) = (secret("alic"), secret("alicenew"), secret("robert"));
    for (owner, other, status) in [
        (alice.as_str(), alice.as_str(), 200),
        (&alice, &renewed, 200),
        (&alice, &robert, 403),
        (&alice, &secrets["operator"], 200),
        (&alice, TOKEN, 200),
        (TOKEN, &alice, 403),
    ] {
        let job = job("job");
        assert_eq!(post(&server, owner, "/api/v1/jobs", job.clone()).await.status, StatusCode::CREATED);
        let id = job["id"].as_str().unwrap();
        for action in ["cancel", "retry"] {
            let reply = post(&server, other, &format!("/api/v1/jobs/{id}/{action}"), json!({})).await;
            assert_eq!(reply.status.as_u16(), status, "{action}: {}", reply.text());
            if status == 403 {
                assert!(reply.code() == "forbidden" && reply.text().contains("needs the role operator"));
            }
        }
        // Whoever asks again for the same job does not make it its own.
        let reply = post(&server, other, "/api/v1/jobs", job.clone()).await;
        assert_eq!(reply.status, StatusCode::OK);
        let name = if owner == TOKEN { "bootstrap" } else { "alice" };
        assert_eq!(server.get(&format!("/api/v1/jobs/{id}")).await.json()["owner"], name);
    }
    // A job from before tokens had names is nobody's.
    let job = job("old");
    server.engine.submit(None, vec![serde_json::from_value(job.clone()).unwrap()]).await.unwrap();
    let path = format!("/api/v1/jobs/{}/cancel", job["id"].as_str().unwrap());
    assert_eq!(post(&server, &alice, &path, json!({})).await.status, StatusCode::FORBIDDEN);
    assert_eq!(post(&server, &secrets["operator"], &path, json!({})).await.status, StatusCode::OK);
}
