//! A small HTTP server of the test's own: payloads that misbehave, and a proxy in front of a repository.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What a path answers with.
#[derive(Clone)]
pub(crate) enum Page {
    /// 200 and these bytes.
    Content(Vec<u8>),
    /// This status, and nothing.
    Status(u16),
    /// A redirect.
    Redirect(String),
    /// A head that promises more than comes; then the connection is closed.
    Short(Vec<u8>),
    /// A byte now and then, without an end.
    Drip,
    /// At the first request these bytes, then those.
    Changing(Vec<u8>, Vec<u8>),
}

/// The server; its threads end with it.
pub(crate) struct Origin {
    address: String,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    pages: Mutex<HashMap<String, Page>>,
    upstream: Option<String>,
    over: AtomicBool,
    requests: AtomicUsize,
}

impl Origin {
    pub(crate) fn start() -> Self {
        Self::serve(Shared::default())
    }

    /// Passes everything on to `url`, except for the pages that are set here.
    pub(crate) fn before(url: &str) -> Self {
        Self::serve(Shared { upstream: Some(url.trim_start_matches("http://").to_owned()), ..Shared::default() })
    }

    fn serve(shared: Shared) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let shared = Arc::new(shared);
        let theirs = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if theirs.over.load(Ordering::Relaxed) {
                    return;
                }
                let shared = Arc::clone(&theirs);
                // A peer that goes away is none of the test's business.
                std::thread::spawn(move || drop(shared.answer(stream.unwrap())));
            }
        });
        Self { address, shared }
    }

    /// Sets a page; gives its URL.
    pub(crate) fn page(&self, path: &str, page: Page) -> url::Url {
        self.shared.pages.lock().unwrap().insert(path.to_owned(), page);
        self.url(path)
    }

    pub(crate) fn url(&self, path: &str) -> url::Url {
        format!("http://{}{path}", self.address).parse().unwrap()
    }

    pub(crate) fn requests(&self) -> usize {
        self.shared.requests.load(Ordering::Relaxed)
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::Relaxed);
        // Wakes the thread that accepts.
        let _ = TcpStream::connect(&self.address);
    }
}

impl Shared {
    fn answer(&self, mut stream: TcpStream) -> std::io::Result<()> {
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        let mut reader = BufReader::new(stream.try_clone()?);
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let path = line.split(' ').nth(1).unwrap_or("/").to_owned();
        let mut header = String::new();
        while reader.read_line(&mut header)? > 2 {
            header.clear();
        }
        self.requests.fetch_add(1, Ordering::Relaxed);
        let page = self.pages.lock().unwrap().get(&path).cloned();
        match (page, &self.upstream) {
            (Some(page), _) => self.show(&mut stream, &path, page),
            (None, Some(upstream)) => pass_on(&mut stream, upstream, &path),
            (None, None) => status(&mut stream, 404),
        }
    }

    fn show(&self, stream: &mut TcpStream, path: &str, page: Page) -> std::io::Result<()> {
        match page {
            Page::Content(content) => content_of(stream, &content),
            Page::Status(code) => status(stream, code),
            Page::Redirect(to) => {
                write!(stream, "HTTP/1.1 302 x\r\nLocation: {to}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            }
            Page::Short(content) => {
                write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", content.len() + 1000)?;
                stream.write_all(&content)
            }
            Page::Drip => {
                write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")?;
                while !self.over.load(Ordering::Relaxed) {
                    stream.write_all(b"x")?;
                    std::thread::sleep(Duration::from_millis(100));
                }
                Ok(())
            }
            Page::Changing(first, then) => {
                self.pages.lock().unwrap().insert(path.to_owned(), Page::Content(then));
                content_of(stream, &first)
            }
        }
    }
}

fn content_of(stream: &mut TcpStream, content: &[u8]) -> std::io::Result<()> {
    write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", content.len())?;
    stream.write_all(content)
}

fn status(stream: &mut TcpStream, code: u16) -> std::io::Result<()> {
    write!(stream, "HTTP/1.1 {code} x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
}

fn pass_on(stream: &mut TcpStream, upstream: &str, path: &str) -> std::io::Result<()> {
    let mut other = TcpStream::connect(upstream)?;
    write!(other, "GET {path} HTTP/1.1\r\nHost: {upstream}\r\nConnection: close\r\n\r\n")?;
    let mut buffer = vec![0; 1 << 16];
    loop {
        match other.read(&mut buffer)? {
            0 => return Ok(()),
            n => stream.write_all(&buffer[..n])?,
        }
    }
}
