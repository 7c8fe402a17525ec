//! From the request to submit to the reply to the claim, on an idle system.

use std::time::{Duration, Instant};

use conveyor::client::Client;
use conveyor::domain::batch::Intent;
use conveyor::domain::ids::InstanceId;
use conveyor::domain::outcome::{JobOutcome, Outcome};
use conveyor::domain::protocol::{ClaimReply, ClaimRequest, IntentRequest, Offer, OutcomeRequest};
use serde_json::json;

use super::Scale;
use super::floor::sqlite_rows_per_s;
use super::report::{figure, quantile};
use super::server::{Server, job, runtime};

const NODE: &str = "bench";

pub(crate) fn run(scale: Scale) {
    let directory = tempfile::tempdir().unwrap();
    // Two commits lie between: that of the submission and that of the claim.
    let floor = 2e3 / sqlite_rows_per_s(directory.path(), scale.pick(2_000, 100), 1);
    let times = runtime().block_on(measure(scale.pick(400, 20)));
    let more = json!({ "p99": quantile(&times, 0.99), "samples": times.len() });
    let floor = Some(("two SQLite commits", floor));
    figure("submit to claim reply, embedded, idle, p50", quantile(&times, 0.5), "ms", floor, more);
}

async fn measure(samples: usize) -> Vec<f64> {
    let server = Server::start().await;
    let (client, worker) = (server.client(), server.client());
    let instance = InstanceId(uuid::Uuid::now_v7());
    let mut times = Vec::new();
    for number in 0..samples {
        let polling = tokio::spawn({
            let worker = worker.clone();
            async move { claim(&worker, instance).await }
        });
        // The long poll must be there: this is about a system that waits.
        tokio::time::sleep(Duration::from_millis(10)).await;
        let began = Instant::now();
        client.submit(&[job(number)], None).await.unwrap();
        let (offer, claim, at) = polling.await.unwrap();
        times.push((at - began).as_secs_f64() * 1e3);
        finish(&worker, &offer, &claim).await;
    }
    server.stop().await;
    times
}

async fn claim(worker: &Client, instance: InstanceId) -> (Offer, ClaimReply, Instant) {
    loop {
        let offers = worker.offers("default", NODE, instance, Duration::from_secs(25), 1).await.unwrap();
        let Some(offer) = offers.offers.into_iter().next() else { continue };
        let request = ClaimRequest { generation: offer.generation, node: NODE.into(), instance };
        let claim = worker.claim(offer.batch_id, &request).await.unwrap();
        return (offer, claim, Instant::now());
    }
}

async fn finish(worker: &Client, offer: &Offer, claim: &ClaimReply) {
    let intent = Intent { base_revision: 1, base_root_hash: "0".repeat(40), changed_paths_digest: "0".repeat(64) };
    worker.intent(offer.batch_id, &IntentRequest { token: claim.token.clone(), intent }).await.unwrap();
    let outcome = Outcome::Succeeded { revision: 2, root_hash: "0".repeat(40), outputs: Default::default() };
    let jobs = claim.jobs.iter();
    let jobs =
        jobs.map(|job| JobOutcome { job_id: job.spec.id, attempt: job.attempt, outcome: outcome.clone() }).collect();
    worker.outcome(offer.batch_id, &OutcomeRequest { token: claim.token.clone(), jobs }).await.unwrap();
}
