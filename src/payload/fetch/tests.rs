#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use super::*;

/// What a test server does with one connection, after the head of the request was read.
enum Reply {
    /// Says this and closes.
    Close(Vec<u8>),
    /// Says this and then nothing, without closing.
    Hang(Vec<u8>),
    /// Says the first, then the second again and again, waiting in between.
    Repeat(Vec<u8>, Vec<u8>, Duration),
}

struct Server {
    port: u16,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    /// Answers each request by its head.
    async fn start(answer: impl Fn(&str) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let answer = Arc::new(answer);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let answer = Arc::clone(&answer);
                tokio::spawn(async move { converse(stream, &*answer).await });
            }
        });
        Self { port, task }
    }

    fn url(&self, path: &str) -> Url {
        Url::parse(&format!("http://127.0.0.1:{}{path}", self.port)).unwrap()
    }
}

async fn converse(mut stream: TcpStream, answer: &(impl Fn(&str) -> Reply + ?Sized)) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return,
        }
    }
    match answer(&String::from_utf8_lossy(&head)) {
        Reply::Close(bytes) => {
            let _ = stream.write_all(&bytes).await;
            let _ = stream.shutdown().await;
        }
        Reply::Hang(bytes) => {
            let _ = stream.write_all(&bytes).await;
            std::future::pending::<()>().await;
        }
        Reply::Repeat(first, again, pause) => {
            let mut bytes = first;
            while stream.write_all(&bytes).await.is_ok() {
                bytes = again.clone();
                tokio::time::sleep(pause).await;
            }
        }
    }
}

fn ok(body: &[u8]) -> Vec<u8> {
    [format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len()).as_bytes(), body].concat()
}

fn status(line: &str) -> Vec<u8> {
    format!("HTTP/1.1 {line}\r\nContent-Length: 5\r\n\r\nsorry").into_bytes()
}

fn redirected(location: &str) -> Vec<u8> {
    format!("HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n").into_bytes()
}

fn limits() -> FetchLimits {
    let long = Duration::from_secs(60);
    FetchLimits { connect: long, idle: long, total: long, bytes: 1 << 20, redirects: 5 }
}

/// One download into a fresh directory; checks that a failure leaves nothing behind.
async fn fetch_with(limits: FetchLimits, url: &Url, expected: Option<&str>) -> Result<(Content, Vec<u8>), FetchError> {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("payload");
    let fetcher = Fetcher::with_builder(Client::builder().no_proxy(), limits).unwrap();
    let expected = expected.map(|text| text.parse().unwrap());
    let result = fetcher.fetch(url, expected.as_ref(), &file, &Counters::default()).await;
    match result {
        Ok(content) => Ok((content, std::fs::read(&file).unwrap())),
        Err(error) => {
            assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "left behind after {error}");
            Err(error)
        }
    }
}

async fn fetch(url: &Url) -> Result<(Content, Vec<u8>), FetchError> {
    fetch_with(limits(), url, None).await
}

const ABC: &str = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

#[tokio::test]
async fn a_payload_arrives_with_its_digest() {
    let server = Server::start(|_| Reply::Close(ok(b"abc"))).await;
    let (content, bytes) = fetch(&server.url("/x")).await.unwrap();
    assert_eq!((content.size, bytes.as_slice()), (3, &b"abc"[..]));
    assert_eq!(content.sha256.to_string(), ABC);
}

#[tokio::test]
async fn an_empty_payload_and_a_chunked_one_arrive() {
    let server = Server::start(|head| {
        Reply::Close(match head.starts_with("GET /empty ") {
            true => ok(b""),
            false => b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n".to_vec(),
        })
    })
    .await;
    assert_eq!(fetch(&server.url("/empty")).await.unwrap().1, b"");
    assert_eq!(fetch(&server.url("/chunked")).await.unwrap().1, b"abc");
}

#[tokio::test]
async fn every_algorithm_is_verified_while_streaming() {
    let server = Server::start(|_| Reply::Close(ok(b"abc"))).await;
    for good in ["900150983cd24fb0d6963f7d28e17f72", "sha1:a9993e364706816aba3e25717850c26c9cd0d89d", ABC] {
        let (content, _) = fetch_with(limits(), &server.url("/x"), Some(good)).await.unwrap();
        assert_eq!(content.sha256.to_string(), ABC);
    }
    for bad in ["md5:00000000000000000000000000000000", &"0".repeat(40), &"0".repeat(64)] {
        let error = fetch_with(limits(), &server.url("/x"), Some(bad)).await.unwrap_err();
        assert!(matches!(&error, FetchError::Checksum { .. }), "{error}");
        assert!(!error.is_transient());
    }
}

#[tokio::test]
async fn anything_but_200_is_an_error_that_names_url_and_status() {
    let server = Server::start(|head| {
        let line = head.split(' ').nth(1).unwrap().trim_start_matches('/').to_owned();
        Reply::Close(status(&format!("{line} Whatever")))
    })
    .await;
    for (code, transient) in
        [(201, false), (206, false), (403, false), (404, false), (429, true), (500, true), (503, true)]
    {
        let error = fetch(&server.url(&format!("/{code}"))).await.unwrap_err();
        assert!(matches!(error, FetchError::Status { status, .. } if status == code), "{error}");
        assert_eq!(error.is_transient(), transient, "{code}");
        assert!(error.to_string().contains(&format!("/{code}: the server answered with status {code}")), "{error}");
    }
}

#[tokio::test]
async fn neither_credentials_nor_signatures_are_shown() {
    let server = Server::start(|_| Reply::Close(status("404 Not Found"))).await;
    let mut url = server.url("/a?X-Amz-Signature=S3CRET#S3CRET");
    url.set_username("S3CRET").unwrap();
    url.set_password(Some("S3CRET")).unwrap();
    let text = format!("{:?}", fetch(&url).await.unwrap_err());
    assert!(!text.contains("S3CRET") && text.contains("/a?..."), "{text}");

    // What cannot be connected to goes through the client's own errors.
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    url.set_port(Some(socket.local_addr().unwrap().port())).unwrap();
    let error = fetch(&url).await.unwrap_err();
    assert!(matches!(error, FetchError::Connect { .. }) && error.is_transient(), "{error}");
    assert!(!format!("{error:?}").contains("S3CRET"), "{error:?}");
}

#[tokio::test]
async fn credentials_in_the_url_are_sent() {
    let server = Server::start(|head| {
        let known = head.to_lowercase().contains("authorization: basic dtpw\r\n") || head.contains("Basic dTpw\r\n");
        Reply::Close(if known { ok(b"in") } else { status("401 Unauthorized") })
    })
    .await;
    let mut url = server.url("/");
    url.set_username("u").unwrap();
    url.set_password(Some("p")).unwrap();
    assert_eq!(fetch(&url).await.unwrap().1, b"in");
}

#[tokio::test]
async fn a_silent_peer_is_given_up_before_and_within_the_answer() {
    let server = Server::start(|head| {
        Reply::Hang(match head.split(' ').nth(1).unwrap() {
            "/silent" => Vec::new(),
            "/head" => b"HTTP/1.1 200 OK\r\nContent-Le".to_vec(),
            _ => b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc".to_vec(),
        })
    })
    .await;
    let limits = FetchLimits { idle: Duration::from_millis(50), ..limits() };
    for path in ["/silent", "/head", "/body"] {
        let error = fetch_with(limits, &server.url(path), None).await.unwrap_err();
        assert!(matches!(error, FetchError::Timeout { limit, .. } if limit == limits.idle), "{path}: {error}");
        assert!(error.is_transient());
    }
}

#[tokio::test]
async fn a_dripping_peer_runs_into_the_total_limit() {
    let server = Server::start(|_| {
        let head = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n".to_vec();
        Reply::Repeat(head, b"x".to_vec(), Duration::from_millis(1))
    })
    .await;
    let limits = FetchLimits { total: Duration::from_millis(100), ..limits() };
    let error = fetch_with(limits, &server.url("/"), None).await.unwrap_err();
    assert!(matches!(error, FetchError::Timeout { what: "the whole transfer", .. }), "{error}");
}

#[tokio::test]
async fn an_endless_body_is_cut_at_the_limit() {
    let server =
        Server::start(|_| Reply::Repeat(b"HTTP/1.1 200 OK\r\n\r\n".to_vec(), vec![0; 64 << 10], Duration::ZERO)).await;
    let error = fetch(&server.url("/")).await.unwrap_err();
    assert!(matches!(error, FetchError::TooLarge { limit, .. } if limit == 1 << 20), "{error}");
    assert!(!error.is_transient());
}

#[tokio::test]
async fn a_body_announced_too_large_is_refused_unread() {
    let server = Server::start(|_| Reply::Hang(b"HTTP/1.1 200 OK\r\nContent-Length: 1048577\r\n\r\n".to_vec())).await;
    assert!(matches!(fetch(&server.url("/")).await, Err(FetchError::TooLarge { .. })));
}

#[tokio::test]
async fn a_body_of_exactly_the_limit_is_taken() {
    let server = Server::start(|_| Reply::Close(ok(&vec![7; 1 << 20]))).await;
    assert_eq!(fetch(&server.url("/")).await.unwrap().0.size, 1 << 20);
}

#[tokio::test]
async fn a_transfer_that_breaks_off_is_transient() {
    let server = Server::start(|head| {
        Reply::Close(match head.split(' ').nth(1).unwrap() {
            "/short" => b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc".to_vec(),
            "/chunked" => b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab".to_vec(),
            "/lengths" => b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 9\r\n\r\nabc".to_vec(),
            "/garbage" => b"\0\xff\x17 not http at all\r\n\r\n".to_vec(),
            _ => Vec::new(),
        })
    })
    .await;
    for path in ["/short", "/chunked", "/lengths", "/garbage", "/closed"] {
        let error = fetch(&server.url(path)).await.unwrap_err();
        assert!(matches!(error, FetchError::Transfer { .. }) && error.is_transient(), "{path}: {error:?}");
    }
}

#[tokio::test]
async fn a_body_longer_than_announced_is_cut_and_the_checksum_tells() {
    let server = Server::start(|_| {
        Reply::Close(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nabc".to_vec())
    })
    .await;
    assert!(matches!(fetch_with(limits(), &server.url("/"), Some(ABC)).await, Err(FetchError::Checksum { .. })));
}

#[tokio::test]
async fn redirects_are_followed_five_times_and_no_more() {
    let server = Server::start(|head| {
        let hop: u32 = head.split(' ').nth(1).unwrap()[1..].parse().unwrap();
        Reply::Close(if hop == 0 { ok(b"end") } else { redirected(&format!("/{}", hop - 1)) })
    })
    .await;
    assert_eq!(fetch(&server.url("/5")).await.unwrap().1, b"end");
    let error = fetch(&server.url("/6")).await.unwrap_err();
    assert!(matches!(error, FetchError::TooManyRedirects { limit: 5, .. }), "{error}");
    assert!(!error.is_transient());
}

#[tokio::test]
async fn a_redirect_loop_ends() {
    let server = Server::start(|_| Reply::Close(redirected("/again"))).await;
    assert!(matches!(fetch(&server.url("/")).await, Err(FetchError::TooManyRedirects { .. })));
}

#[tokio::test]
async fn a_redirect_that_leads_nowhere_is_an_error() {
    let server = Server::start(|head| {
        Reply::Close(match head.split(' ').nth(1).unwrap() {
            "/file" => redirected("file:///etc/passwd"),
            "/ftp" => redirected("ftp://127.0.0.1/x"),
            "/bad" => redirected("http://[::"),
            _ => b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n".to_vec(),
        })
    })
    .await;
    for path in ["/file", "/ftp", "/bad"] {
        let error = fetch(&server.url(path)).await.unwrap_err();
        assert!(matches!(error, FetchError::Redirect { .. }), "{path}: {error}");
    }
    assert!(matches!(fetch(&server.url("/none")).await, Err(FetchError::Status { status: 302, .. })));
}

#[test]
fn a_redirect_never_leads_from_https_to_http() {
    let from = Url::parse("https://user:S3CRET@a.example/x/y").unwrap();
    assert_eq!(redirect(&from, b"../z").unwrap().as_str(), "https://user:S3CRET@a.example/z");
    assert_eq!(redirect(&from, b"//b.example/z").unwrap().as_str(), "https://b.example/z");
    let error = redirect(&from, b"http://a.example/x").unwrap_err();
    assert!(matches!(&error, FetchError::Redirect { why, .. } if why.contains("https")), "{error}");
    assert!(!format!("{error:?}").contains("S3CRET"));
    let from = Url::parse("http://a.example/").unwrap();
    assert!(redirect(&from, b"https://a.example/").is_ok());
}

#[tokio::test]
async fn other_schemes_are_refused() {
    for text in ["file:///etc/passwd", "ftp://a.example/x", "data:,x", "unix:/run/x.sock"] {
        let error = fetch(&Url::parse(text).unwrap()).await.unwrap_err();
        assert!(matches!(error, FetchError::Scheme { .. }) && !error.is_transient(), "{text}");
    }
}

#[tokio::test]
async fn a_peer_that_does_not_speak_tls_is_a_failed_connection() {
    let server = Server::start(|_| Reply::Close(ok(b"plain"))).await;
    let url = Url::parse(&format!("https://127.0.0.1:{}/", server.port)).unwrap();
    // The server never sees the end of an HTTP request; it reads the greeting and the client waits.
    let limits = FetchLimits { connect: Duration::from_millis(100), ..limits() };
    let error = fetch_with(limits, &url, None).await.unwrap_err();
    assert!(matches!(error, FetchError::Timeout { .. } | FetchError::Connect { .. }), "{error:?}");
}

#[tokio::test]
async fn an_existing_file_is_neither_overwritten_nor_removed() {
    let server = Server::start(|_| Reply::Close(ok(b"abc"))).await;
    let dir = tempfile::tempdir().unwrap();
    let fetcher = Fetcher::with_builder(Client::builder().no_proxy(), limits()).unwrap();
    let file = dir.path().join("payload");
    std::fs::write(&file, b"old").unwrap();
    let dangling = dir.path().join("link");
    std::os::unix::fs::symlink(dir.path().join("elsewhere"), &dangling).unwrap();
    for path in [&file, &dangling] {
        assert!(matches!(
            fetcher.fetch(&server.url("/"), None, path, &Counters::default()).await,
            Err(FetchError::Io { .. })
        ));
    }
    assert_eq!(std::fs::read(&file).unwrap(), b"old");
    assert!(!dir.path().join("elsewhere").exists());
    let nowhere = dir.path().join("no/such/dir");
    assert!(matches!(
        fetcher.fetch(&server.url("/"), None, &nowhere, &Counters::default()).await,
        Err(FetchError::Io { .. })
    ));
}

#[tokio::test]
async fn a_download_is_counted_while_it_comes_and_leaves_nothing_when_it_is_dropped() {
    let server = Server::start(|_| Reply::Hang(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc".to_vec())).await;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("payload");
    let fetcher = Fetcher::with_builder(Client::builder().no_proxy(), limits()).unwrap();
    let (url, received) = (server.url("/"), Counters::default());
    let begun = async {
        while received.bytes() < 3 {
            tokio::task::yield_now().await;
        }
        assert!(file.exists());
    };
    tokio::select! {
        _ = fetcher.fetch(&url, None, &file, &received) => unreachable!("the server hangs"),
        () = begun => {}
    }
    assert!(!file.exists());
}
