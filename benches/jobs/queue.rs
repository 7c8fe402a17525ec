//! What a worker's round costs while very many jobs are queued.

use std::time::Instant;

use conveyor::app::Settings;
use conveyor::domain::batch::Intent;
use conveyor::domain::ids::InstanceId;
use conveyor::domain::outcome::{JobOutcome, Outcome};
use conveyor::domain::protocol::{ClaimRequest, IntentRequest, OutcomeRequest};
use serde_json::json;

use super::Scale;
use super::report::{figure, quantile};
use super::server::{REPOSITORIES, Server, job, one_by_one, runtime};

/// Jobs in one submission.
const ARRAY: usize = 1_000;

pub(crate) fn run(scale: Scale) {
    for (name, settings) in [("batches of one", one_by_one()), ("default batching", Settings::default())] {
        let few = runtime().block_on(rounds(scale, settings.clone(), ARRAY));
        let queued = scale.pick(REPOSITORIES * 10_000, 2 * ARRAY);
        let many = runtime().block_on(rounds(scale, settings, queued));
        let more = json!({ "queued": queued, "repositories": REPOSITORIES, "p99": quantile(&many, 0.99) });
        let floor = Some(("the same with 1,000 queued", quantile(&few, 0.5)));
        figure(
            &format!("offer, claim, permission and outcome with jobs queued, {name}, p50"),
            quantile(&many, 0.5),
            "ms",
            floor,
            more,
        );
    }
}

/// Milliseconds of each round of one worker, without HTTP: four commits, each with all that is planned in it.
async fn rounds(scale: Scale, settings: Settings, queued: usize) -> Vec<f64> {
    let server = Server::start_with(settings, None).await;
    let engine = &server.engine;
    for _ in 0..queued / ARRAY {
        engine.submit(None, (0..ARRAY).map(job).collect()).await.unwrap();
    }
    let instance = InstanceId(uuid::Uuid::now_v7());
    let mut times = Vec::new();
    for _ in 0..scale.pick(100, 5) {
        let began = Instant::now();
        let offer = engine.take_offers("default", "bench", instance, 1).await.unwrap().remove(0);
        let request = ClaimRequest { generation: offer.generation, node: "bench".into(), instance };
        let claim = engine.claim(offer.batch_id, request).await.unwrap();
        let token = claim.token;
        let intent = Intent { base_revision: 1, base_root_hash: "0".repeat(40), changed_paths_digest: "0".repeat(64) };
        engine.intent(offer.batch_id, IntentRequest { token: token.clone(), intent }).await.unwrap();
        let outcome = Outcome::Succeeded { revision: 2, root_hash: "0".repeat(40), outputs: Default::default() };
        let outcomes = claim.jobs.iter().map(|job| JobOutcome {
            job_id: job.spec.id,
            attempt: job.attempt,
            outcome: outcome.clone(),
        });
        let jobs = outcomes.collect();
        engine.outcome(offer.batch_id, OutcomeRequest { token, jobs, signed: None }).await.unwrap();
        times.push(began.elapsed().as_secs_f64() * 1e3);
    }
    server.stop().await;
    times
}
