//! Requests as bytes: also such as no proper client would send.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;

use conveyor::domain::protocol::ErrorBody;

use super::wait::PATIENCE;

/// A server's address and a token.
#[derive(Clone)]
pub(crate) struct Http {
    address: String,
    token: String,
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
    /// Bytes of the request's body that were sent before the answer came.
    pub(crate) sent: u64,
}

impl Answer {
    /// The stable word of an error.
    #[track_caller]
    pub(crate) fn code(&self) -> String {
        let body: ErrorBody = serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("no error body: {error}: {}", String::from_utf8_lossy(&self.body)));
        assert!(!body.error.message.is_empty(), "{body:?}");
        body.error.code
    }
}

impl Http {
    pub(crate) fn new(url: &str, token: &str) -> Self {
        Self { address: url.trim_start_matches("http://").to_owned(), token: token.to_owned() }
    }

    pub(crate) fn post(&self, path: &str, body: &[u8]) -> Answer {
        self.send("POST", path, "Content-Type: application/json\r\n", body)
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        self.send("GET", path, "", b"")
    }

    pub(crate) fn send(&self, method: &str, path: &str, headers: &str, body: &[u8]) -> Answer {
        let length = if method == "GET" { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
        let head = self.head(method, path, &format!("{headers}{length}"));
        self.raw(&head, std::iter::once(body))
    }

    /// A request's head, with the token.
    pub(crate) fn head(&self, method: &str, path: &str, headers: &str) -> Vec<u8> {
        let Self { address, token } = self;
        format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n{headers}\r\n").into_bytes()
    }

    /// Sends a head and pieces of a body until the server answers or wants no more.
    pub(crate) fn raw<'a>(&self, head: &[u8], pieces: impl Iterator<Item = &'a [u8]>) -> Answer {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(head).unwrap();
        let mut sent = 0;
        for piece in pieces {
            if has_answered(&stream) || stream.write_all(piece).is_err() {
                break;
            }
            sent += piece.len() as u64;
        }
        let mut answer = Vec::new();
        // A server that refuses early may reset the connection behind its answer.
        if let Err(error) = stream.read_to_end(&mut answer) {
            assert!(error.kind() == ErrorKind::ConnectionReset && !answer.is_empty(), "{error}");
        }
        parse(&answer, sent)
    }
}

fn has_answered(stream: &TcpStream) -> bool {
    stream.set_nonblocking(true).unwrap();
    let answered = stream.peek(&mut [0]).is_ok();
    stream.set_nonblocking(false).unwrap();
    answered
}

fn parse(answer: &[u8], sent: u64) -> Answer {
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n").unwrap_or_else(|| panic!("no answer: {answer:?}"));
    let head = String::from_utf8_lossy(&answer[..end]).into_owned();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let body = &answer[end + 4..];
    let chunked = head.to_ascii_lowercase().contains("transfer-encoding: chunked");
    Answer { status, body: if chunked { unchunk(body) } else { body.to_vec() }, sent }
}

fn unchunk(mut body: &[u8]) -> Vec<u8> {
    let mut whole = Vec::new();
    while let Some(end) = body.windows(2).position(|two| two == b"\r\n") {
        let size = usize::from_str_radix(std::str::from_utf8(&body[..end]).unwrap().trim(), 16).unwrap();
        if size == 0 {
            break;
        }
        whole.extend_from_slice(&body[end + 2..end + 2 + size]);
        body = &body[end + 4 + size..];
    }
    whole
}
