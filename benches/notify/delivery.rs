//! From a publish until each of a thousand subscribers has the message, half of them of either dialect; beside a bare server that
//! only writes, and with some subscribers that take nothing.

use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::runtime::Runtime;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::publisher::Publisher;
use super::report::{figure, median, quantile};
use super::repositories::Repositories;
use super::server::Server;
use super::subscriber::{Dialect, Subscriber};
use super::{Scale, load};

/// No two messages come to a stream of events within a second.
const PAUSE: Duration = Duration::from_millis(1_100);
const LONG: Duration = Duration::from_secs(30);
/// Messages of this size, so many of them, are more than the kernel keeps for a subscriber that takes nothing.
const LARGE: usize = 1_000_000;
const CLOG: u64 = 4;
/// The least that the kernel keeps on the side of such a subscriber.
const WINDOW: u32 = 4096;

/// Messages as they came: when, and what.
type Told = UnboundedReceiver<(Instant, Vec<u8>)>;

pub(crate) fn run(scale: Scale, runtime: &Runtime, repositories: &Repositories) {
    let count = scale.pick(1000, 40);
    let some = scale.pick(20, 4);
    let mut floors = Vec::new();
    let mut ours: [Vec<Vec<f64>>; 2] = Default::default();
    let mut processor = [Vec::new(), Vec::new()];
    for _ in 0..scale.rounds {
        floors.push(runtime.block_on(floor(scale, count, repositories)));
        for (way, slow) in [0, some].into_iter().enumerate() {
            let (samples, processor_ms) = runtime.block_on(delivery(scale, count - slow, slow, repositories));
            ours[way].push(samples);
            processor[way].push(processor_ms);
        }
    }
    let p99 = |samples: &[f64]| quantile(samples, 0.99);
    let floor = median(&floors.iter().map(|samples| p99(samples)).collect::<Vec<_>>());
    let names = [String::new(), format!(", {some} more take nothing")];
    for ((name, samples), processor) in names.iter().zip(&ours).zip(&processor) {
        let each: Vec<_> = samples.iter().map(|samples| p99(samples)).collect();
        let all = samples.concat();
        let round = |value: f64| (value * 100.0).round() / 100.0;
        figure(
            &format!("publish to delivered, {count} subscribers{name}, p99"),
            median(&each),
            "ms",
            Some(("a bare server that writes to as many, p99", floor)),
            json!({
                "best": round(quantile(&each, 0.0)), "worst": round(quantile(&each, 1.0)), "rounds": scale.rounds,
                "p50": round(median(&all)), "p99_of_all": round(p99(&all)), "max": round(quantile(&all, 1.0)),
                "server_processor_ms_each": round(median(processor)), "messages": scale.pick(15, 1), "load": load(),
            }),
        );
    }
}

/// Milliseconds of each message to each subscriber, and what the server runs for a message.
async fn delivery(scale: Scale, count: usize, slow: usize, repositories: &Repositories) -> (Vec<f64>, f64) {
    let server = Server::start(repositories).await;
    let mut publisher = Publisher::connect(server.address).await;
    let mut revision = 0;
    let mut next = |padding| {
        revision += 1;
        repositories.message(0, revision, padding)
    };
    publisher.send(&Publisher::request(&next(0))).await.unwrap();
    let mut stuck = Vec::new();
    for number in 0..slow {
        let mut subscriber = Subscriber::connect(Dialect::of(number), server.address, 0, Some(WINDOW)).await;
        subscriber.event().await.expect("the last message comes at once");
        stuck.push(subscriber);
    }
    if slow > 0 {
        for _ in 0..CLOG {
            tokio::time::sleep(PAUSE).await;
            publisher.send(&Publisher::request(&next(LARGE))).await.unwrap();
        }
        publisher.send(&Publisher::request(&next(0))).await.unwrap();
    }
    let (tell, mut told) = unbounded_channel();
    for number in 0..count {
        let mut subscriber = Subscriber::connect(Dialect::of(number), server.address, 0, None).await;
        subscriber.event().await.expect("the last message comes at once");
        tokio::spawn(listen(subscriber, tell.clone()));
    }
    let mut took = Vec::new();
    let rounds = scale.pick(15, 1);
    let mut last = String::new();
    let before = server.processor_ms();
    for _ in 0..rounds {
        tokio::time::sleep(PAUSE).await;
        last = next(0);
        let request = Publisher::request(&last);
        let began = Instant::now();
        publisher.send(&request).await.unwrap();
        collect(&mut told, count, began, &last, &mut took).await;
    }
    let processor_ms = (server.processor_ms() - before) / rounds as f64;
    for mut subscriber in stuck {
        let mut had = 1;
        while subscriber.event().await.expect("it is not dropped yet") != last.as_bytes() {
            had += 1;
        }
        assert!(had <= CLOG + 1, "it took {had} messages, and was to be stuck before the first that was measured");
    }
    (took, processor_ms)
}

/// The same to sockets that a thread writes to one after the other.
async fn floor(scale: Scale, count: usize, repositories: &Repositories) -> Vec<f64> {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (publish, published) = mpsc::channel::<Vec<u8>>();
    let serving = std::thread::spawn(move || {
        let mut sockets: Vec<_> = (0..count)
            .map(|_| {
                let (mut socket, _) = listener.accept().unwrap();
                socket.set_nodelay(true).unwrap();
                socket.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
                socket
            })
            .collect();
        for message in published {
            for socket in &mut sockets {
                socket.write_all(&message).unwrap();
            }
        }
    });
    let (tell, mut told) = unbounded_channel();
    connect_to_floor(address, count, &tell).await;
    let mut took = Vec::new();
    for revision in 1..=scale.pick(15, 1) {
        let message = repositories.message(0, revision, 0);
        let event = format!("{:X}\r\ndata: {message}\n\n\r\n", message.len() + 8).into_bytes();
        let began = Instant::now();
        publish.send(event).unwrap();
        collect(&mut told, count, began, &message, &mut took).await;
    }
    drop(publish);
    serving.join().unwrap();
    took
}

async fn connect_to_floor(address: SocketAddr, count: usize, tell: &UnboundedSender<(Instant, Vec<u8>)>) {
    for _ in 0..count {
        let subscriber = Subscriber::connect(Dialect::Sse, address, 0, None).await;
        tokio::spawn(listen(subscriber, tell.clone()));
    }
}

/// Tells of each message at the moment that it is there.
async fn listen(mut subscriber: Subscriber, tell: UnboundedSender<(Instant, Vec<u8>)>) {
    while let Some(message) = subscriber.event().await {
        if tell.send((Instant::now(), message)).is_err() {
            break;
        }
    }
}

/// Waits until all have it.
async fn collect(told: &mut Told, count: usize, began: Instant, message: &str, took: &mut Vec<f64>) {
    for _ in 0..count {
        let (at, got) = tokio::time::timeout(LONG, told.recv()).await.expect("all are told").unwrap();
        assert_eq!(got, message.as_bytes(), "what is told is what was published");
        took.push(at.duration_since(began).as_secs_f64() * 1e3);
    }
}
