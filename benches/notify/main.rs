//! What notifications cost: publishes without subscribers, a publish until a thousand subscribers have it, and the memory of an
//! idle subscriber. `cargo bench --bench notify`; the server is a process of its own, the clients are this one.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod clients;
mod server;

use std::time::{Duration, Instant};

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use clients::{Dialect, Subscriber};
use server::Server;

const REPOSITORY: &str = "bench.example.org";

fn main() {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("a limit");
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).expect("more files");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        publishes().await;
        delivery().await;
        // Each is two files on this machine, one of them here.
        let count = usize::try_from(hard / 2).unwrap_or(usize::MAX).min(10_000);
        for (dialect, most) in [(Dialect::Sse, 16), (Dialect::WebSocket, 24)] {
            idle(dialect, count, most).await;
        }
    });
}

/// Durable publishes a second by 64 clients of which each waits for its answer; nobody listens.
async fn publishes() {
    const EACH: u64 = 200;
    let server = Server::start().await;
    let began = Instant::now();
    let mut clients = tokio::task::JoinSet::new();
    for number in 0..64 {
        let publisher = server.publisher();
        clients.spawn(async move {
            let repository = format!("r{number}.example.org");
            for revision in 1..=EACH {
                publisher.publish(&repository, revision).await;
            }
        });
    }
    clients.join_all().await;
    let rate = (64 * EACH) as f64 / began.elapsed().as_secs_f64();
    println!("durable publishes without subscribers: {rate:.0}/s (wanted: at least 3000/s)");
}

/// From the publish until each of a thousand subscribers has it, half of them of either dialect.
async fn delivery() {
    const ROUNDS: u64 = 20;
    let server = Server::start().await;
    let publisher = server.publisher();
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    for number in 0..1000 {
        let dialect = if number % 2 == 0 { Dialect::Sse } else { Dialect::WebSocket };
        let mut subscriber = Subscriber::connect(dialect, server.address, REPOSITORY).await;
        let tell = tell.clone();
        tokio::spawn(async move {
            while subscriber.event().await {
                if tell.send(Instant::now()).is_err() {
                    break;
                }
            }
        });
    }
    server.until_subscribed().await;
    let mut took = Vec::new();
    for revision in 1..=ROUNDS {
        let began = Instant::now();
        publisher.publish(REPOSITORY, revision).await;
        for _ in 0..1000 {
            let at = tokio::time::timeout(Duration::from_secs(30), told.recv()).await.expect("all are told");
            took.push(at.expect("the clients live").duration_since(began));
        }
        // No two events come to a stream within a second.
        tokio::time::sleep(Duration::from_millis(1100)).await;
    }
    took.sort_unstable();
    let at = |share: usize| took[took.len() * share / 1000].as_secs_f64() * 1000.0;
    println!(
        "publish to delivered, 1000 subscribers: p50 {:.1} ms, p99 {:.1} ms (wanted: below 50 ms), p99.9 {:.1} ms",
        at(500),
        at(990),
        at(999)
    );
}

/// Resident memory of the server for each subscriber that waits.
async fn idle(dialect: Dialect, count: usize, most: usize) {
    let server = Server::start().await;
    let before = server.resident();
    let mut subscribers = Vec::with_capacity(count);
    for _ in 0..count {
        subscribers.push(Subscriber::connect(dialect, server.address, REPOSITORY).await);
    }
    server.until_subscribed().await;
    let each = server.resident().saturating_sub(before) as f64 / count as f64 / 1024.0;
    println!("{count} idle subscribers ({dialect:?}): {each:.1} KiB each (wanted: at most {most} KiB)");
}
