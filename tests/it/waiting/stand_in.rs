//! A stand-in for workers: it claims and reports over HTTP, and publishes nothing.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use conveyor::client::Client;
use conveyor::domain::batch::Intent;
use conveyor::domain::ids::{InstanceId, JobId};
use conveyor::domain::job::event::Failure;
use conveyor::domain::outcome::{JobOutcome, Outcome};
use conveyor::domain::protocol::{ClaimRequest, IntentRequest, Offer, OutcomeRequest};
use conveyor::domain::token::Token;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use uuid::Uuid;

/// Stand-ins on a runtime of their own; they end when this is dropped.
pub(super) struct StandIn {
    runtime: Option<tokio::runtime::Runtime>,
    done: Arc<AtomicUsize>,
    allowed: Arc<Semaphore>,
}

impl StandIn {
    /// So many at once; the jobs in `failing` fail, all others succeed. No batch begins that was not allowed.
    pub(super) fn start(url: &str, token: &str, workers: usize, failing: HashSet<JobId>) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (done, failing) = (Arc::new(AtomicUsize::new(0)), Arc::new(failing));
        let allowed = Arc::new(Semaphore::new(0));
        for number in 0..workers {
            let client = Client::new(url, Some(Token::new(token).unwrap())).unwrap();
            runtime.spawn(work(client, number, Arc::clone(&done), Arc::clone(&allowed), Arc::clone(&failing)));
        }
        Self { runtime: Some(runtime), done, allowed }
    }

    /// Lets so many batches more begin.
    pub(super) fn allow(&self, batches: usize) {
        self.allowed.add_permits(batches);
    }

    /// How many jobs were reported.
    pub(super) fn done(&self) -> usize {
        self.done.load(Ordering::SeqCst)
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn work(
    client: Client,
    number: usize,
    done: Arc<AtomicUsize>,
    allowed: Arc<Semaphore>,
    failing: Arc<HashSet<JobId>>,
) {
    let (node, instance) = (format!("stand-in-{number}"), InstanceId(Uuid::now_v7()));
    let mut running = JoinSet::new();
    loop {
        // Whatever the server's restarts do to a request, it is made again.
        let Ok(list) = client.offers("default", &node, instance, Duration::from_secs(5), 4).await else { continue };
        for offer in list.offers {
            let (client, node) = (client.clone(), node.clone());
            let (done, allowed, failing) = (Arc::clone(&done), Arc::clone(&allowed), Arc::clone(&failing));
            running.spawn(async move {
                let permit = allowed.acquire().await.unwrap();
                if let Some(count) = carry_out(&client, &offer, node, instance, &failing).await {
                    permit.forget();
                    done.fetch_add(count, Ordering::SeqCst);
                }
            });
        }
        while running.join_next().await.is_some() {}
    }
}

async fn carry_out(
    client: &Client,
    offer: &Offer,
    node: String,
    instance: InstanceId,
    failing: &HashSet<JobId>,
) -> Option<usize> {
    let request = ClaimRequest { generation: offer.generation, node, instance };
    let claim = client.claim(offer.batch_id, &request).await.ok()?;
    let intent = Intent { base_revision: 1, base_root_hash: "0".repeat(40), changed_paths_digest: "0".repeat(64) };
    client.intent(offer.batch_id, &IntentRequest { token: claim.token.clone(), intent }).await.ok()?;
    let failure = Failure { code: "planned".into(), message: "it was to fail".into() };
    let outcome = |job: JobId| match failing.contains(&job) {
        true => Outcome::Failed { failure: failure.clone(), transient: false },
        false => Outcome::Succeeded { revision: 2, root_hash: "0".repeat(40), outputs: Default::default() },
    };
    let job = |job: &conveyor::domain::protocol::ClaimedJob| JobOutcome {
        job_id: job.spec.id,
        attempt: job.attempt,
        outcome: outcome(job.spec.id),
    };
    let jobs: Vec<_> = claim.jobs.iter().map(job).collect();
    let count = jobs.len();
    client.outcome(offer.batch_id, &OutcomeRequest { token: claim.token, jobs, signed: None }).await.ok()?;
    Some(count)
}
