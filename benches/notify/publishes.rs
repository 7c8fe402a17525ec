//! Durable publishes without subscribers, beside what bare SQLite commits and what the gateway keeps in memory.

use std::io;
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
/// One more for the client that publishes alone.
pub(crate) const REPOSITORIES: usize = MANY + 1;

pub(crate) fn run(scale: Scale, runtime: &Runtime, repositories: &Repositories) {
    let revisions = scale.pick(100, 3);
    let requests = |number, count| -> Vec<Vec<u8>> {
        (1..=count).map(|revision| Publisher::request(&repositories.message(number, revision, 0))).collect()
    };
    // Signed before the clock runs.
    let many: Vec<_> = (0..MANY).map(|number| requests(number, revisions)).collect();
    let one = vec![requests(MANY, scale.pick(1000, 20))];
    let gateway = std::env::var_os(GATEWAY).map(PathBuf::from);
    let directory = tempfile::tempdir().unwrap();
    let (mut single, mut grouped) = (Vec::new(), Vec::new());
    let mut figures: [Vec<Rate>; 4] = Default::default();
    // All take turns, so that what else the machine does falls on each.
    for _ in 0..scale.rounds {
        single.push(floor::sqlite_rows_per_s(directory.path(), scale.pick(2_000, 100), 1));
        grouped.push(floor::sqlite_rows_per_s(directory.path(), scale.pick(64_000, 640), MANY));
        for (way, clients) in [&one, &many].into_iter().enumerate() {
            figures[way].push(runtime.block_on(async {
                let server = Server::start(repositories).await;
                let rate = publish(&server, clients).await.unwrap();
                let newest = clients[0].len() as u64;
                assert_eq!(server.kill_and_count(newest).await, clients.len(), "what was answered is stored");
                rate
            }));
            if let Some(gateway) = &gateway {
                let rate = runtime.block_on(async {
                    let server = Server::start_gateway(gateway).await;
                    publish(&server, clients).await
                });
                // Seen with many clients: its messages are in a map without a lock.
                match rate {
                    Ok(rate) => figures[2 + way].push(rate),
                    Err(error) => eprintln!("publishes, cvmfs_gateway, {} clients: it hung up: {error}", clients.len()),
                }
            }
        }
    }
    let names = ["1 client", "64 clients", "1 client, cvmfs_gateway", "64 clients, cvmfs_gateway"];
    for (name, rates) in names.iter().zip(&figures).filter(|(_, rates)| !rates.is_empty()) {
        let each: Vec<_> = rates.iter().map(|rate| rate.processor_ms).collect();
        let rates: Vec<_> = rates.iter().map(|rate| rate.per_s).collect();
        figure(
            &format!("publishes without subscribers, {name}"),
            median(&rates),
            "messages/s",
            Some(("SQLite, one row in each commit", median(&single))),
            json!({
                "best": quantile(&rates, 1.0).round(), "worst": quantile(&rates, 0.0).round(), "rounds": rates.len(),
                "server_processor_ms_each": (median(&each) * 1e3).round() / 1e3, "grouped_floor_value": median(&grouped).round(),
                "group": MANY, "load": load(),
            }),
        );
    }
    if gateway.is_none() {
        eprintln!("publishes, cvmfs_gateway: skipped: {GATEWAY} does not name the program");
    }
}

struct Rate {
    per_s: f64,
    /// Of the server, for each.
    processor_ms: f64,
}

/// Each client sends its requests one after the other.
async fn publish(server: &Server, clients: &[Vec<Vec<u8>>]) -> io::Result<Rate> {
    let mut publishing = JoinSet::new();
    let mut ready = Vec::new();
    for requests in clients {
        ready.push((Publisher::connect(server.address).await, requests.clone()));
    }
    let (began, before) = (Instant::now(), server.processor_ms());
    for (mut publisher, requests) in ready {
        publishing.spawn(async move {
            for request in requests {
                publisher.send(&request).await?;
            }
            Ok(())
        });
    }
    publishing.join_all().await.into_iter().collect::<io::Result<()>>()?;
    let seconds = began.elapsed().as_secs_f64();
    let count = clients.iter().map(Vec::len).sum::<usize>() as f64;
    Ok(Rate { per_s: count / seconds, processor_ms: (server.processor_ms() - before) / count })
}
