//! Durable publishes without subscribers, beside what bare SQLite commits and what the gateway keeps in memory.

use std::path::PathBuf;
use std::time::Instant;

use serde_json::json;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

use super::publisher::Publisher;
use super::report::{figure, median, quantile};
use super::repositories::Repositories;
use super::server::Server;
use super::{Scale, floor, load};

/// Names the program `cvmfs_gateway`.
const GATEWAY: &str = "CONVEYOR_BENCH_GATEWAY";
/// Clients that publish at the same time, each about a repository of its own; and rows in each commit of that ceiling.
const MANY: usize = 64;

pub(crate) fn run(scale: Scale, runtime: &Runtime) {
    let revisions = scale.pick(100, 3);
    let repositories = Repositories::new(MANY + 1);
    let requests = |number, count| -> Vec<Vec<u8>> {
        (1..=count).map(|revision| Publisher::request(&repositories.message(number, revision, 0))).collect()
    };
    // Signed before the clock runs.
    let many: Vec<_> = (0..MANY).map(|number| requests(number, revisions)).collect();
    let one = vec![requests(MANY, scale.pick(1000, 20))];
    let gateway = std::env::var_os(GATEWAY).map(PathBuf::from);
    let directory = tempfile::tempdir().unwrap();
    let (mut single, mut grouped) = (Vec::new(), Vec::new());
    let mut figures = [Vec::new(), Vec::new(), Vec::new(), Vec::new()];
    // All take turns, so that what else the machine does falls on each.
    for _ in 0..scale.rounds {
        single.push(floor::sqlite_rows_per_s(directory.path(), scale.pick(2_000, 100), 1));
        grouped.push(floor::sqlite_rows_per_s(directory.path(), scale.pick(64_000, 640), MANY));
        for (way, clients) in [&one, &many].into_iter().enumerate() {
            figures[way].push(runtime.block_on(async {
                let server = Server::start(&repositories).await;
                let rate = publishes_per_s(&server, clients).await;
                let newest = clients[0].len() as u64;
                assert_eq!(server.kill_and_count(newest).await, clients.len(), "what was answered is stored");
                rate
            }));
            if let Some(gateway) = &gateway {
                figures[2 + way].push(runtime.block_on(async {
                    let server = Server::start_gateway(gateway).await;
                    publishes_per_s(&server, clients).await
                }));
            }
        }
    }
    let names = ["1 client", "64 clients", "1 client, cvmfs_gateway", "64 clients, cvmfs_gateway"];
    for (name, rates) in names.iter().zip(&figures).filter(|(_, rates)| !rates.is_empty()) {
        figure(
            &format!("publishes without subscribers, {name}"),
            median(rates),
            "messages/s",
            Some(("SQLite, one row in each commit", median(&single))),
            json!({
                "best": quantile(rates, 1.0).round(), "worst": quantile(rates, 0.0).round(), "rounds": scale.rounds,
                "grouped_floor_value": median(&grouped).round(), "group": MANY, "load": load(),
            }),
        );
    }
    if gateway.is_none() {
        eprintln!("publishes, cvmfs_gateway: skipped: {GATEWAY} does not name the program");
    }
}

/// Each client sends its requests one after the other.
async fn publishes_per_s(server: &Server, clients: &[Vec<Vec<u8>>]) -> f64 {
    let mut publishing = JoinSet::new();
    let mut ready = Vec::new();
    for requests in clients {
        ready.push((Publisher::connect(server.address).await, requests.clone()));
    }
    let began = Instant::now();
    for (mut publisher, requests) in ready {
        publishing.spawn(async move {
            for request in requests {
                publisher.send(&request).await;
            }
        });
    }
    publishing.join_all().await;
    let seconds = began.elapsed().as_secs_f64();
    clients.iter().map(Vec::len).sum::<usize>() as f64 / seconds
}
