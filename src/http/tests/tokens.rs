//! The life of a token: made, used, revoked, expired; and that its secret is nowhere.

use std::io::Write;
use std::sync::{Arc, Mutex};

use axum::body::Body;
use axum::http::{Request, StatusCode};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::{Reply, Server, TOKEN, job};
use crate::app::Settings;
use crate::domain::access::{Role, Roles, TokenId, TokenRecord};
use crate::domain::token::Token;
use crate::store::Store;

/// The token of an id, always the same.
pub(super) fn secret(id: &str) -> String {
    Token::assemble(&TokenId::new(id).unwrap(), &"5e".repeat(32)).unwrap().expose().to_owned()
}

/// What a token list says of it.
pub(super) fn record<const N: usize>(id: &str, name: &str, roles: [Role; N]) -> TokenRecord {
    TokenRecord {
        id: TokenId::new(id).unwrap(),
        name: name.parse().unwrap(),
        roles: Roles::new(roles).unwrap(),
        sha256: Token::new(&secret(id)).unwrap().digest(),
        note: String::new(),
        created_at: None,
        created_by: None,
        expires_at: None,
        revoked_at: None,
        last_used_at: None,
    }
}

fn new(id: &str, name: &str, roles: &[&str]) -> Value {
    json!({"id": id, "name": name, "roles": roles, "sha256": Token::new(&secret(id)).unwrap().digest()})
}

async fn get(server: &Server, secret: &str, path: &str) -> Reply {
    let request = Request::get(path).header("authorization", format!("Bearer {secret}"));
    server.raw(request.body(Body::empty()).unwrap()).await
}

async fn listed(server: &Server, id: &str) -> Value {
    let list = server.get("/api/v1/tokens").await.json();
    list["tokens"].as_array().unwrap().iter().find(|token| token["id"] == id).cloned().unwrap_or_default()
}

#[tokio::test]
async fn a_token_is_made_used_listed_and_revoked() {
    for server in [Server::start().await, Server::on_disk().await] {
        let made = server.post("/api/v1/tokens", new("alic", "alice", &["submit"])).await;
        assert_eq!(made.status, StatusCode::CREATED, "{}", made.text());
        assert_eq!((&made.json()["state"], &made.json()["created_by"]), (&json!("good"), &json!("bootstrap")));
        assert_eq!(listed(&server, "alic").await["last_used_at"], Value::Null);
        assert_eq!(get(&server, &secret("alic"), "/api/v1/jobs").await.status, StatusCode::OK);
        let token = listed(&server, "alic").await;
        assert_eq!(
            (&token["name"], &token["source"], &token["roles"]),
            (&json!("alice"), &json!("database"), &json!(["submit"]))
        );
        assert!(token["last_used_at"].is_string() && token["created_at"].is_string());
        // The reply may have been lost: the same once more.
        let again = server.post("/api/v1/tokens", new("alic", "alice", &["submit"])).await;
        assert_eq!(again.status, StatusCode::OK);
        for other in [
            new("alic", "alice", &["admin"]),
            json!({"id": "alic", "roles": ["submit"], "sha256": format!("sha256:{}", "0".repeat(64))}),
        ] {
            assert_eq!(server.post("/api/v1/tokens", other).await.code(), "different_token");
        }
        for _ in 0..2 {
            let revoked = server.post("/api/v1/tokens/alic/revoke", json!({})).await;
            assert_eq!((revoked.status, &revoked.json()["state"]), (StatusCode::OK, &json!("revoked")));
            assert_eq!(get(&server, &secret("alic"), "/api/v1/jobs").await.status, StatusCode::UNAUTHORIZED);
        }
        // Made again, it stays revoked.
        server.post("/api/v1/tokens", new("alic", "alice", &["submit"])).await;
        assert_eq!(get(&server, &secret("alic"), "/api/v1/jobs").await.status, StatusCode::UNAUTHORIZED);
        let list = server.get("/api/v1/tokens").await.text();
        assert!(!list.contains(&secret("alic")[14..]) && !list.contains("sha256"), "{list}");
        assert_eq!(server.post("/api/v1/tokens/none/revoke", json!({})).await.code(), "not_found");
        assert_eq!(server.post("/api/v1/tokens/bootstrap/revoke", json!({})).await.code(), "token_in_file");
    }
}

#[tokio::test]
async fn what_makes_no_sense_is_no_token() {
    let server = Server::start().await;
    let good = new("alic", "alice", &["submit"]);
    for (field, value) in [
        ("id", json!("no")),
        ("id", json!("bootstrap")),
        ("id", json!("a_b_c_d")),
        ("name", json!("")),
        ("name", json!("a b")),
        ("roles", json!([])),
        ("roles", json!(["root"])),
        ("roles", json!([{"role": "submit"}])),
        ("sha256", json!("12")),
        ("note", json!("a\nb")),
        ("expires_at", json!("2020-01-01T00:00:00Z")),
        ("scope", json!("/a")),
    ] {
        let mut bad = good.clone();
        bad[field] = value;
        let reply = server.post("/api/v1/tokens", bad.clone()).await;
        assert!(reply.status.is_client_error(), "{bad}: {}", reply.text());
        reply.code();
    }
    assert_eq!(server.get("/api/v1/tokens").await.json()["tokens"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_restart_keeps_tokens_their_use_and_their_revocation() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::on(Store::open(directory.path()).unwrap(), tempfile::tempdir().unwrap(), |_| {}).await;
    for id in ["kept", "gone"] {
        server.post("/api/v1/tokens", new(id, id, &["read", "worker"])).await;
        get(&server, &secret(id), "/api/v1/jobs").await;
    }
    server.post("/api/v1/tokens/gone/revoke", json!({})).await;
    server.engine.save_token_use().await.unwrap();
    let mut before = listed(&server, "kept").await;
    let database = std::fs::read(directory.path().join("conveyor.db-wal")).unwrap();
    let random = secret("kept").as_bytes()[14..].to_vec();
    assert!(!database.windows(random.len()).any(|window| window == random), "no secret is stored");
    drop(server);
    let server = Server::on(Store::open(directory.path()).unwrap(), tempfile::tempdir().unwrap(), |_| {}).await;
    let mut after = listed(&server, "kept").await;
    let micros = |at: Value| at.as_str().unwrap().parse::<Timestamp>().unwrap().as_microsecond();
    assert_eq!(micros(after["last_used_at"].take()), micros(before["last_used_at"].take()));
    assert_eq!(after, before);
    assert_eq!(get(&server, &secret("kept"), "/api/v1/jobs").await.status, StatusCode::OK);
    assert_eq!(get(&server, &secret("gone"), "/api/v1/jobs").await.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_stream_ends_with_the_token_that_opened_it() {
    let server = Server::start().await;
    server.post("/api/v1/tokens", new("reader", "reader", &["read"])).await;
    server.post("/api/v1/tokens", new("other", "other", &["read"])).await;
    let id = server.submit("job").await;
    let log = format!("/api/v1/jobs/{id}/log/stream");
    let mut streams = Vec::new();
    for path in ["/api/v1/events?after=0", &log] {
        streams.push(server.stream_as(&secret("reader"), path).await);
    }
    let mut other = server.stream_as(&secret("other"), "/api/v1/events?after=0").await;
    assert_eq!(streams[0].event().await.2["event"], "submitted");
    assert_eq!(other.event().await.2["event"], "submitted");
    server.post("/api/v1/tokens/reader/revoke", json!({})).await;
    for stream in &mut streams {
        while stream.next().await.is_some() {}
    }
    server.submit("another").await;
    while other.event().await.2["event"] != "submitted" {}
}

#[tokio::test]
async fn a_stream_of_nobody_in_particular_ends_when_nothing_is_shown_to_them_any_more() {
    let (open, may_read) = tokio::sync::watch::channel(true);
    let server = Server::with(|state| state.anonymous_read = may_read).await;
    let mut stream = server.stream_as("", "/api/v1/events?after=0").await;
    server.submit("job").await;
    assert_eq!(stream.event().await.2["event"], "submitted");
    open.send_replace(false);
    while stream.next().await.is_some() {}
}

#[tokio::test]
async fn a_long_poll_ends_with_its_token_and_hands_out_nothing_more() {
    let server = Server::start().await;
    server.post("/api/v1/tokens", new("worker", "worker", &["worker"])).await;
    let path = format!("/api/v1/fleets/default/offers?node=n1&instance={}&wait=60", uuid::Uuid::now_v7());
    let token = secret("worker");
    let began = std::time::Instant::now();
    let polling = get(&server, &token, &path);
    let revoking = async {
        // It waits by then: nothing is there to be handed out.
        tokio::task::yield_now().await;
        server.post("/api/v1/tokens/worker/revoke", json!({})).await;
        server.submit("job").await;
    };
    let (reply, ()) = tokio::join!(polling, revoking);
    assert_eq!((reply.status, reply.code().as_str()), (StatusCode::UNAUTHORIZED, "unauthorized"));
    assert!(began.elapsed() < crate::app::MAX_WAIT, "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_stream_ends_when_its_token_expires_or_its_file_says_otherwise() {
    let server = Server::start().await;
    let reader = || record("reader", "reader", [Role::Read]);
    let mut ending = reader();
    ending.expires_at = Some(Timestamp::now() + SignedDuration::from_secs(3));
    let mut replaced = reader();
    replaced.sha256 = Token::new("another").unwrap().digest();
    let mut degraded = reader();
    degraded.roles = Roles::new([Role::Worker]).unwrap();
    let same = ending.clone();
    for (first, then) in
        [(ending, vec![same]), (reader(), vec![]), (reader(), vec![replaced]), (reader(), vec![degraded])]
    {
        server.engine.set_file_tokens(vec![first]);
        let mut stream = server.stream_as(&secret("reader"), "/api/v1/events").await;
        assert!(stream.is_silent());
        server.engine.set_file_tokens(then);
        assert!(stream.next().await.is_none());
    }
}

#[tokio::test]
async fn the_submitter_is_the_tokens_name_where_that_is_wanted() {
    for wanted in [false, true] {
        let settings = Settings { submitter_is_owner: wanted, ..Settings::default() };
        let server = Server::with_settings(settings).await;
        server
            .engine
            .set_file_tokens(vec![record("alic", "alice", [Role::Submit]), record("robert", "robert", [Role::Submit])]);
        let mut job = job("job");
        job["submitter"] = json!("root@pc");
        let send = async |id: &str, job: &Value| {
            let request = Request::post("/api/v1/jobs").header("authorization", format!("Bearer {}", secret(id)));
            let request = request.header("content-type", "application/json");
            server.raw(request.body(Body::from(job.to_string())).unwrap()).await.status
        };
        assert_eq!(send("alic", &job).await, StatusCode::CREATED);
        let stored = server.get(&format!("/api/v1/jobs/{}", job["id"].as_str().unwrap())).await.json();
        assert_eq!(stored["spec"]["submitter"], if wanted { "alice" } else { "root@pc" });
        assert_eq!(stored["owner"], "alice");
        assert_eq!(send("robert", &job).await, StatusCode::OK, "the same job");
        job["name"] = json!("another");
        assert_eq!(send("alic", &job).await, StatusCode::CONFLICT);
    }
}

/// What was logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn no_secret_is_ever_logged() {
    let log = Log::default();
    let to = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_ansi(false)
        .with_writer(move || to.clone())
        .finish();
    // With a second one alive, tracing asks all of them whether an event is wanted. With one it asks that of the thread which comes
    // by first, which may be another test's, and remembers its no.
    let _second = tracing::Dispatch::new(tracing_subscriber::fmt().with_writer(std::io::sink).finish());
    let logging = tracing::subscriber::set_default(subscriber);
    tracing::callsite::rebuild_interest_cache();
    let server = Server::start().await;
    server.post("/api/v1/tokens", new("alic", "alice", &["submit"])).await;
    let mut expired = record("expired", "expired", [Role::Admin]);
    expired.expires_at = Some(Timestamp::UNIX_EPOCH);
    server.engine.set_file_tokens(vec![expired]);
    for id in ["alic", "expired", "unknown"] {
        get(&server, &secret(id), "/api/v1/jobs").await;
        get(&server, &secret(id), "/api/v1/tokens").await;
        let cookie = format!("conveyor_token={}", hex::encode(secret(id)));
        server.raw(Request::get("/").header("cookie", cookie).body(Body::empty()).unwrap()).await;
        let form = format!("token={}", secret(id));
        let page = server.raw(Request::post("/login").body(Body::from(form)).unwrap()).await;
        assert!(!page.text().contains(&secret(id)));
    }
    server.post("/api/v1/tokens/alic/revoke", json!({})).await;
    get(&server, &secret("alic"), "/api/v1/jobs").await;
    drop(logging);
    let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    for said in ["token created", "token revoked", "alice", "token.id=alic"] {
        assert!(log.contains(said), "{said} is logged: {log}");
    }
    let shared = "5e".repeat(8);
    for secret in [TOKEN, &shared, &hex::encode(&shared), &hex::encode(TOKEN)] {
        assert!(!log.contains(secret), "{log}");
    }
}
