//! Subscribers of every kind. Each stays for ever, whatever happens to its connections, and looks at what it is told.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use base64::Engine as _;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tokio_tungstenite::tungstenite::{Message as Frame, client};

use crate::harness::{CppStream, Daemon, Finished, Program, REPOSITORY, cpp_request};

/// Reads are given up after this time, to see whether the test is over.
const LOOK: Duration = Duration::from_millis(200);
/// Pause before who was refused, or cut off, comes again.
const AGAIN: Duration = Duration::from_millis(20);
/// For how long at most a client is busy with what it was told, and reads nothing, in ms.
const BUSY_MS: u64 = 3000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Server-sent events, as the C++ client reads them.
    Cpp,
    /// A WebSocket that asks in a text frame.
    Text,
    /// A WebSocket that asks in a binary frame.
    Binary,
    /// `conveyor notify subscribe`.
    Program,
}

impl Kind {
    pub(super) const ALL: [Self; 4] = [Self::Cpp, Self::Text, Self::Binary, Self::Program];
}

/// One subscriber and what it has seen.
pub(super) struct Subscriber {
    pub(super) name: String,
    seen: Arc<Seen>,
    program: Option<Mutex<Daemon>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Seen {
    last: AtomicU64,
    messages: AtomicU64,
    connections: AtomicU64,
    wrong: Mutex<Option<String>>,
    over: AtomicBool,
}

impl Seen {
    /// Takes a message; older than the last one is wrong.
    fn take(&self, message: &[u8]) {
        let read = || -> Option<u64> {
            let keys: serde_json::Value = serde_json::from_slice(message).ok()?;
            let manifest = base64::engine::general_purpose::STANDARD.decode(keys["manifest"].as_str()?).ok()?;
            let text = String::from_utf8_lossy(&manifest).into_owned();
            text.lines().find_map(|line| line.strip_prefix('S'))?.parse().ok()
        };
        match read() {
            Some(revision) => self.revision(revision),
            None => self.wrong(format!("no message: {}", String::from_utf8_lossy(message))),
        }
    }

    fn revision(&self, revision: u64) {
        self.messages.fetch_add(1, Ordering::SeqCst);
        let last = self.last.fetch_max(revision, Ordering::SeqCst);
        if revision < last {
            self.wrong(format!("revision {revision} after {last}"));
        }
    }

    fn wrong(&self, what: String) {
        self.wrong.lock().unwrap().get_or_insert(what);
    }

    fn is_over(&self) -> bool {
        self.over.load(Ordering::SeqCst)
    }
}

impl Subscriber {
    /// Comes, and stays. `seed` says when it is busy.
    pub(super) fn start(kind: Kind, name: String, port: u16, program: impl FnOnce() -> Program, seed: u64) -> Self {
        let seen = Arc::new(Seen::default());
        if kind == Kind::Program {
            let url = format!("http://127.0.0.1:{port}");
            let mut command =
                program().command(&["--url", &url, "notify", "subscribe", REPOSITORY, "--output", "json"]);
            return Self { name, seen, program: Some(Mutex::new(Daemon::start(&mut command))), thread: None };
        }
        let (to, mut random) = (Arc::clone(&seen), ChaCha8Rng::seed_from_u64(seed));
        let thread = std::thread::spawn(move || {
            while !to.is_over() {
                let Ok(stream) = TcpStream::connect(("127.0.0.1", port)) else {
                    std::thread::sleep(AGAIN);
                    continue;
                };
                stream.set_read_timeout(Some(LOOK)).unwrap();
                if kind == Kind::Cpp {
                    cpp(stream, port, &to, &mut random);
                } else {
                    websocket(stream, port, kind == Kind::Text, &to, &mut random);
                }
                std::thread::sleep(AGAIN);
            }
        });
        Self { name, seen, program: None, thread: Some(thread) }
    }

    /// The last revision that it was told. Panics where anything is wrong.
    pub(super) fn last(&self) -> u64 {
        if let Some(program) = &self.program {
            let program = program.lock().unwrap();
            let mut last = 0;
            for line in program.stdout().lines() {
                let line: serde_json::Value = serde_json::from_str(line).unwrap();
                let revision = line["revision"].as_u64().unwrap();
                assert!(revision > last, "{}: revision {revision} after {last}", self.name);
                last = revision;
            }
            return last;
        }
        if let Some(wrong) = &*self.seen.wrong.lock().unwrap() {
            panic!("{}: {wrong}", self.name);
        }
        self.seen.last.load(Ordering::SeqCst)
    }

    /// Makes a program stand still, or go on.
    pub(super) fn freeze(&self, frozen: bool) {
        if let Some(program) = &self.program {
            use nix::sys::signal::Signal::{SIGCONT, SIGSTOP};
            program.lock().unwrap().send(if frozen { SIGSTOP } else { SIGCONT });
        }
    }

    /// Connections and messages, where they are counted.
    pub(super) fn counts(&self) -> (u64, u64) {
        let told = self.program.as_ref().map_or(0, |program| program.lock().unwrap().stdout().lines().count() as u64);
        (self.seen.connections.load(Ordering::SeqCst), self.seen.messages.load(Ordering::SeqCst) + told)
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        self.seen.over.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Now and then a client is busy with what it was told, or stopped.
fn be_busy(random: &mut ChaCha8Rng) {
    if random.random_range(0..8) == 0 {
        std::thread::sleep(Duration::from_millis(random.random_range(0..BUSY_MS)));
    }
}

fn is_late(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut)
}

fn cpp(mut stream: TcpStream, port: u16, seen: &Seen, random: &mut ChaCha8Rng) {
    let request = cpp_request(&format!("127.0.0.1:{port}"), REPOSITORY);
    let (mut state, mut buffer) = (CppStream::default(), [0; 16 * 1024]);
    if stream.write_all(request.as_bytes()).is_err() {
        return;
    }
    let mut is_there = false;
    while !seen.is_over() {
        match stream.read(&mut buffer) {
            Ok(0) => return,
            Ok(count) => match state.read(&buffer[..count]) {
                Ok(told) => {
                    if state.has_head() && !is_there {
                        is_there = true;
                        seen.connections.fetch_add(1, Ordering::SeqCst);
                    }
                    for message in &told {
                        seen.take(message.as_bytes());
                        be_busy(random);
                    }
                }
                Err(Finished) => return seen.wrong("the stream was finished, and the client never asks again".into()),
            },
            Err(error) if is_late(&error) => {}
            Err(_) => return,
        }
    }
}

fn websocket(stream: TcpStream, port: u16, is_text: bool, seen: &Seen, random: &mut ChaCha8Rng) {
    let Ok((mut socket, _)) = client(format!("ws://127.0.0.1:{port}/api/v1/subscribe"), stream) else { return };
    seen.connections.fetch_add(1, Ordering::SeqCst);
    let request = format!("{{\"version\":1,\"repository\":\"{REPOSITORY}\"}}");
    if socket.send(if is_text { Frame::text(request) } else { Frame::binary(request) }).is_err() {
        return;
    }
    while !seen.is_over() {
        match socket.read() {
            Ok(Frame::Binary(message)) => {
                seen.take(&message);
                be_busy(random);
            }
            Ok(Frame::Ping(_) | Frame::Pong(_)) => {}
            Ok(Frame::Close(_)) => return,
            Ok(other) => return seen.wrong(format!("{other:?}")),
            Err(tokio_tungstenite::tungstenite::Error::Io(error)) if is_late(&error) => {}
            Err(_) => return,
        }
    }
}
