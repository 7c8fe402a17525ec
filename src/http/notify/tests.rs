//! Both dialects over sockets. The clients here are stand-ins: [`CppClient`] has the weaknesses of the C++ client's parser, and
//! no others.

use std::net::SocketAddr;

use axum::http::StatusCode;
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
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
        let notify = notify(&engine, &shutdown, settings).await;
        let listening = TcpListener::from_std(listener.try_clone().unwrap()).unwrap();
        let limits = Limits { connections: 5000, ..Limits::default() };
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

/// A stand-in for the C++ client's end of a stream. What one read brings is one event, or nothing: what stands behind the first
/// event of a read is lost to it, and what does not look like one ends it.
struct CppClient {
    stream: TcpStream,
    /// What was read and belongs to no chunk yet.
    raw: Vec<u8>,
    head: bool,
}

impl CppClient {
    async fn subscribe(address: SocketAddr, repository: &str) -> Self {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let body = json!({"version": 1, "repository": repository}).to_string();
        // As libcurl sends it.
        let head = format!(
            "GET /api/v1/notifications/subscribe HTTP/1.1\r\nHost: {address}\r\nAccept: */*\r\nContent-Length: {}\r\n\
             Content-Type: application/x-www-form-urlencoded\r\n\r\n",
            body.len()
        );
        stream.write_all((head + &body).as_bytes()).await.unwrap();
        Self { stream, raw: Vec::new(), head: true }
    }

    /// What one read brings, without HTTP's framing.
    async fn read(&mut self) -> Result<Vec<u8>, End> {
        loop {
            if self.head
                && let Some(end) = self.raw.windows(4).position(|bytes| bytes == b"\r\n\r\n")
            {
                let head = String::from_utf8(self.raw.drain(..end + 4).collect()).unwrap().to_ascii_lowercase();
                assert!(head.starts_with("http/1.1 200 ok\r\n"), "{head}");
                assert!(head.contains("content-type: text/event-stream\r\n"), "{head}");
                assert!(head.contains("cache-control: no-cache\r\n"), "{head}");
                assert!(head.contains("transfer-encoding: chunked\r\n"), "{head}");
                self.head = false;
            }
            if !self.head {
                let mut whole = Vec::new();
                while let Some((size, after)) = chunk_head(&self.raw) {
                    if size == 0 {
                        return Err(End::Finished);
                    }
                    if self.raw.len() < after + size + 2 {
                        break;
                    }
                    whole.extend_from_slice(&self.raw[after..after + size]);
                    self.raw.drain(..after + size + 2);
                }
                if !whole.is_empty() {
                    return Ok(whole);
                }
            }
            let mut buffer = vec![0; 16 * 1024];
            match tokio::time::timeout(LONG, self.stream.read(&mut buffer)).await.unwrap() {
                Ok(0) | Err(_) => return Err(End::Cut),
                Ok(count) => self.raw.extend_from_slice(&buffer[..count]),
            }
        }
    }

    /// The next message, as its parser finds it.
    async fn next(&mut self) -> Result<Vec<u8>, End> {
        let read = self.read().await?;
        let text = std::str::from_utf8(&read).unwrap();
        let event = text.strip_prefix("data: ").and_then(|rest| rest.strip_suffix("\n\n"));
        let event = event.unwrap_or_else(|| panic!("no event that it can read: {text:?}"));
        assert!(!event.contains('\n'), "two events at once, and the second is lost: {text:?}");
        Ok(event.as_bytes().to_vec())
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

fn chunk_head(raw: &[u8]) -> Option<(usize, usize)> {
    let end = raw.windows(2).position(|bytes| bytes == b"\r\n")?;
    let size = usize::from_str_radix(std::str::from_utf8(&raw[..end]).unwrap(), 16).unwrap();
    Some((size, end + 2))
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
    while waiting.head {
        let mut buffer = [0; 1024];
        let count = waiting.stream.read(&mut buffer).await.unwrap();
        waiting.raw.extend_from_slice(&buffer[..count]);
        waiting.head = !waiting.raw.ends_with(b"\r\n\r\n");
    }
    waiting.raw.clear();
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
async fn who_goes_without_a_word_and_who_takes_nothing_holds_nobody_up() {
    let service = Service::start().await;
    let deaf = CppClient::subscribe(service.address, A).await;
    let gone = CppClient::subscribe(service.address, A).await;
    let mut hears = CppClient::subscribe(service.address, A).await;
    while service.notify.notifications.subscribers() < 3 {
        tokio::task::yield_now().await;
    }
    drop(gone);
    let hearing = tokio::spawn(async move { hears.until(&mut 0, 29).await.unwrap() });
    for next in 1..30 {
        service.publish(A, next).await;
    }
    while service.notify.notifications.subscribers() > 2 {
        tokio::task::yield_now().await;
    }
    hearing.await.unwrap();
    drop(deaf);
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
