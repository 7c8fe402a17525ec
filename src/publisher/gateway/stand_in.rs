//! A stand-in for `cvmfs-gateway`, for tests: it answers as version 2.12 was measured to, and as later ones are written.

#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, VecDeque};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;

use super::GatewayKey;

/// What goes wrong with the next request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It is carried out, and the connection is cut before the answer.
    CutAfter,
    /// The connection is cut, and it is not carried out.
    CutBefore,
    /// Something else answers.
    Answer(u16, &'static str),
}

/// What the stand-in holds.
#[derive(Default)]
pub(crate) struct State {
    /// Leases by their tokens: path, key id, end as Go prints it, host.
    pub(crate) leases: BTreeMap<String, [String; 4]>,
    /// Repositories, and whether they are enabled.
    pub(crate) repositories: BTreeMap<String, bool>,
    /// Faults, for one request each.
    pub(crate) faults: VecDeque<Fault>,
    /// All requests: method, path and body.
    pub(crate) seen: Vec<(String, String, String)>,
    /// A commit runs: until 2.12 nothing about leases is answered meanwhile.
    pub(crate) committing: bool,
    /// Leases can be refreshed, and a commit holds nobody up.
    pub(crate) newer: bool,
    /// It says `ok` to disabling and does not do it.
    pub(crate) disables_nothing: bool,
    stopped: bool,
}

/// A gateway that runs until it is dropped.
pub(crate) struct StandIn {
    address: SocketAddr,
    shared: Arc<(Mutex<State>, Condvar)>,
    thread: Option<JoinHandle<()>>,
}

/// The one key that it knows; it is an admin's.
pub(crate) fn key() -> GatewayKey {
    GatewayKey::new("key1", "secret1").unwrap()
}

impl StandIn {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared: Arc<(Mutex<State>, Condvar)> = Arc::default();
        let for_thread = Arc::clone(&shared);
        let thread = std::thread::spawn(move || {
            let mut answering = Vec::new();
            for stream in listener.incoming() {
                if for_thread.0.lock().unwrap().stopped {
                    break;
                }
                let shared = Arc::clone(&for_thread);
                answering.push(std::thread::spawn(move || answer(stream.unwrap(), &shared)));
            }
            for one in answering {
                one.join().unwrap();
            }
        });
        Self { address, shared, thread: Some(thread) }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/api/v1", self.address)
    }

    /// What it holds; who is held up by a commit looks again when this is let go.
    pub(crate) fn state(&self) -> StateGuard<'_> {
        StateGuard { state: self.shared.0.lock().unwrap(), changed: &self.shared.1 }
    }

    pub(crate) fn add_lease(&self, token: &str, path: &str, expires: &str, host: &str) {
        let lease = [path, "key1", expires, host].map(str::to_owned);
        self.state().leases.insert(token.to_owned(), lease);
    }

    /// Waits until this many requests have come.
    pub(crate) fn wait_for_requests(&self, count: usize) {
        let state = self.shared.0.lock().unwrap();
        drop(self.shared.1.wait_while(state, |state| state.seen.len() < count).unwrap());
    }
}

pub(crate) struct StateGuard<'a> {
    state: MutexGuard<'a, State>,
    changed: &'a Condvar,
}

impl std::ops::Deref for StateGuard<'_> {
    type Target = State;
    fn deref(&self) -> &State {
        &self.state
    }
}

impl std::ops::DerefMut for StateGuard<'_> {
    fn deref_mut(&mut self) -> &mut State {
        &mut self.state
    }
}

impl Drop for StateGuard<'_> {
    fn drop(&mut self) {
        self.changed.notify_all();
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        {
            let mut state = self.state();
            state.stopped = true;
            state.committing = false;
        }
        drop(TcpStream::connect(self.address));
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

/// Reads one request and answers it.
fn answer(mut stream: TcpStream, shared: &(Mutex<State>, Condvar)) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut head = String::new();
    while reader.read_line(&mut head).unwrap_or(0) > 2 {}
    let header = |name: &str| {
        head.lines().find_map(|line| line.split_once(": ").filter(|(key, _)| key.eq_ignore_ascii_case(name)))
    };
    let length = header("content-length").map_or(0, |(_, value)| value.trim().parse().unwrap());
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    let body = String::from_utf8(body).unwrap();
    let authorization = header("authorization").map(|(_, value)| value.trim().to_owned());
    let mut line = head.split(' ');
    let (Some(method), Some(path)) = (line.next(), line.next()) else { return };

    let mut state = shared.0.lock().unwrap();
    state.seen.push((method.to_owned(), path.to_owned(), body.clone()));
    shared.1.notify_all();
    let fault = state.faults.pop_front();
    if fault == Some(Fault::CutBefore) {
        return;
    }
    if path.contains("/leases") && !state.newer {
        state = shared.1.wait_while(state, |state| state.committing).unwrap();
    }
    let (status, text) = match &fault {
        Some(Fault::Answer(status, text)) => (*status, (*text).to_owned()),
        _ => carry_out(&mut state, method, path, &body, authorization.as_deref()),
    };
    drop(state);
    if fault != Some(Fault::CutAfter) {
        let _ =
            write!(stream, "HTTP/1.1 {status} X\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{text}", text.len());
    }
}

fn carry_out(state: &mut State, method: &str, path: &str, body: &str, authorization: Option<&str>) -> (u16, String) {
    let ok = || (200, r#"{"status":"ok"}"#.to_owned());
    let error = |reason: &str| (200, format!(r#"{{"reason":"{reason}","status":"error"}}"#));
    let signed = |message: &str| authorization == Some(key().authorization(message.as_bytes()).as_str());
    let lease = |[path, key, expires, host]: &[String; 4]| serde_json::json!({ "key_id": key, "path": path, "expires": expires, "hostname": host });
    let route: Vec<&str> = path.trim_start_matches("/api/v1/").splitn(2, '/').collect();
    match (method, &route[..]) {
        ("GET", ["leases"]) => {
            let leases: BTreeMap<_, _> = state.leases.values().map(|one| (one[0].clone(), lease(one))).collect();
            (200, serde_json::json!({ "status": "ok", "data": leases }).to_string())
        }
        ("GET", ["leases", token]) => match state.leases.get(*token) {
            Some(one) => (200, serde_json::json!({ "data": lease(one) }).to_string()),
            None => (500, "invalid lease\n".into()),
        },
        ("DELETE", ["leases", token]) if !signed(token) => error("invalid_hmac"),
        ("DELETE", ["leases", token]) => match state.leases.remove(*token) {
            Some(_) => ok(),
            None => error("invalid lease"),
        },
        ("PATCH", ["leases", _]) if !state.newer => (405, "Method Not Allowed\n".into()),
        ("PATCH", ["leases", token]) if !signed(token) => error("invalid_hmac"),
        ("PATCH", ["leases", token]) => match state.leases.get_mut(*token) {
            Some(one) => {
                one[2] = "2099-01-01 00:00:00 +0000 UTC".into();
                (200, serde_json::json!({ "status": "ok", "data": lease(one) }).to_string())
            }
            None => error("invalid lease"),
        },
        ("GET", ["repos"]) => {
            let one = |(name, enabled): (&String, &bool)| {
                (name.clone(), serde_json::json!({ "keys": { "key1": "/" }, "enabled": enabled }))
            };
            let all: BTreeMap<_, _> = state.repositories.iter().map(one).collect();
            (200, serde_json::json!({ "status": "ok", "data": all }).to_string())
        }
        ("POST", ["repos" | "gc", ..]) if !signed(body) => error("invalid_hmac"),
        ("POST", ["repos", name]) => {
            let enable = body.contains("true");
            if !state.disables_nothing || enable {
                state.repositories.insert((*name).to_owned(), enable);
            }
            ok()
        }
        ("POST", ["gc"]) => (200, serde_json::json!({ "status": "ok", "output": format!("gc {body}") }).to_string()),
        ("DELETE", ["leases-by-path", _]) if !signed(&path.replace("%20", " ")) => error("invalid_hmac"),
        ("DELETE", ["leases-by-path", prefix]) => {
            let prefix = prefix.replace("%20", " ");
            state.leases.retain(|_, one| !one[0].starts_with(&prefix));
            ok()
        }
        _ => (404, "404 page not found\n".into()),
    }
}
