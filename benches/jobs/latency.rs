//! From the request to submit to the reply to the claim, on an idle system.

use std::time::{Duration, Instant};

use conveyor::app::Settings;
use conveyor::broker::rabbitmq::{self, Connection, Inbox, Topology};
use conveyor::client::Client;
use conveyor::domain::batch::Intent;
use conveyor::domain::ids::InstanceId;
use conveyor::domain::outcome::{JobOutcome, Outcome};
use conveyor::domain::protocol::{ClaimReply, ClaimRequest, HeartbeatRequest, IntentRequest, Offer, OutcomeRequest};
use serde_json::json;

use super::floor::sqlite_rows_per_s;
use super::report::{figure, quantile};
use super::server::{Server, job, runtime};
use super::{Scale, broker};

const NODE: &str = "bench";

pub(crate) fn run(scale: Scale) {
    let directory = tempfile::tempdir().unwrap();
    // Two commits lie between: that of the submission and that of the claim.
    let floor = 2e3 / sqlite_rows_per_s(directory.path(), scale.pick(2_000, 100), 1);
    let samples = scale.pick(400, 20);
    let tell = |transport: &str, times: &[f64]| {
        let more = json!({ "p99": quantile(times, 0.99), "samples": times.len() });
        let name = format!("submit to claim reply, {transport}, idle, p50");
        figure(&name, quantile(times, 0.5), "ms", Some(("two SQLite commits", floor)), more);
    };
    tell("embedded", &runtime().block_on(measure(samples)));
    if let Some(rabbit) = broker::settings() {
        tell("RabbitMQ", &runtime().block_on(measure_by_broker(samples, rabbit)));
    }
}

/// The same with offers by RabbitMQ, taken by a consumer of the worker's own kind.
async fn measure_by_broker(samples: usize, settings: rabbitmq::Settings) -> Vec<f64> {
    let server = Server::start_with(Settings::default(), Some(settings.clone())).await;
    let (client, worker) = (server.client(), server.client());
    let instance = InstanceId(uuid::Uuid::now_v7());
    let connection = Connection::open(&settings, "bench").await.unwrap();
    Topology::wanted(&settings, ["default"]).declare(&connection).await.unwrap();
    let mut inbox = Inbox::open(&settings, "default").await.unwrap();
    inbox.consume(1).await.unwrap();
    let beat = HeartbeatRequest {
        node: NODE.into(),
        instance,
        fleet: "default".into(),
        free_slots: 1,
        claims: Vec::new(),
        by_broker: true,
        about: Default::default(),
    };
    let mut times = Vec::new();
    for number in 0..samples {
        // Without a sign of life nothing would be sent to it.
        worker.heartbeat(&beat).await.unwrap();
        let began = Instant::now();
        client.submit(&[job(number)], None).await.unwrap();
        let received = inbox.next().await.unwrap();
        let offer = received.offer.clone();
        let request = ClaimRequest { generation: offer.generation, node: NODE.into(), instance };
        let claim = worker.claim(offer.batch_id, &request).await.unwrap();
        times.push(began.elapsed().as_secs_f64() * 1e3);
        inbox.acknowledge(&received).await.unwrap();
        finish(&worker, &offer, &claim).await;
    }
    server.stop().await;
    times
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
    worker.outcome(offer.batch_id, &OutcomeRequest { token: claim.token.clone(), jobs, signed: None }).await.unwrap();
}
