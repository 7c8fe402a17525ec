//! Over a socket, where the socket is what matters.

use std::net::SocketAddr;
use std::time::Duration;

use axum::http::StatusCode;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::{Server, TOKEN, job};
use crate::http::{Limits, serve};

/// Long enough for any machine; nothing waits for it when all is well.
const PATIENCE: Duration = Duration::from_secs(120);
const SHORT: Duration = Duration::from_millis(30);

async fn listening(limits: Limits) -> (Server, SocketAddr, JoinHandle<()>) {
    let given = limits.clone();
    let server = Server::with(|state| state.limits = given).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let running = tokio::spawn(serve([listener], server.router.clone(), limits, server.shutdown.clone()));
    (server, address, running)
}

async fn send(address: SocketAddr, head: &str, body: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let head = format!("{head}\r\nhost: localhost\r\nauthorization: Bearer {TOKEN}\r\nconnection: close\r\n");
    stream.write_all(head.replace("\r\n\r\n", "\r\n").as_bytes()).await.unwrap();
    stream.write_all(b"\r\n").await.unwrap();
    stream.write_all(body).await.unwrap();
    stream
}

async fn reply(stream: &mut (impl AsyncReadExt + Unpin)) -> String {
    let mut reply = Vec::new();
    let read = timeout(PATIENCE, stream.read_to_end(&mut reply)).await.expect("the server answers");
    // A server that cuts a client short may reset the connection behind its reply.
    if let Err(error) = read {
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    }
    String::from_utf8_lossy(&reply).into_owned()
}

#[tokio::test]
async fn a_body_that_stalls_times_out() {
    let (_server, address, _running) = listening(Limits { body_idle: SHORT, ..Limits::default() }).await;
    let digest = format!("sha256:{}", "0".repeat(64));
    for head in [
        "POST /api/v1/jobs HTTP/1.1\r\ncontent-type: application/json\r\ncontent-length: 100".to_owned(),
        format!("PUT /api/v1/blobs/{digest} HTTP/1.1\r\ncontent-length: 100"),
        "POST /login HTTP/1.1\r\ncontent-length: 100".into(),
    ] {
        let text = reply(&mut send(address, &head, b"{ ").await).await;
        assert!(text.starts_with("HTTP/1.1 408") && text.contains("\"request_timeout\""), "{head}: {text}");
    }
}

#[tokio::test]
async fn a_head_that_stalls_is_hung_up_on() {
    let (_server, address, _running) = listening(Limits { header_timeout: SHORT, ..Limits::default() }).await;
    for begun in ["", "GET /hea", "GET /healthz HTTP/1.1\r\nhost: x\r\n"] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(begun.as_bytes()).await.unwrap();
        assert!(!reply(&mut stream).await.contains("200 OK"));
    }
}

#[tokio::test]
async fn a_huge_blob_is_refused_before_it_comes() {
    let (_server, address, _running) = listening(Limits::default()).await;
    let digest = format!("sha256:{}", "0".repeat(64));
    let head = format!("PUT /api/v1/blobs/{digest} HTTP/1.1\r\ncontent-length: 1073741824");
    let text = reply(&mut send(address, &head, b"").await).await;
    assert!(text.starts_with("HTTP/1.1 413") && text.contains("\"too_large\""), "{text}");
    let head = "POST /api/v1/jobs HTTP/1.1\r\ncontent-type: application/json\r\ncontent-length: 1073741824";
    let text = reply(&mut send(address, head, b"").await).await;
    assert!(text.starts_with("HTTP/1.1 413"), "{text}");
}

#[tokio::test]
async fn an_endless_body_is_cut_off() {
    let (_server, address, _running) = listening(Limits::default()).await;
    let digest = format!("sha256:{}", "0".repeat(64));
    let head = format!("PUT /api/v1/blobs/{digest} HTTP/1.1\r\ntransfer-encoding: chunked");
    let (mut reading, mut writing) = send(address, &head, b"").await.into_split();
    let endless = tokio::spawn(async move {
        let chunk = format!("1000\r\n{}\r\n", "x".repeat(0x1000));
        while writing.write_all(chunk.as_bytes()).await.is_ok() {}
    });
    let text = reply(&mut reading).await;
    assert!(text.starts_with("HTTP/1.1 413") && text.contains("\"too_large\""), "{text}");
    timeout(PATIENCE, endless).await.expect("the connection is closed").unwrap();
}

#[tokio::test]
async fn a_client_that_takes_nothing_loses_its_place() {
    let limits = Limits { connections: 1, write_idle: SHORT, ..Limits::default() };
    let (server, address, _running) = listening(limits).await;
    let object = "software.example.org/data/0a/99999999999999999999999999999999999999";
    let path = server.directory.path().join("repositories").join(object);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    // More than any socket holds; a hole in the file takes no space.
    std::fs::File::create(&path).unwrap().set_len(1 << 30).unwrap();
    let idle = send(address, &format!("GET /cvmfs/{object} HTTP/1.1"), b"").await;
    // There is one place only: this is answered once the other is thrown out.
    let text = reply(&mut send(address, "GET /healthz HTTP/1.1", b"").await).await;
    assert!(text.starts_with("HTTP/1.1 200"), "{text}");
    drop(idle);
}

#[tokio::test]
async fn streams_and_long_polls_end_when_the_server_stops() {
    let (server, address, running) = listening(Limits::default()).await;
    let id = server.submit("one").await;
    let mut events = send(address, &format!("GET /api/v1/jobs/{id}/events HTTP/1.1"), b"").await;
    let mut log = send(address, &format!("GET /api/v1/jobs/{id}/log/stream HTTP/1.1"), b"").await;
    let poll = format!("GET /api/v1/fleets/other/offers?node=n&instance={id}&wait=60 HTTP/1.1");
    let mut poll = send(address, &poll, b"").await;
    let mut idle = TcpStream::connect(address).await.unwrap();
    // They are open: the first pieces came, and an older worker of that node is told of the one that waits.
    let mut piece = [0; 4096];
    assert!(events.read(&mut piece).await.unwrap() > 0 && log.read(&mut piece).await.unwrap() > 0);
    let older = "/api/v1/fleets/other/offers?node=n&instance=00000000-0000-7000-8000-000000000000";
    while server.get(older).await.status != StatusCode::CONFLICT {
        tokio::task::yield_now().await;
    }
    server.shutdown.cancel();
    timeout(PATIENCE, running).await.expect("the server ends").unwrap();
    assert!(reply(&mut events).await.ends_with("0\r\n\r\n"), "the stream ends in order");
    assert!(reply(&mut log).await.ends_with("0\r\n\r\n"));
    assert!(reply(&mut poll).await.contains("{\"offers\":[]}"));
    assert_eq!(reply(&mut idle).await, "");
    assert!(TcpStream::connect(address).await.is_err(), "nobody listens");
}

#[tokio::test]
async fn a_unix_socket_serves_as_well() {
    let server = Server::start().await;
    let path = server.directory.path().join("socket");
    let listener = UnixListener::bind(&path).unwrap();
    tokio::spawn(serve([listener], server.router.clone(), Limits::default(), server.shutdown.clone()));
    let mut stream = UnixStream::connect(&path).await.unwrap();
    stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
    assert!(reply(&mut stream).await.ends_with("ok\n"));
}

#[tokio::test]
async fn one_connection_serves_many_requests() {
    let (_server, address, _running) = listening(Limits::default()).await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    for number in 0..20 {
        let body = json!([job(&format!("job {number}"))]).to_string();
        let head = format!(
            "POST /api/v1/jobs HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {TOKEN}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all((head + &body).as_bytes()).await.unwrap();
        let mut text = String::new();
        while !text.contains("\"created\":true") {
            let mut piece = [0; 4096];
            let n = timeout(PATIENCE, stream.read(&mut piece)).await.unwrap().unwrap();
            assert!(n > 0, "{text}");
            text += &String::from_utf8_lossy(&piece[..n]);
        }
        assert!(text.starts_with("HTTP/1.1 201"), "{text}");
    }
}

const HEALTH: &[u8] = b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n";

/// Sends a request on a connection that is kept, and reads its answer.
async fn ask(stream: &mut TcpStream) -> String {
    stream.write_all(HEALTH).await.unwrap();
    let mut text = String::new();
    while !text.ends_with("ok\n") {
        let mut piece = [0; 4096];
        let n = timeout(PATIENCE, stream.read(&mut piece)).await.unwrap().unwrap();
        assert!(n > 0, "{text}");
        text += &String::from_utf8_lossy(&piece[..n]);
    }
    text
}

#[tokio::test]
async fn what_comes_on_an_open_connection_after_the_stop_is_answered_as_the_last() {
    let limits = Limits { last_request: PATIENCE, shutdown_grace: 2 * PATIENCE, ..Limits::default() };
    let (server, address, running) = listening(limits).await;
    let (mut kept, mut half, mut new) = (connected(address).await, connected(address).await, connected(address).await);
    for stream in [&mut kept, &mut half] {
        assert!(!ask(stream).await.contains("connection: close"));
    }
    // A piece of a head is there when the server is told to stop, the rest comes later.
    half.write_all(&HEALTH[..10]).await.unwrap();
    // Accepted, as the one behind it was answered.
    ask(&mut connected(address).await).await;
    server.shutdown.cancel();
    // Nobody listens any more: the server has heard of it.
    while TcpStream::connect(address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    for (stream, rest) in [(&mut kept, HEALTH), (&mut half, &HEALTH[10..]), (&mut new, HEALTH)] {
        stream.write_all(rest).await.unwrap();
        let text = reply(stream).await;
        assert!(text.starts_with("HTTP/1.1 200") && text.contains("connection: close"), "{text}");
    }
    timeout(PATIENCE, running).await.expect("the server ends").unwrap();
}

#[tokio::test]
async fn a_request_that_lies_unread_when_its_connection_would_end_is_answered() {
    // No grace at all: each connection ends the moment that the server looks at it.
    for _ in 0..20 {
        let (server, address, running) = listening(Limits { last_request: Duration::ZERO, ..Limits::default() }).await;
        let mut stream = connected(address).await;
        ask(&mut stream).await;
        // One thread: neither the connection nor the event loop has seen it yet.
        let raw = stream.into_std().unwrap();
        nix::unistd::write(&raw, HEALTH).unwrap();
        server.shutdown.cancel();
        let text = reply(&mut TcpStream::from_std(raw).unwrap()).await;
        assert!(text.starts_with("HTTP/1.1 200") && text.contains("connection: close"), "{text:?}");
        timeout(PATIENCE, running).await.expect("the server ends").unwrap();
    }
}

#[tokio::test]
async fn idle_connections_hold_up_the_end_for_a_moment_only() {
    let limits = Limits { shutdown_grace: 2 * PATIENCE, ..Limits::default() };
    let (server, address, running) = listening(limits).await;
    let mut idle = Vec::new();
    for _ in 0..50 {
        let mut stream = connected(address).await;
        ask(&mut stream).await;
        idle.push(stream);
    }
    server.shutdown.cancel();
    // Long before the time is over that it would give requests.
    timeout(PATIENCE, running).await.expect("the server ends").unwrap();
    for stream in &mut idle {
        assert_eq!(reply(stream).await, "", "closed in order");
    }
}

async fn connected(address: SocketAddr) -> TcpStream {
    TcpStream::connect(address).await.unwrap()
}
