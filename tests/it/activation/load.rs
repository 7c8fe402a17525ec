//! Many clients at a steady pace: some that never try anything twice, some with the client library.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::body::{Body, to_bytes};
use conveyor::client::{Client, ListQuery};
use conveyor::domain::ids::JobId;
use conveyor::domain::job::spec::{JobSpec, Payload};
use conveyor::domain::token::Token;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpStream, UnixStream};

use super::Held;
use crate::harness::{REPOSITORY, job, until};

/// Requests of all clients together.
const PER_SECOND: u32 = 200;
/// Clients of each of the two kinds that together keep the pace.
const CLIENTS: u32 = 20;
/// Longer than the server keeps an idle connection when it stops.
const SLOW: Duration = Duration::from_millis(1700);
/// A connection that was not used for so long is an idle one: the server, when it stops, gives each half a second to send a
/// last request, and on a busy machine a client that keeps the pace may come later.
const IDLE: Duration = Duration::from_millis(350);
const ANSWER_MAX: usize = 1 << 20;

/// What all clients together have seen.
#[derive(Default)]
pub(super) struct Tally {
    accepted: Mutex<BTreeSet<JobId>>,
    sent: AtomicUsize,
    /// Requests that came to nothing, of clients that do not try again and of the library.
    raw: Mutex<Vec<String>>,
    library: Mutex<Vec<String>>,
    /// Of those that try nothing again and send on connections that were idle: where the server closes one at the moment at
    /// which a request goes out, nothing can save that.
    idle: Mutex<Vec<String>>,
    /// Requests whose connection was seen to be closed before anything was sent.
    unsent: AtomicUsize,
    longest: Mutex<Duration>,
    over: AtomicBool,
}

impl Tally {
    pub(super) fn accepted(&self) -> usize {
        self.accepted.lock().unwrap().len()
    }

    pub(super) fn failures_of_raw(&self) -> Vec<String> {
        self.raw.lock().unwrap().clone()
    }

    fn note(&self, id: JobId, began: Instant, outcome: Result<(), String>, failures: &Mutex<Vec<String>>) {
        match outcome {
            Ok(()) => {
                self.accepted.lock().unwrap().insert(id);
                let mut longest = self.longest.lock().unwrap();
                *longest = began.elapsed().max(*longest);
            }
            Err(error) => failures.lock().unwrap().push(error),
        }
    }
}

/// Runs all clients for as long as `meanwhile` takes; in the end every accepted job is there, once, and the library has not
/// failed.
pub(super) fn run(held: &mut Held, what: &str, meanwhile: impl FnOnce(&mut Held, &Tally)) -> Arc<Tally> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let tally = Arc::new(Tally::default());
    let (four, six) = (Place::Tcp(held.sockets.four()), Place::Tcp(held.sockets.six()));
    let unix = Place::Unix(held.sockets.path().to_owned());
    let period = Duration::from_secs(1) * (2 * CLIENTS) / PER_SECOND;
    let token = held.server.token();
    let began = Instant::now();
    let mut tasks = Vec::new();
    for number in 0..CLIENTS {
        let place = [&four, &six, &unix, &four][number as usize % 4].clone();
        let phase = period * number / CLIENTS;
        let raw = Raw::new(place.clone(), number % 3 > 0, token);
        tasks.push(runtime.spawn(raw.submit_all(Arc::clone(&tally), phase, period)));
        let client = Client::new(&place.url(), Some(Token::new(token).unwrap())).unwrap();
        let client = client.with_retry_for(Duration::from_secs(120));
        tasks.push(runtime.spawn(submit_all(client, Arc::clone(&tally), phase + period / 2, period)));
    }
    for place in [four, six, unix] {
        let raw = Raw::new(place, true, token);
        tasks.push(runtime.spawn(raw.submit_all(Arc::clone(&tally), Duration::ZERO, SLOW)));
    }
    meanwhile(held, &tally);
    tally.over.store(true, Ordering::Relaxed);
    runtime.block_on(async {
        for task in tasks {
            task.await.unwrap();
        }
    });
    let took = began.elapsed();
    let there = runtime.block_on(all_jobs(held));
    let lost: Vec<_> = tally.accepted.lock().unwrap().difference(&there).copied().collect();
    let (sent, raw) = (tally.sent.load(Ordering::Relaxed), tally.failures_of_raw());
    let idle = tally.idle.lock().unwrap().len();
    println!(
        "{what}: {sent} requests in {took:.1?} ({:.0}/s), {} accepted, {} lost, failed without retry {}, on idle connections {idle}, of the library {}, \
         connections found closed {}, longest {:.0?}",
        sent as f64 / took.as_secs_f64(),
        tally.accepted(),
        lost.len(),
        raw.len(),
        tally.library.lock().unwrap().len(),
        tally.unsent.load(Ordering::Relaxed),
        tally.longest.lock().unwrap(),
    );
    assert!(lost.is_empty(), "{lost:?}");
    assert!(tally.library.lock().unwrap().is_empty(), "{:?}", tally.library.lock().unwrap());
    // What failed may have been accepted nevertheless; nothing else is there.
    assert!(there.len() <= tally.accepted() + raw.len() + idle, "{} jobs", there.len());
    tally
}

/// Waits for so many more accepted jobs.
pub(super) fn until_more(tally: &Tally, more: usize) {
    let before = tally.accepted();
    until("more jobs are accepted", || (tally.accepted() >= before + more).then_some(()));
}

async fn all_jobs(held: &Held) -> BTreeSet<JobId> {
    let client = Client::new(held.server.url(), Some(Token::new(held.server.token()).unwrap())).unwrap();
    let mut query = ListQuery { limit: Some(1000), ..ListQuery::default() };
    let mut there = BTreeSet::new();
    loop {
        let page = client.list(&query).await.unwrap();
        for job in page.jobs {
            assert!(there.insert(job.job_id), "{} is there twice", job.job_id);
        }
        query.cursor = page.next_cursor;
        if query.cursor.is_none() {
            return there;
        }
    }
}

fn spec() -> JobSpec {
    job(REPOSITORY, "/x", Payload::Empty)
}

async fn submit_all(client: Client, tally: Arc<Tally>, phase: Duration, period: Duration) {
    let mut pace = pace(phase, period);
    while !tally.over.load(Ordering::Relaxed) {
        pace.tick().await;
        let spec = spec();
        let (id, began) = (spec.id, Instant::now());
        tally.sent.fetch_add(1, Ordering::Relaxed);
        let outcome = client.submit(&[spec], None).await.map(drop).map_err(|error| format!("{error:?}"));
        tally.note(id, began, outcome, &tally.library);
    }
}

/// What is late is made up for.
fn pace(phase: Duration, period: Duration) -> tokio::time::Interval {
    tokio::time::interval_at(tokio::time::Instant::now() + phase, period)
}

#[derive(Clone)]
enum Place {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

impl Place {
    fn url(&self) -> String {
        match self {
            Self::Tcp(address) => format!("http://{address}"),
            Self::Unix(path) => format!("unix:{}", path.display()),
        }
    }
}

/// A client that sends each request once. It keeps its connection, or makes one for each request.
struct Raw {
    place: Place,
    keep: bool,
    token: &'static str,
    connection: Option<SendRequest<Body>>,
    /// When an answer came last, and whether the last request went out on a connection that was idle since.
    used: Instant,
    was_idle: bool,
}

impl Raw {
    fn new(place: Place, keep: bool, token: &'static str) -> Self {
        Self { place, keep, token, connection: None, used: Instant::now(), was_idle: false }
    }

    async fn submit_all(mut self, tally: Arc<Tally>, phase: Duration, period: Duration) {
        let mut pace = pace(phase, period);
        while !tally.over.load(Ordering::Relaxed) {
            pace.tick().await;
            let spec = spec();
            let (id, began) = (spec.id, Instant::now());
            tally.sent.fetch_add(1, Ordering::Relaxed);
            let outcome = self.submit(&spec, &tally).await.map_err(|error| format!("{}: {error}", self.place.url()));
            tally.note(id, began, outcome, if period == SLOW || self.was_idle { &tally.idle } else { &tally.raw });
        }
    }

    async fn submit(&mut self, spec: &JobSpec, tally: &Tally) -> Result<(), String> {
        let body = serde_json::to_vec(&[spec]).unwrap();
        loop {
            let kept = self.connection.take().filter(|connection| !connection.is_closed());
            let is_kept = kept.is_some();
            let mut connection = match kept {
                Some(connection) => connection,
                None => self.connect().await?,
            };
            if connection.ready().await.is_err() {
                tally.unsent.fetch_add(1, Ordering::Relaxed);
                continue;
            }
            self.was_idle = is_kept && self.used.elapsed() >= IDLE;
            let answer = match connection.try_send_request(self.request(body.clone())).await {
                Ok(answer) => answer,
                Err(mut error) => {
                    if error.take_message().is_none() {
                        return Err(format!("no answer: {:?}", error.into_error()));
                    }
                    // Nothing was written: this is no second try.
                    tally.unsent.fetch_add(1, Ordering::Relaxed);
                    continue;
                }
            };
            let status = answer.status();
            let body =
                to_bytes(Body::new(answer.into_body()), ANSWER_MAX).await.map_err(|error| format!("{error:?}"))?;
            if status != 201 {
                return Err(format!("{status}: {}", String::from_utf8_lossy(&body)));
            }
            (self.connection, self.used) = (self.keep.then_some(connection), Instant::now());
            return Ok(());
        }
    }

    async fn connect(&self) -> Result<SendRequest<Body>, String> {
        let failed = |error: std::io::Error| format!("cannot connect: {error}");
        match &self.place {
            Place::Tcp(address) => begin(TcpStream::connect(address).await.map_err(failed)?).await,
            Place::Unix(path) => begin(UnixStream::connect(path).await.map_err(failed)?).await,
        }
    }

    fn request(&self, body: Vec<u8>) -> hyper::Request<Body> {
        hyper::Request::post("/api/v1/jobs")
            .header("host", "localhost")
            .header("authorization", format!("Bearer {}", self.token))
            .header("content-type", "application/json")
            .header("connection", if self.keep { "keep-alive" } else { "close" })
            .body(Body::from(body))
            .unwrap()
    }
}

async fn begin(
    stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
) -> Result<SendRequest<Body>, String> {
    let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(|error| format!("{error:?}"))?;
    tokio::spawn(connection);
    Ok(sender)
}
