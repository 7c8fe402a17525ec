//! One batch in a worker's hands: claim, open, stage, ask, publish, report.

use std::collections::BTreeSet;
use std::time::Duration;

use conveyor::domain::batch::Intent;
use conveyor::domain::ids::{BatchId, InstanceId, JobId};
use conveyor::domain::job::event::Failure;
use conveyor::domain::outcome::{JobOutcome, Outcome};
use conveyor::domain::protocol::{ClaimRequest, ClaimedJob, Offer, OutcomeRequest};
use rand::RngExt;

use super::bugs::WorkerBug;
use super::environment::{EXPIRY, Environment};
use super::line::Line;
use super::repository::{Open, Repository};
use super::transport::{CallError, Reply, Request};

/// Why a task must end early.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stop {
    Cancelled,
    Lost,
}

/// What became of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// There is more to do.
    On,
    /// The claim was granted.
    Claimed,
    /// The claim was refused: it is somebody else's.
    Refused,
    /// The server did not answer the claim.
    Unanswered,
    /// There is nothing left to do.
    Over,
}

#[derive(Debug, Clone, PartialEq)]
enum Stage {
    Claiming,
    Opening,
    Staging,
    Asking { base: u64 },
    Starting,
    Publishing,
    Reporting(Outcomes),
}

/// How the batch ended: for all of its jobs, or for some of them in another way.
#[derive(Debug, Clone, PartialEq)]
struct Outcomes {
    all: Outcome,
    but: Vec<(JobId, Outcome)>,
}

pub(super) struct Task {
    offer: Offer,
    node: &'static str,
    /// Proves the claim, once there is one.
    pub(super) token: Option<String>,
    pub(super) stop: Option<Stop>,
    /// When the request was sent by whose answer the server last confirmed the claim.
    pub(super) confirmed_at: Duration,
    jobs: Vec<ClaimedJob>,
    /// Jobs whose payloads failed.
    failed: BTreeSet<JobId>,
    tag: String,
    stage: Stage,
    line: Line,
}

impl Task {
    pub(super) fn new(offer: Offer, node: &'static str) -> Self {
        let tag = offer.batch_id.key();
        Self {
            offer,
            node,
            token: None,
            stop: None,
            confirmed_at: Duration::ZERO,
            jobs: Vec::new(),
            failed: BTreeSet::new(),
            tag,
            stage: Stage::Claiming,
            line: Line::default(),
        }
    }

    /// Drops its transaction.
    pub(super) fn abort(&self, env: &mut Environment, instance: InstanceId, id: BatchId) {
        self.repository(env).abort(instance, id);
    }

    fn repository<'a>(&self, env: &'a mut Environment) -> &'a mut Repository {
        env.repositories.get_mut(&self.offer.repository).unwrap()
    }

    /// One step of it.
    pub(super) fn step(&mut self, env: &mut Environment, me: InstanceId) -> Step {
        let id = self.offer.batch_id;
        let may_stop = matches!(self.stage, Stage::Opening | Stage::Staging | Stage::Asking { .. } | Stage::Starting);
        match self.stop.filter(|_| may_stop) {
            Some(Stop::Lost) => {
                self.abort(env, me, id);
                return Step::Over;
            }
            Some(Stop::Cancelled) if self.stage != Stage::Starting => return self.give_back(env, me),
            _ => {}
        }
        match self.stage.clone() {
            Stage::Claiming => return self.claim(env, me),
            Stage::Opening => self.open(env, me),
            Stage::Staging => self.stage(env, me),
            Stage::Asking { base } => return self.ask(env, me, base),
            Stage::Starting => return self.start(env, me),
            Stage::Publishing => self.publish(env, me),
            Stage::Reporting(outcomes) => return self.report(env, &outcomes),
        }
        Step::On
    }

    fn give_back(&mut self, env: &mut Environment, me: InstanceId) -> Step {
        self.abort(env, me, self.offer.batch_id);
        self.ends(Outcome::Released);
        Step::On
    }

    fn ends(&mut self, all: Outcome) {
        self.stage = Stage::Reporting(Outcomes { all, but: Vec::new() });
    }

    fn claim(&mut self, env: &mut Environment, me: InstanceId) -> Step {
        let (id, generation) = (self.offer.batch_id, self.offer.generation);
        let request = || Request::Claim(id, ClaimRequest { generation, node: self.node.into(), instance: me });
        match self.line.ask(env, Some(self.node), request) {
            None => Step::On,
            Some(Ok(Reply::Claim(claim))) => {
                self.confirmed_at = self.line.asked_at;
                self.token = Some(claim.token);
                self.jobs = claim.jobs;
                if env.has(WorkerBug::NewTagEachTry) {
                    self.tag = format!("{}-{me}", claim.key);
                }
                self.stage = Stage::Opening;
                Step::Claimed
            }
            Some(Err(CallError::Network)) if self.gives_up(env) => Step::Unanswered,
            Some(Err(CallError::Network)) => Step::On,
            Some(_) => Step::Refused,
        }
    }

    /// After a call without a reply: was it the last try?
    fn gives_up(&self, env: &mut Environment) -> bool {
        env.chance(0.25)
    }

    fn open(&mut self, env: &mut Environment, me: InstanceId) {
        let open = Open {
            batch: self.offer.batch_id,
            owner: me,
            lease_path: self.offer.lease_path.clone(),
            tag: self.tag.clone(),
            jobs: Vec::new(),
            publishing: false,
        };
        let alive = env.alive.clone();
        self.repository(env).drop_leftovers(&alive);
        match self.repository(env).open(open) {
            Ok(()) => self.stage = Stage::Staging,
            Err(holder) => self.ends(Outcome::Busy { holder }),
        }
    }

    /// Runs the jobs' payloads. Where one fails, nothing is published, and the others are given back.
    fn stage(&mut self, env: &mut Environment, me: InstanceId) {
        for job in &self.jobs {
            if job.spec.name.contains("failing") || job.spec.name.contains("flaky") && env.chance(0.3) {
                self.failed.insert(job.spec.id);
            }
        }
        // What is there already, or only to be looked at, needs no permission.
        let is_needless = |job: &ClaimedJob| job.spec.name.contains("needless") || job.spec.publish().dry_run;
        if self.jobs.iter().all(is_needless) && self.failed.is_empty() && !env.has(WorkerBug::IgnoresDryRun) {
            let head = self.repository(env).head();
            self.abort(env, me, self.offer.batch_id);
            self.ends(Outcome::Unchanged { revision: head, root_hash: String::new(), outputs: Default::default() });
            return;
        }
        let rest = self.jobs.len() > self.failed.len();
        if self.failed.is_empty() || rest && env.has(WorkerBug::PublishesPartOfBatch) {
            let base = self.repository(env).head();
            self.stage = Stage::Asking { base };
            return;
        }
        self.abort(env, me, self.offer.batch_id);
        let but = self.failed.iter().map(|id| (*id, failed("script_failed"))).collect();
        self.stage = Stage::Reporting(Outcomes { all: Outcome::Released, but });
    }

    fn ask(&mut self, env: &mut Environment, me: InstanceId, base: u64) -> Step {
        let bold = env.has(WorkerBug::PublishesWithoutPermission);
        if bold {
            self.stage = Stage::Starting;
        }
        let (id, token) = (self.offer.batch_id, self.token.clone().unwrap_or_default());
        let intent = Intent { base_revision: base, base_root_hash: String::new(), changed_paths_digest: String::new() };
        let reply = self.line.ask(env, Some(self.node), || Request::Intent(id, token, intent));
        match reply {
            None => return Step::On,
            Some(Ok(_)) => {
                self.stage = Stage::Starting;
                return Step::On;
            }
            Some(Err(_)) if bold => return Step::On,
            Some(Err(CallError::Network)) if !self.gives_up(env) => return Step::On,
            Some(Err(CallError::Network)) => self.ends(batch_failed("server_unreachable")),
            Some(Err(CallError::Refused("claim_lost" | "settled"))) => {
                self.abort(env, me, id);
                return Step::Over;
            }
            Some(Err(CallError::Refused(_))) => self.ends(Outcome::Released),
        }
        self.abort(env, me, id);
        Step::On
    }

    /// The permission is there. Without an answer for two thirds of the expiry it is not used.
    fn start(&mut self, env: &mut Environment, me: InstanceId) -> Step {
        let id = self.offer.batch_id;
        let silent = env.now() - self.confirmed_at > EXPIRY * 2 / 3;
        if silent && !env.has(WorkerBug::PublishesThoughSilent) {
            self.abort(env, me, id);
            self.ends(batch_failed("server_silent"));
            return Step::On;
        }
        if env.has(WorkerBug::ReportsTwice) && env.chance(0.2) {
            let outcomes = Outcomes { all: batch_failed("takes_long"), but: Vec::new() };
            drop(env.call(Some(self.node), self.outcome(&outcomes)));
        }
        let published = self.jobs.iter().map(|job| job.spec.id).collect();
        match self.repository(env).begin_publish(me, id, published) {
            Ok(()) => {
                env.checker.begins(id);
                self.stage = Stage::Publishing;
            }
            Err(_) => self.look(env),
        }
        Step::On
    }

    fn publish(&mut self, env: &mut Environment, me: InstanceId) {
        let (id, repository) = (self.offer.batch_id, self.offer.repository.clone());
        match env.rng.random_range(0..20) {
            // It fails before anything is visible.
            0 if env.fault_rate > 0.0 => {
                self.abort(env, me, id);
                self.ends(batch_failed("publish_failed"));
            }
            // It happens, and says that it failed.
            1 if env.fault_rate > 0.0 => {
                drop(env.commit(&repository, me, id));
                if env.has(WorkerBug::TrustsExitCodes) {
                    self.ends(batch_failed("publish_failed"));
                } else if env.chance(0.3) {
                    self.ends(Outcome::Unknown { reason: "the publish hangs".into() });
                } else {
                    self.look(env);
                }
            }
            _ => match env.commit(&repository, me, id) {
                Some(revision) => self.ends(Outcome::Succeeded {
                    revision: revision.number,
                    root_hash: revision.root,
                    outputs: [("revision".to_owned(), revision.number.to_string())].into(),
                }),
                None => self.look(env),
            },
        }
        if let (Stage::Reporting(outcomes), false) = (&mut self.stage, self.failed.is_empty()) {
            outcomes.but = self.failed.iter().map(|id| (*id, failed("script_failed"))).collect();
        }
    }

    /// Our transaction is gone: what does the repository say?
    fn look(&mut self, env: &mut Environment) {
        let repository = self.repository(env);
        let outcome = match repository.look(&self.tag) {
            _ if repository.unreadable => Outcome::Unknown { reason: "no manifest".into() },
            Some(found) => Outcome::Succeeded {
                revision: found.number,
                root_hash: found.root.clone(),
                outputs: Default::default(),
            },
            None => batch_failed("transaction_gone"),
        };
        self.ends(outcome);
    }

    fn outcome(&self, outcomes: &Outcomes) -> Request {
        let of = |id| outcomes.but.iter().find(|(but, _)| *but == id).map_or(&outcomes.all, |(_, outcome)| outcome);
        let jobs = self.jobs.iter().map(|job| {
            let id = job.spec.id;
            JobOutcome { job_id: id, attempt: job.attempt, outcome: of(id).clone() }
        });
        let token = self.token.clone().unwrap_or_default();
        Request::Outcome(self.offer.batch_id, OutcomeRequest { token, jobs: jobs.collect(), signed: None })
    }

    fn report(&mut self, env: &mut Environment, outcomes: &Outcomes) -> Step {
        // A lost claim is settled by recovery, except where the publish was made: that is evidence, and welcome late.
        if self.stop == Some(Stop::Lost) && !matches!(outcomes.all, Outcome::Succeeded { .. }) {
            return Step::Over;
        }
        let request = self.outcome(outcomes);
        match self.line.ask(env, Some(self.node), || request) {
            None | Some(Err(CallError::Network)) => Step::On,
            Some(_) => Step::Over,
        }
    }
}

/// Of one job.
fn failed(code: &str) -> Outcome {
    Outcome::Failed { failure: Failure { code: code.into(), message: code.into() }, transient: true }
}

/// Of a batch; nobody knows through which of its jobs, or whether through any.
fn batch_failed(code: &str) -> Outcome {
    Outcome::BatchFailed { failure: Failure { code: code.into(), message: code.into() }, transient: true }
}
