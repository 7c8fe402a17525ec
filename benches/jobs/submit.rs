//! Durable submissions over HTTP beside what bare SQLite commits.

use std::time::Instant;

use serde_json::json;

use super::Scale;
use super::floor::sqlite_rows_per_s;
use super::report::{figure, median};
use super::server::{Server, job, runtime};

/// Rows in each commit of the grouped ceiling.
const GROUP: usize = 64;

/// A way to submit.
struct Way {
    name: &'static str,
    connections: usize,
    array: usize,
    jobs: usize,
}

pub(crate) fn run(scale: Scale) {
    let ways = [
        Way { name: "submit, 4 clients one by one", connections: 4, array: 1, jobs: scale.pick(6_000, 200) },
        Way { name: "submit, 64 connections", connections: 64, array: 1, jobs: scale.pick(20_000, 640) },
        Way { name: "submit, 4 clients, arrays of 100", connections: 4, array: 100, jobs: scale.pick(40_000, 1_200) },
    ];
    let rounds = scale.pick(5, 1);
    let (mut single, mut grouped) = (Vec::new(), Vec::new());
    let mut ours: Vec<Vec<f64>> = ways.iter().map(|_| Vec::new()).collect();
    let directory = tempfile::tempdir().unwrap();
    // Ceiling and ours take turns, so that what else the machine does falls on both.
    for _ in 0..rounds {
        single.push(sqlite_rows_per_s(directory.path(), scale.pick(2_000, 100), 1));
        grouped.push(sqlite_rows_per_s(directory.path(), scale.pick(64_000, 640), GROUP));
        for (way, results) in ways.iter().zip(&mut ours) {
            results.push(runtime().block_on(jobs_per_s(way)));
        }
    }
    for (way, results) in ways.iter().zip(&ours) {
        let more = json!({ "grouped_floor_value": median(&grouped).round(), "group": GROUP, "rounds": rounds });
        figure(way.name, median(results), "jobs/s", Some(("SQLite, one row in each commit", median(&single))), more);
    }
}

async fn jobs_per_s(way: &Way) -> f64 {
    let server = Server::start().await;
    let requests = way.jobs / way.connections / way.array;
    // The jobs are made before the clock runs.
    let work: Vec<Vec<Vec<_>>> = (0..way.connections)
        .map(|client| {
            (0..requests).map(|request| (0..way.array).map(|n| job(client + request + n)).collect()).collect()
        })
        .collect();
    let began = Instant::now();
    let clients: Vec<_> = work
        .into_iter()
        .map(|requests| {
            let client = server.client();
            tokio::spawn(async move {
                for jobs in requests {
                    client.submit(&jobs, None).await.unwrap();
                }
            })
        })
        .collect();
    for client in clients {
        client.await.unwrap();
    }
    let seconds = began.elapsed().as_secs_f64();
    server.stop().await;
    (way.connections * requests * way.array) as f64 / seconds
}
