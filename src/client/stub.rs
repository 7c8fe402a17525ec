//! A server for tests: one request per connection, answered by a function.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::Client;
use crate::domain::token::Token;

/// What arrived.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    /// `GET /path?query`.
    pub(crate) line: String,
    /// The head, in lower case.
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

/// What goes back.
pub(crate) enum Reply {
    Json(u16, String),
    /// Extra header lines, each with its line end.
    Headers(u16, &'static str, String),
    /// A stream of events that ends after this text.
    Events(String),
    /// Nothing: the connection is cut.
    Cut,
    /// The first half of a body, then the connection is cut.
    Torn(u16, String),
}

pub(crate) struct Stub {
    pub(crate) url: String,
    requests: Arc<Mutex<Vec<Request>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Stub {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Stub {
    /// Answers the n-th request (from 0) with what the function says.
    pub(crate) async fn start(answer: impl Fn(usize, &Request) -> Reply + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&requests);
        let task = tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let Some(request) = read(&mut stream).await else { continue };
                let number = {
                    let mut seen = seen.lock().unwrap();
                    seen.push(request.clone());
                    seen.len() - 1
                };
                let reply = match answer(number, &request) {
                    Reply::Json(status, body) => full(status, "content-type: application/json\r\n", &body),
                    Reply::Headers(status, headers, body) => full(status, headers, &body),
                    Reply::Events(text) => {
                        format!("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n{text}")
                    }
                    Reply::Cut => continue,
                    Reply::Torn(status, body) => {
                        let whole = full(status, "", &body);
                        whole[..whole.len() - body.len() / 2].to_owned()
                    }
                };
                let _ = stream.write_all(reply.as_bytes()).await;
                let _ = stream.shutdown().await;
            }
        });
        Self { url, requests, task }
    }

    pub(crate) fn client(&self) -> Client {
        Client::new(&self.url, Some(Token::new("s3cret").unwrap())).unwrap()
    }

    pub(crate) fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        self.requests().into_iter().map(|request| request.line).collect()
    }
}

fn full(status: u16, headers: &str, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 {status} X\r\n{headers}content-length: {length}\r\nconnection: close\r\n\r\n{body}")
}

async fn read(stream: &mut TcpStream) -> Option<Request> {
    let mut data = Vec::new();
    let end = loop {
        if let Some(end) = data.windows(4).position(|window| window == b"\r\n\r\n") {
            break end;
        }
        if stream.read_buf(&mut data).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8(data[..end].to_vec()).ok()?;
    let lower = head.to_lowercase();
    let length =
        lower.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok()).unwrap_or(0);
    let mut body = data.split_off(end + 4);
    while body.len() < length {
        if stream.read_buf(&mut body).await.ok()? == 0 {
            return None;
        }
    }
    let line = head.lines().next()?.trim_end_matches(" HTTP/1.1").to_owned();
    Some(Request { line, head: lower, body })
}

/// The JSON of a job in a state, such as `"queued"` or with data `"succeeded","revision":7,"root_hash":"ab"`.
pub(crate) fn job_json(id: &str, submission: &str, state: &str) -> String {
    let kind = state.split(',').next().unwrap();
    format!(
        r#"{{"job_id":"{id}","name":"demo","state":{kind},"status":{{"state":{state}}},"attempt":1,"failures":0,
        "interruptions":0,"outputs":{{}},"submission_id":"{submission}","created_at":"2026-01-02T03:04:05Z",
        "updated_at":"2026-01-02T03:04:05Z","spec":{{"id":"{id}","name":"demo","work":{{"kind":"publish",
        "repository":"software.example.org","payload":{{"type":"empty"}}}}}}}}"#
    )
}

/// One event of a job on the wire.
pub(crate) fn event_text(number: u64, id: &str, submission: &str, event: &str, state: &str) -> String {
    format!(
        "id: {number}\nevent: job\ndata: {{\"number\":{number},\"job_id\":\"{id}\",\"submission_id\":\"{submission}\",\
         \"at\":\"2026-01-02T03:04:05Z\",\"event\":{event},\"state\":\"{state}\"}}\n\n"
    )
}

/// How a job stands, as a stream of those who wait tells it.
pub(crate) fn standing_text(number: Option<u64>, id: &str, state: &str) -> String {
    let kind = state.split(',').next().unwrap();
    let number = number.map(|number| format!("id: {number}\n")).unwrap_or_default();
    format!(
        "{number}event: standing\ndata: {{\"job_id\":\"{id}\",\"name\":\"demo\",\"state\":{kind},\"status\":{{\"state\":{state}}},\"attempt\":1}}\n\n"
    )
}

/// All that the stream tells of jobs that have ended before they are asked about.
pub(crate) fn ended_text(id: &str, state: &str) -> String {
    standing_text(None, id, state) + "id: 9\nevent: synced\ndata: {}\n\nid: 9\nevent: end\ndata: {}\n\n"
}
