//! A worker's day.

use axum::body::Body;
use axum::http::StatusCode;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{Reply, Server, request};

/// A worker that talks to the server.
pub(super) struct Worker<'a> {
    server: &'a Server,
    pub(super) instance: Uuid,
}

/// A claim that it holds.
pub(super) struct Held {
    pub(super) batch: String,
    pub(super) job: String,
    pub(super) token: String,
}

impl<'a> Worker<'a> {
    pub(super) fn new(server: &'a Server) -> Self {
        Self { server, instance: Uuid::now_v7() }
    }

    pub(super) async fn offers(&self, wait: u64) -> Value {
        let path = format!("/api/v1/fleets/default/offers?node=n1&instance={}&wait={wait}&max=4", self.instance);
        let reply = self.server.get(&path).await;
        assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
        reply.json()["offers"].clone()
    }

    pub(super) async fn claim(&self) -> Held {
        let offers = self.offers(30).await;
        let batch = offers[0]["batch_id"].as_str().unwrap().to_owned();
        let request = json!({"generation": offers[0]["generation"], "node": "n1", "instance": self.instance});
        let reply = self.server.post(&format!("/api/v1/batches/{batch}/claim"), request).await;
        assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
        let claim = reply.json();
        Held {
            batch,
            job: claim["jobs"][0]["spec"]["id"].as_str().unwrap().to_owned(),
            token: claim["token"].as_str().unwrap().to_owned(),
        }
    }

    pub(super) async fn log(&self, held: &Held, offset: u64, text: impl Into<Vec<u8>>) -> Reply {
        let path = format!("/api/v1/batches/{}/jobs/{}/log?offset={offset}", held.batch, held.job);
        let request = request("PUT", &path).header("Conveyor-Claim", &held.token);
        self.server.raw(request.body(Body::from(text.into())).unwrap()).await
    }

    pub(super) async fn succeed(&self, held: &Held) {
        let intent =
            json!({"token": held.token, "base_revision": 6, "base_root_hash": "00", "changed_paths_digest": "00"});
        let reply = self.server.post(&format!("/api/v1/batches/{}/intent", held.batch), intent).await;
        assert_eq!((reply.status, reply.text().as_str()), (StatusCode::OK, "{}"));
        let end = json!({"result": "succeeded", "revision": 7, "root_hash": "ab"});
        self.report(held, end).await;
    }

    pub(super) async fn fail(&self, held: &Held) {
        let failure = json!({"code": "script_failed", "message": "exit status 1"});
        self.report(held, json!({"result": "failed", "failure": failure, "transient": false})).await;
    }

    pub(super) async fn release(&self, held: &Held) {
        self.report(held, json!({"result": "released"})).await;
    }

    /// Shows that it lives, with how far it has come.
    pub(super) async fn beat(&self, held: &Held, progress: Value) -> Reply {
        let claim = json!({"batch_id": held.batch, "token": held.token, "progress": progress});
        let beat =
            json!({"node": "n1", "instance": self.instance, "fleet": "default", "free_slots": 1, "claims": [claim]});
        self.server.post("/api/v1/workers/heartbeat", beat).await
    }

    async fn report(&self, held: &Held, mut outcome: Value) {
        let job = self.server.get(&format!("/api/v1/jobs/{}", held.job)).await.json();
        outcome["job_id"] = json!(held.job);
        outcome["attempt"] = job["attempt"].clone();
        let body = json!({"token": held.token, "jobs": [outcome]});
        let reply = self.server.post(&format!("/api/v1/batches/{}/outcome", held.batch), body).await;
        assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
    }
}

#[tokio::test]
async fn a_job_goes_from_submit_to_success() {
    let server = Server::start().await;
    let worker = Worker::new(&server);
    let job = server.submit("one").await;
    let held = worker.claim().await;
    assert_eq!(held.job, job);
    let reply = worker.log(&held, 0, "hello\n").await;
    assert_eq!((reply.status, reply.json()), (StatusCode::OK, json!({"end": 6})));
    let digest = format!("sha256:{}", "0".repeat(64));
    let pin = json!({"token": held.token, "digest": digest});
    let reply = server.post(&format!("/api/v1/batches/{}/jobs/{job}/pin", held.batch), pin).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
    worker.succeed(&held).await;
    assert_eq!(server.state_of(&job).await, "succeeded");
}
