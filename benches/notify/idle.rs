//! What a subscriber costs the server that has been told the last message and waits for the next.

use serde_json::json;
use tokio::runtime::Runtime;

use super::publisher::Publisher;
use super::report::figure;
use super::repositories::Repositories;
use super::server::Server;
use super::subscriber::{Dialect, Subscriber};
use super::{Scale, load};

/// Files that this process needs beside its subscribers.
const OTHERS: usize = 100;

pub(crate) fn run(scale: Scale, runtime: &Runtime, repositories: &Repositories) {
    let wanted = scale.pick(10_000, 40);
    let count = wanted.min(scale.files - OTHERS);
    if count < wanted {
        eprintln!("idle: {count} subscribers instead of {wanted}, by the limit of open files");
    }
    for dialect in [Dialect::Sse, Dialect::WebSocket] {
        runtime.block_on(measure(dialect, count, repositories));
    }
}

async fn measure(dialect: Dialect, count: usize, repositories: &Repositories) {
    let server = Server::start(repositories).await;
    let mut publisher = Publisher::connect(server.address).await;
    publisher.send(&Publisher::request(&repositories.message(0, 1, 0))).await.unwrap();
    let before = server.resident_kib();
    let mut subscribers = Vec::with_capacity(count);
    for _ in 0..count {
        let mut subscriber = Subscriber::connect(dialect, server.address, 0, None).await;
        subscriber.event().await.expect("the last message comes at once");
        subscribers.push(subscriber);
    }
    let each = |resident: u64| resident.saturating_sub(before) as f64 / count as f64;
    let idle = each(server.resident_kib());
    let last = repositories.message(0, 2, 0);
    publisher.send(&Publisher::request(&last)).await.unwrap();
    for subscriber in &mut subscribers {
        assert_eq!(subscriber.event().await.expect("they are still there"), last.as_bytes());
    }
    let told = each(server.resident_kib());
    figure(
        &format!("memory of an idle subscriber, {dialect:?}"),
        idle,
        "KiB",
        None,
        json!({ "subscribers": count, "after_another_message": (told * 100.0).round() / 100.0, "load": load() }),
    );
}
