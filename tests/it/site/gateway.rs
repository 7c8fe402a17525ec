//! A stand-in for `cvmfs-gateway` 2.12, in this process: leases that overlap as SQL's `LIKE` has it, one lock over all leases
//! during a commit, errors with status 200. Its receiver commits with the library's own writer.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::body::Bytes;
use axum::extract::{Path as Segment, State};
use axum::http::HeaderMap;
use axum::routing::{get, post};
use axum::{Json, Router};
use conveyor::cvmfs::stratum0::{NewTag, Stratum0};
use serde_json::{Value, json};

use super::apply;
use super::signature::authorization;
use crate::harness::{Port, until};

/// The only key.
pub(crate) const KEY: (&str, &str) = ("key1", "secret1");

/// A gateway for the repositories below one directory. What it knows stays while it is down.
pub(crate) struct StandIn {
    port: Port,
    runtime: Option<tokio::runtime::Runtime>,
    shared: Arc<Shared>,
}

struct Shared {
    repositories: PathBuf,
    keys: PathBuf,
    spool: tempfile::TempDir,
    lease_time: Mutex<Duration>,
    leases: Mutex<BTreeMap<String, Lease>>,
    /// Held during a whole commit, and by whoever looks at leases.
    commit: Arc<tokio::sync::Mutex<()>>,
    stopped: AtomicBool,
    in_commit: AtomicBool,
    made: Mutex<u64>,
}

struct Lease {
    path: String,
    hostname: String,
    end: Instant,
    payloads: Vec<PathBuf>,
    /// Statistics of it are in memory: after a restart there are none, and it cannot be committed.
    counted: bool,
}

impl StandIn {
    pub(crate) fn start(repositories: &Path, keys: &Path) -> Self {
        let shared = Shared {
            repositories: repositories.to_owned(),
            keys: keys.to_owned(),
            spool: tempfile::tempdir().unwrap(),
            lease_time: Mutex::new(Duration::from_secs(7200)),
            leases: Mutex::default(),
            commit: Arc::default(),
            stopped: AtomicBool::new(false),
            in_commit: AtomicBool::new(false),
            made: Mutex::default(),
        };
        let mut gateway = Self { port: Port::reserve(), runtime: None, shared: Arc::new(shared) };
        gateway.up();
        gateway
    }

    pub(crate) fn port(&self) -> u16 {
        self.port.number()
    }

    pub(crate) fn down(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
            self.shared.leases.lock().unwrap().values_mut().for_each(|lease| lease.counted = false);
        }
    }

    pub(crate) fn up(&mut self) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        // What was there before may still be on its way out.
        let bind = || runtime.block_on(tokio::net::TcpListener::bind(self.port.address())).ok();
        let listener = until("the port is free", bind);
        let router = Router::new()
            .route("/api/v1/leases", get(list).post(acquire))
            .route("/api/v1/leases/{token}", get(look).post(commit).delete(remove))
            .route("/api/v1/payloads", post(payload))
            .route("/api/v1/repos", get(repositories))
            .with_state(Arc::clone(&self.shared));
        runtime.spawn(async move { axum::serve(listener, router).await.unwrap() });
        self.runtime = Some(runtime);
    }

    /// How long leases last that are acquired from now on.
    pub(crate) fn set_lease_time(&self, time: Duration) {
        *self.shared.lease_time.lock().unwrap() = time;
    }

    /// Whether the receiver stands still in the middle of each commit, until this is taken back.
    pub(crate) fn stop_commits(&self, stop: bool) {
        self.shared.stopped.store(stop, Ordering::SeqCst);
    }

    /// Whether a payload has come that is not committed yet.
    pub(crate) fn has_payload(&self) -> bool {
        self.shared.leases.lock().unwrap().values().any(|lease| !lease.payloads.is_empty())
    }

    /// Whether a commit has come to where it can be stopped.
    pub(crate) fn is_in_commit(&self) -> bool {
        self.shared.in_commit.load(Ordering::SeqCst)
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        self.stop_commits(false);
        self.down();
    }
}

type Answer = Json<Value>;

fn error(reason: &str) -> Answer {
    Json(json!({"status": "error", "reason": reason}))
}

fn is_signed(headers: &HeaderMap, message: &[u8]) -> bool {
    let given = headers.get("authorization").and_then(|value| value.to_str().ok());
    given == Some(authorization(KEY.0, KEY.1, message).as_str())
}

async fn list(State(shared): State<Arc<Shared>>) -> Answer {
    let _guard = shared.commit.lock().await;
    let leases = shared.leases.lock().unwrap();
    let of = |lease: &Lease| (lease.path.clone(), view(lease));
    let data: BTreeMap<_, _> = leases.values().filter(|lease| lease.is_alive()).map(of).collect();
    Json(json!({"status": "ok", "data": data}))
}

fn view(lease: &Lease) -> Value {
    let left = lease.end.saturating_duration_since(Instant::now());
    let end = jiff::Timestamp::now() + jiff::SignedDuration::try_from(left).unwrap();
    let end = end.strftime("%Y-%m-%d %H:%M:%S.%3f +0000 UTC").to_string();
    json!({"key_id": KEY.0, "path": lease.path, "expires": end, "hostname": lease.hostname})
}

async fn look(State(shared): State<Arc<Shared>>, Segment(token): Segment<String>) -> Answer {
    match shared.leases.lock().unwrap().get(&token).filter(|lease| lease.is_alive()) {
        Some(lease) => Json(json!({"status": "ok", "data": view(lease)})),
        None => error("invalid lease"),
    }
}

async fn repositories(State(shared): State<Arc<Shared>>) -> Answer {
    let names = std::fs::read_dir(&shared.repositories).unwrap().flatten();
    let of = |name: String| (name, json!({"keys": {KEY.0: "/"}, "enabled": true}));
    let data: BTreeMap<_, _> = names.map(|entry| of(entry.file_name().into_string().unwrap())).collect();
    Json(json!({"status": "ok", "data": data}))
}

async fn acquire(State(shared): State<Arc<Shared>>, headers: HeaderMap, body: Bytes) -> Answer {
    if !is_signed(&headers, &body) {
        return error("invalid_hmac");
    }
    let Ok(body) = serde_json::from_slice::<Value>(&body) else { return error("invalid_body") };
    let path = body["path"].as_str().unwrap_or_default().to_owned();
    if !path.contains('/') {
        return error("invalid_path");
    }
    let _guard = shared.commit.lock().await;
    let mut leases = shared.leases.lock().unwrap();
    leases.retain(|_, lease| lease.is_alive());
    if let Some(other) = leases.values().find(|other| overlap(&other.path, &path)) {
        let left = other.end.saturating_duration_since(Instant::now());
        return Json(json!({"status": "path_busy", "time_remaining": go_duration(left)}));
    }
    let mut made = shared.made.lock().unwrap();
    *made += 1;
    let token = format!("STANDIN{:0>45}====", *made);
    let lease = Lease {
        path,
        hostname: body["hostname"].as_str().unwrap_or_default().to_owned(),
        end: Instant::now() + *shared.lease_time.lock().unwrap(),
        payloads: Vec::new(),
        counted: true,
    };
    leases.insert(token.clone(), lease);
    Json(json!({"status": "ok", "session_token": token, "max_api_version": 3}))
}

async fn remove(State(shared): State<Arc<Shared>>, Segment(token): Segment<String>, headers: HeaderMap) -> Answer {
    if !is_signed(&headers, token.as_bytes()) {
        return error("invalid_hmac");
    }
    let _guard = shared.commit.lock().await;
    match shared.leases.lock().unwrap().remove(&token) {
        Some(_) => Json(json!({"status": "ok"})),
        None => error("invalid lease"),
    }
}

async fn payload(State(shared): State<Arc<Shared>>, headers: HeaderMap, body: Bytes) -> Answer {
    let size = headers.get("message-size").and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    let Some((message, pack)) = size.and_then(|size| body.split_at_checked(size)) else { return error("bad size") };
    if !is_signed(&headers, message) {
        return error("invalid_hmac");
    }
    let message: Value = serde_json::from_slice(message).unwrap();
    let header: usize = message["header_size"].as_str().unwrap().parse().unwrap();
    let mut leases = shared.leases.lock().unwrap();
    let token = message["session_token"].as_str().unwrap_or_default();
    let Some(lease) = leases.get_mut(token).filter(|lease| lease.is_alive()) else { return error("invalid lease") };
    let file = shared.spool.path().join(format!("{token}.{}", lease.payloads.len()));
    std::fs::write(&file, &pack[header..]).unwrap();
    lease.payloads.push(file);
    Json(json!({"status": "ok"}))
}

async fn commit(
    State(shared): State<Arc<Shared>>,
    Segment(token): Segment<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    if !is_signed(&headers, token.as_bytes()) {
        return error("invalid_hmac");
    }
    let body: Value = serde_json::from_slice(&body).unwrap();
    let guard = Arc::clone(&shared.commit).lock_owned().await;
    // A commit outlives who asked for it.
    let committed = tokio::task::spawn_blocking(move || {
        let _guard = guard;
        receive(&shared, &token, &body)
    });
    committed.await.unwrap()
}

/// What the receiver does.
fn receive(shared: &Shared, token: &str, body: &Value) -> Answer {
    let (name, payloads) = match shared.leases.lock().unwrap().get(token).filter(|lease| lease.is_alive()) {
        None => return error("invalid lease"),
        Some(lease) if !lease.counted => return error("no statistics of this lease"),
        Some(lease) => (lease.path.split('/').next().unwrap().to_owned(), lease.payloads.clone()),
    };
    let stratum0 = Stratum0::at(shared.repositories.join(&name), &name, &shared.keys);
    let text = |key: &str| body[key].as_str().unwrap_or_default().to_owned();
    let (tag, description) = (text("tag_name"), text("tag_description"));
    let payloads: Vec<&Path> = payloads.iter().map(PathBuf::as_path).collect();
    let done = apply::publish(&stratum0, &payloads, Some(NewTag { name: &tag, description: &description }), &|step| {
        if step == "before-flip" {
            shared.in_commit.store(true, Ordering::SeqCst);
            while shared.stopped.load(Ordering::SeqCst) {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    });
    shared.in_commit.store(false, Ordering::SeqCst);
    match done {
        Ok(manifest) => {
            shared.leases.lock().unwrap().remove(token);
            Json(json!({"status": "ok", "final_revision": manifest.revision}))
        }
        Err(why) => error(&why),
    }
}

impl Lease {
    fn is_alive(&self) -> bool {
        Instant::now() < self.end
    }
}

/// One path is a prefix of the other as `LIKE` compares: without regard to case, `_` any character and `%` any text.
fn overlap(one: &str, other: &str) -> bool {
    let (one, other) = (one.to_lowercase(), other.to_lowercase());
    let (Some((repository, one)), Some((same, other))) = (one.split_once('/'), other.split_once('/')) else {
        return false;
    };
    repository == same && (like(one.as_bytes(), other.as_bytes()) || like(other.as_bytes(), one.as_bytes()))
}

/// Whether a text begins as a pattern says.
fn like(pattern: &[u8], text: &[u8]) -> bool {
    match (pattern.split_first(), text.split_first()) {
        (None, _) => true,
        (Some((b'%', rest)), _) => (0..=text.len()).any(|from| like(rest, &text[from..])),
        (Some((b'_', rest)), Some((_, text))) => like(rest, text),
        (Some((a, rest)), Some((b, text))) => a == b && like(rest, text),
        (Some(_), None) => false,
    }
}

/// A time as Go prints it: `1h2m3.5s`, `4.99685126s`, `350ms`.
fn go_duration(time: Duration) -> String {
    let (minutes, seconds) = (time.as_secs() / 60, time.as_secs_f64() % 60.0);
    match minutes {
        0 if time < Duration::from_secs(1) => format!("{}ms", time.as_secs_f64() * 1000.0),
        0 => format!("{seconds}s"),
        1..60 => format!("{minutes}m{seconds}s"),
        _ => format!("{}h{}m{seconds}s", minutes / 60, minutes % 60),
    }
}

#[test]
fn paths_overlap_as_the_gateway_compares_them() {
    for (one, other, expected) in [
        ("r/rel-1", "r/rel-10", true),
        ("r/a_c", "r/abc/d", true),
        ("r/A", "r/a/b", true),
        ("r/", "r/anything", true),
        ("r/a", "r/b", false),
        ("r/", "r2/a", false),
        ("r/a/b", "r/a/c", false),
    ] {
        assert_eq!(overlap(one, other), expected, "{one} {other}");
        assert_eq!(overlap(other, one), expected, "{other} {one}");
    }
}

#[test]
fn times_are_printed_as_go_does() {
    let cases = [(350, "350ms"), (4_500, "4.5s"), (62_000, "1m2s"), (3_723_500, "1h2m3.5s")];
    for (milliseconds, text) in cases {
        assert_eq!(go_duration(Duration::from_millis(milliseconds)), text);
    }
}
