//! Both dialects over sockets. The clients here are stand-ins: [`CppStream`] has the weaknesses of the C++ client.

#[path = "../../../tests/it/harness/cpp_stream.rs"]
mod cpp_stream;

use std::collections::VecDeque;
use std::net::SocketAddr;

use axum::http::StatusCode;
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{self, Message as Frame};

use super::*;
use crate::app::Settings;
use crate::app::clock::{SystemClock, SystemEntropy};
use crate::app::notifications::unverified;
use crate::domain::token::Token;
use crate::http::{Limits, serve};
use crate::store::Store;
use crate::store::logs::LogStore;
use cpp_stream::{CppStream, Finished, cpp_request};

const TOKEN: &str = "a-secret-of-the-test";
const A: &str = "a.example.org";
const B: &str = "b.example.org";
/// Nothing here takes so long that works.
const LONG: Duration = Duration::from_secs(60);

/// Notifications whose signatures nobody looks at.
pub(crate) async fn notify(
    engine: &Arc<Engine>,
    shutdown: &CancellationToken,
    settings: NotifySettings,
) -> Arc<Notify> {
    let notifications = Arc::new(unverified(engine.store().clone()).await);
    let (_, may_read) = tokio::sync::watch::channel(false);
    Arc::new(Notify::new(notifications, Arc::clone(engine), settings, may_read, shutdown.clone()))
}

struct Service {
    address: SocketAddr,
    listener: std::net::TcpListener,
    directory: Arc<tempfile::TempDir>,
    shutdown: CancellationToken,
    serving: tokio::task::JoinHandle<()>,
    notify: Arc<Notify>,
}

impl Service {
    async fn start() -> Self {
        Self::with(NotifySettings::default()).await
    }

    async fn with(settings: NotifySettings) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        Self::on(listener, Arc::new(tempfile::tempdir().unwrap()), settings).await
    }

    async fn on(listener: std::net::TcpListener, directory: Arc<tempfile::TempDir>, settings: NotifySettings) -> Self {
        let store = Store::open(directory.path()).unwrap();
        let (clock, entropy) = (Arc::new(SystemClock::default()), Arc::new(SystemEntropy));
        let logs = LogStore::in_memory().unwrap();
        let engine = Engine::start(store, logs, None, Default::default(), clock, entropy, Settings::default());
        let engine = Arc::new(engine.await.unwrap());
        engine.set_bootstrap_token(&Token::new(TOKEN).unwrap());
        let shutdown = CancellationToken::new();
        let write_idle = settings.idle;
        let notify = notify(&engine, &shutdown, settings).await;
        let listening = TcpListener::from_std(listener.try_clone().unwrap()).unwrap();
        let limits = Limits { connections: 5000, write_idle, ..Limits::default() };
        let serving = tokio::spawn(serve([listening], notify_router(Arc::clone(&notify)), limits, shutdown.clone()));
        Self { address: listener.local_addr().unwrap(), listener, directory, shutdown, serving, notify }
    }

    /// Ends it as a stop does; its socket stays open.
    async fn stop(self) -> (std::net::TcpListener, Arc<tempfile::TempDir>) {
        self.shutdown.cancel();
        tokio::time::timeout(LONG, self.serving).await.unwrap().unwrap();
        // Sockets that were upgraded hold the store until they have heard of it.
        let mut notify = self.notify;
        while let Err(held) = Arc::try_unwrap(notify).map(drop) {
            notify = held;
            tokio::task::yield_now().await;
        }
        (self.listener, self.directory)
    }

    async fn restart(self) -> Self {
        let settings = self.notify.settings.clone();
        let (listener, directory) = self.stop().await;
        Self::on(listener, directory, settings).await
    }

    async fn publish(&self, repository: &str, revision: u64) {
        let path = if revision.is_multiple_of(2) { "publish" } else { "notifications/publish" };
        let (status, answer) = self.post(path, Some(TOKEN), message(repository, revision)).await;
        assert_eq!((status, answer.as_str()), (StatusCode::OK, r#"{"status":"ok"}"#));
    }

    async fn post(&self, path: &str, token: Option<&str>, body: impl Into<reqwest::Body>) -> (StatusCode, String) {
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let mut request = client.post(format!("http://{}/api/v1/{path}", self.address)).body(body);
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        let reply = request.send().await.unwrap();
        (reply.status(), reply.text().await.unwrap())
    }

    async fn websocket(&self) -> WebSocketClient {
        let url = format!("ws://{}/api/v1/subscribe", self.address);
        tokio_tungstenite::connect_async(url).await.unwrap().0
    }
}

type WebSocketClient = tokio_tungstenite::WebSocketStream<tokio_tungstenite::MaybeTlsStream<TcpStream>>;

/// A manifest that nobody signed, in a message over several lines.
fn message(repository: &str, revision: u64) -> String {
    let message = unverified_message(repository, revision);
    message.replacen("\",", "\",\r\n ", 2) + "\n"
}

fn unverified_message(repository: &str, revision: u64) -> String {
    crate::app::notifications::unverified_message(repository, revision).text().to_owned()
}

fn revision(message: &[u8]) -> u64 {
    let message = crate::domain::notification::Message::parse(message).unwrap();
    let manifest = String::from_utf8_lossy(message.manifest()).into_owned();
    manifest.lines().find_map(|line| line.strip_prefix('S')).unwrap().parse().unwrap()
}

/// How a stream was over, as libcurl tells it.
#[derive(Debug, PartialEq, Eq)]
enum End {
    /// The last chunk: the C++ client never asks again.
    Finished,
    /// Anything else: it asks again.
    Cut,
}

/// The C++ client on a connection.
struct CppClient {
    stream: TcpStream,
    state: CppStream,
    /// What it was told and nobody has asked for yet.
    told: VecDeque<String>,
}

impl CppClient {
    async fn subscribe(address: SocketAddr, repository: &str) -> Self {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(cpp_request(&address.to_string(), repository).as_bytes()).await.unwrap();
        Self { stream, state: CppStream::default(), told: VecDeque::new() }
    }

    /// Reads once.
    async fn read(&mut self) -> Result<(), End> {
        let mut buffer = vec![0; 16 * 1024];
        match tokio::time::timeout(LONG, self.stream.read(&mut buffer)).await.unwrap() {
            Ok(0) | Err(_) => Err(End::Cut),
            Ok(count) => {
                self.told.extend(self.state.read(&buffer[..count]).map_err(|Finished| End::Finished)?);
                Ok(())
            }
        }
    }

    /// The next message.
    async fn next(&mut self) -> Result<Vec<u8>, End> {
        loop {
            if let Some(message) = self.told.pop_front() {
                return Ok(message.into_bytes());
            }
            self.read().await?;
        }
    }

    /// Waits until a revision comes; none may be older than the one before.
    async fn until(&mut self, last: &mut u64, wanted: u64) -> Result<(), End> {
        while *last < wanted {
            let next = revision(&self.next().await?);
            assert!(next >= *last, "revision {next} after {last}");
            *last = next;
        }
        Ok(())
    }
}

fn request(repository: &str) -> String {
    json!({"version": 1, "repository": repository}).to_string()
}

async fn frame(socket: &mut WebSocketClient) -> Vec<u8> {
    loop {
        let frame = tokio::time::timeout(LONG, socket.next()).await.unwrap().unwrap().unwrap();
        match frame {
            Frame::Binary(data) => return data.to_vec(),
            Frame::Ping(_) | Frame::Pong(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn the_cpp_client_gets_each_event_by_itself_and_the_last_one_first() {
    let service = Service::start().await;
    service.publish(A, 1).await;
    service.publish(A, 2).await;
    let mut client = CppClient::subscribe(service.address, A).await;
    let mut last = 0;
    client.until(&mut last, 2).await.unwrap();
    // It reads what comes while it comes.
    let reading = tokio::spawn(async move {
        client.until(&mut last, 19).await.unwrap();
        client
    });
    for next in 3..20 {
        service.publish(A, next).await;
    }
    let mut client = reading.await.unwrap();
    // An older one and one of another repository are told to nobody here.
    service.publish(A, 5).await;
    service.publish(B, 100).await;
    service.publish(A, 20).await;
    assert_eq!(revision(&client.next().await.unwrap()), 20);
}

#[tokio::test]
async fn a_stream_is_cut_and_never_finished_when_the_server_stops() {
    let service = Service::start().await;
    service.publish(A, 1).await;
    let (mut told, mut waiting) =
        (CppClient::subscribe(service.address, A).await, CppClient::subscribe(service.address, B).await);
    told.next().await.unwrap();
    // Its head is there without an event.
    while !waiting.state.has_head() {
        waiting.read().await.unwrap();
    }
    service.stop().await;
    assert_eq!(told.next().await.unwrap_err(), End::Cut);
    assert_eq!(waiting.next().await.unwrap_err(), End::Cut);
}

#[tokio::test]
async fn a_restart_on_the_same_socket_refuses_nobody_and_loses_nothing() {
    let rounds = std::env::var("CONVEYOR_TEST_NOTIFY_RESTARTS").ok().and_then(|text| text.parse().ok()).unwrap_or(20);
    let mut service = Service::start().await;
    let address = service.address;
    let wanted: u64 = rounds * 2;
    let mut clients = tokio::task::JoinSet::new();
    for number in 0..6 {
        clients.spawn(async move {
            let (mut last, mut cuts) = (0, 0);
            while last < wanted {
                // Half of them go by themselves now and then.
                let mut client = CppClient::subscribe(address, A).await;
                let leaves = if number % 2 == 0 { wanted } else { (last + 3).min(wanted) };
                match client.until(&mut last, leaves).await {
                    Ok(()) => {}
                    Err(end) => {
                        assert_eq!(end, End::Cut);
                        cuts += 1;
                    }
                }
            }
            cuts
        });
    }
    for number in 0..3 {
        clients.spawn(async move {
            let (mut last, mut cuts) = (0, 0);
            while last < wanted {
                let url = format!("ws://{address}/api/v1/subscribe");
                let Ok((mut socket, _)) = tokio_tungstenite::connect_async(url).await else { continue };
                let asked = if number == 0 { Frame::text(request(A)) } else { Frame::binary(request(A)) };
                if socket.send(asked).await.is_err() {
                    continue;
                }
                while let Some(Ok(frame)) = socket.next().await {
                    if let Frame::Binary(data) = frame {
                        let next = revision(&data);
                        assert!(next >= last, "revision {next} after {last}");
                        last = next;
                    }
                    if last >= wanted {
                        return cuts;
                    }
                }
                cuts += 1;
            }
            cuts
        });
    }
    for round in 1..=rounds {
        service.publish(A, round * 2 - 1).await;
        service = service.restart().await;
        service.publish(A, round * 2).await;
    }
    let ended = async {
        let mut cuts = 0;
        while let Some(ended) = clients.join_next().await {
            cuts += ended.unwrap();
        }
        cuts
    };
    let cuts: u64 = tokio::time::timeout(LONG * 5, ended).await.unwrap();
    assert!(cuts > 0);
}

#[tokio::test]
async fn a_websocket_has_several_repositories_in_text_and_binary_frames() {
    let service = Service::start().await;
    service.publish(A, 1).await;
    let mut socket = service.websocket().await;
    socket.send(Frame::binary(request(A))).await.unwrap();
    let got = frame(&mut socket).await;
    assert!(!got.contains(&b'\n') && revision(&got) == 1);
    socket.send(Frame::text(request(B))).await.unwrap();
    service.publish(B, 7).await;
    assert_eq!(revision(&frame(&mut socket).await), 7);
    for (bad, reason) in [
        ("{", "message is not valid JSON"),
        ("[]", "invalid subscription message"),
        (r#"{"version":1}"#, "invalid subscription message"),
        (r#"{"version":1,"repository":"../x"}"#, "invalid subscription message"),
    ] {
        socket.send(Frame::text(bad)).await.unwrap();
        let answer: Value = serde_json::from_slice(&frame(&mut socket).await).unwrap();
        assert_eq!((answer["status"].as_str(), answer["reason"].as_str()), (Some("error"), Some(reason)), "{bad}");
    }
    service.publish(A, 2).await;
    assert_eq!(revision(&frame(&mut socket).await), 2);
    service.stop().await;
    assert!(matches!(socket.next().await, Some(Ok(Frame::Close(Some(_))))));
}

#[tokio::test]
async fn subprotocols_are_json_or_none() {
    let service = Service::start().await;
    for (offered, status) in [("json", 101), ("xml, json", 101), ("xml", 400)] {
        let mut request = format!("ws://{}/api/v1/subscribe", service.address).into_client_request().unwrap();
        request.headers_mut().insert("sec-websocket-protocol", offered.parse().unwrap());
        match tokio_tungstenite::connect_async(request).await {
            Ok((_, response)) => {
                assert_eq!((status, response.headers()["sec-websocket-protocol"].to_str().unwrap()), (101, "json"));
            }
            Err(tungstenite::Error::Http(response)) => assert_eq!(response.status().as_u16(), status, "{offered}"),
            Err(error) => panic!("{offered}: {error}"),
        }
    }
}

#[tokio::test]
async fn hostile_bodies_are_refused_and_change_nothing() {
    let service = Service::with(NotifySettings { message_bytes: 8192, ..Default::default() }).await;
    service.publish(A, 1).await;
    for body in ["", "{", "null", "[]", "{\"version\":1}", "\u{0}", "{\"version\":1,\"repository\":\"a.example.org\"}"]
    {
        for path in ["publish", "notifications/publish"] {
            let (status, answer) = service.post(path, Some(TOKEN), body).await;
            let answer: Value = serde_json::from_str(&answer).unwrap();
            assert_eq!(
                (status, answer["reason"].as_str()),
                (StatusCode::BAD_REQUEST, Some("invalid_message")),
                "{body}"
            );
        }
    }
    let deep = "[".repeat(8000);
    assert_eq!(service.post("publish", Some(TOKEN), deep).await.0, StatusCode::BAD_REQUEST);
    let large = " ".repeat(8193);
    assert_eq!(service.post("publish", Some(TOKEN), large).await.0, StatusCode::PAYLOAD_TOO_LARGE);
    // A manifest that is none.
    let none = message(A, 2).replace("\"manifest\":\"", "\"manifest\":\"AAAA");
    let (status, answer) = service.post("publish", Some(TOKEN), none).await;
    assert!(status == StatusCode::FORBIDDEN && answer.contains("not_believed"), "{answer}");
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let wrong = client.put(format!("http://{}/api/v1/publish", service.address)).send().await.unwrap();
    assert_eq!(wrong.status(), StatusCode::METHOD_NOT_ALLOWED);
    let mut client = CppClient::subscribe(service.address, A).await;
    assert_eq!(revision(&client.next().await.unwrap()), 1);
}

#[tokio::test]
async fn rights_and_limits_are_kept() {
    let one = NotifySettings { subscribers_per_address: 1, publishes_per_s: 0, ..NotifySettings::default() };
    let service = Service::with(one.clone()).await;
    let (status, answer) = service.post("publish", None, message(A, 1)).await;
    assert!(status == StatusCode::UNAUTHORIZED && answer.contains("notify"), "{answer}");
    let mut client = CppClient::subscribe(service.address, A).await;
    service.publish(A, 1).await;
    client.next().await.unwrap();
    let url = format!("ws://{}/api/v1/subscribe", service.address);
    let refused = tokio_tungstenite::connect_async(url).await.unwrap_err();
    assert!(refused.to_string().contains("503"), "{refused}");
    let closed = Service::with(NotifySettings { open_subscribe: false, open_publish: true, ..one }).await;
    let refused = tokio_tungstenite::connect_async(format!("ws://{}/api/v1/subscribe", closed.address)).await;
    assert!(refused.unwrap_err().to_string().contains("401"));
    assert_eq!(closed.post("publish", None, message(A, 1)).await.0, StatusCode::TOO_MANY_REQUESTS);
    // Who has a token is not counted.
    closed.publish(A, 2).await;
    let open = Service::with(NotifySettings { open_publish: true, ..NotifySettings::default() }).await;
    assert_eq!(open.post("publish", None, message(A, 1)).await.0, StatusCode::OK);
}

#[tokio::test]
async fn who_is_busy_while_several_come_loses_none_of_what_it_reads_at_once() {
    let service = Service::with(NotifySettings { pause: Duration::ZERO, ..NotifySettings::default() }).await;
    let mut client = CppClient::subscribe(service.address, A).await;
    service.publish(A, 1).await;
    assert_eq!(revision(&client.next().await.unwrap()), 1);
    for next in 2..=5 {
        service.publish(A, next).await;
        // It lies in the socket, and the client is elsewhere.
        let mut there = vec![0; 16 * 1024];
        let wanted = usize::try_from(next).unwrap() - 1;
        while {
            let count = client.stream.peek(&mut there).await.unwrap();
            there[..count].windows(6).filter(|six| six == b"data: ").count() < wanted
        } {
            tokio::task::yield_now().await;
        }
    }
    client.read().await.unwrap();
    assert_eq!(client.told.iter().map(|told| revision(told.as_bytes())).collect::<Vec<_>>(), [2, 3, 4, 5]);
}

#[tokio::test]
async fn who_goes_without_a_word_holds_nobody_up_and_is_dropped() {
    let service = Service::start().await;
    let gone = CppClient::subscribe(service.address, A).await;
    let mut hears = CppClient::subscribe(service.address, A).await;
    while service.notify.notifications.subscribers() < 2 {
        tokio::task::yield_now().await;
    }
    drop(gone);
    service.publish(A, 1).await;
    hears.until(&mut 0, 1).await.unwrap();
    while service.notify.notifications.subscribers() > 1 {
        tokio::task::yield_now().await;
    }
}

/// A subscriber whose socket takes little, and who reads nothing behind the head.
async fn deaf(service: &Service, request: &[u8], then: &[u8]) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut stream = socket.connect(service.address).await.unwrap();
    stream.write_all(request).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    stream.write_all(then).await.unwrap();
    stream
}

#[tokio::test]
async fn who_takes_nothing_is_dropped_and_the_others_get_everything_at_once() {
    let (idle, pause) = (Duration::from_secs(1), Duration::ZERO);
    let service = Service::with(NotifySettings { idle, pause, ..NotifySettings::default() }).await;
    let upgrade = "GET /api/v1/subscribe HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                   Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    // A text frame with a mask of zeros.
    let asked = request(A);
    let ask = [&[0x81, 0x80 | u8::try_from(asked.len()).unwrap(), 0, 0, 0, 0], asked.as_bytes()].concat();
    let sse = cpp_request("localhost", A);
    let _deaf = [deaf(&service, sse.as_bytes(), b"").await, deaf(&service, upgrade.as_bytes(), &ask).await];
    let mut socket = service.websocket().await;
    socket.send(Frame::binary(request(A))).await.unwrap();
    let mut stream = TcpStream::connect(service.address).await.unwrap();
    stream.write_all(sse.as_bytes()).await.unwrap();
    while service.notify.notifications.subscribers() < 4 {
        tokio::task::yield_now().await;
    }
    // Far more than the kernel keeps for the deaf ones.
    let padding = "x".repeat(500_000);
    let mut read = Vec::new();
    let dropping = async {
        for number in 1.. {
            let message = unverified_message(A, number).replacen('{', &format!("{{\"padding\":\"{padding}\","), 1);
            let (status, answer) = service.post("publish", Some(TOKEN), message.clone()).await;
            assert_eq!(status, StatusCode::OK, "{answer}");
            assert_eq!(frame(&mut socket).await, message.as_bytes());
            // One event is one chunk, and comes as it is.
            let event = format!("\r\ndata: {message}\n\n\r\n");
            while !read.ends_with(event.as_bytes()) {
                stream.read_buf(&mut read).await.unwrap();
            }
            read.clear();
            if service.notify.notifications.subscribers() == 2 {
                return number;
            }
        }
        0
    };
    assert!(tokio::time::timeout(LONG, dropping).await.unwrap() > 1);
    let counted = async {
        while service.notify.notifications.figures().dropped() < 2 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LONG, counted).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_subscribers_end_with_the_newest() {
    let service = Service::start().await;
    let mut clients = tokio::task::JoinSet::new();
    for number in 0..1000 {
        let address = service.address;
        if number % 2 == 0 {
            clients.spawn(async move {
                let (mut client, mut last) = (CppClient::subscribe(address, A).await, 0);
                client.until(&mut last, 10).await.unwrap();
            });
        } else {
            let mut socket = service.websocket().await;
            clients.spawn(async move {
                socket.send(Frame::binary(request(A))).await.unwrap();
                while revision(&frame(&mut socket).await) < 10 {}
            });
        }
    }
    for next in 1..=10 {
        service.publish(A, next).await;
    }
    clients.join_all().await;
}
