//! One batch in a worker's hands: claim, open, stage, ask, publish, report.

use conveyor::domain::batch::Intent;
use conveyor::domain::ids::{BatchId, InstanceId};
use conveyor::domain::job::event::Failure;
use conveyor::domain::outcome::{JobOutcome, Outcome};
use conveyor::domain::protocol::{ClaimRequest, ClaimedJob, Offer, OutcomeRequest};
use rand::RngExt;

use super::bugs::Bug;
use super::environment::Environment;
use super::line::Line;
use super::repository::{Open, Repository};
use super::transport::{CallError, Reply, Request};

/// Why a task must end early.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stop {
    Cancelled,
    Lost,
}

#[derive(Debug, Clone, PartialEq)]
enum Stage {
    Claiming,
    Opening,
    Staging,
    Asking { base: u64 },
    Starting,
    Publishing,
    Reporting(Outcome),
}

pub(super) struct Task {
    offer: Offer,
    /// Proves the claim, once there is one.
    pub(super) token: Option<String>,
    pub(super) stop: Option<Stop>,
    jobs: Vec<ClaimedJob>,
    tag: String,
    stage: Stage,
    line: Line,
}

impl Task {
    pub(super) fn new(offer: Offer) -> Self {
        let tag = offer.batch_id.key();
        let (stage, line) = (Stage::Claiming, Line::default());
        Self { offer, token: None, stop: None, jobs: Vec::new(), tag, stage, line }
    }

    /// Drops its transaction.
    pub(super) fn abort(&self, env: &mut Environment, instance: InstanceId, id: BatchId) {
        self.repository(env).abort(instance, id);
    }

    fn repository<'a>(&self, env: &'a mut Environment) -> &'a mut Repository {
        env.repositories.get_mut(&self.offer.repository).unwrap()
    }

    /// One step; `true` when there is nothing left to do. `silent`: the server has not answered for too long.
    pub(super) fn step(&mut self, env: &mut Environment, node: &str, me: InstanceId, silent: bool) -> bool {
        let id = self.offer.batch_id;
        let stopped = self.stop.filter(|_| !matches!(self.stage, Stage::Claiming | Stage::Reporting(_)));
        match stopped {
            Some(Stop::Lost) => {
                self.abort(env, me, id);
                return true;
            }
            Some(Stop::Cancelled) if !matches!(self.stage, Stage::Starting | Stage::Publishing) => {
                self.abort(env, me, id);
                self.stage = Stage::Reporting(Outcome::Released);
                return false;
            }
            _ => {}
        }
        match self.stage.clone() {
            Stage::Claiming => return self.claim(env, node, me),
            Stage::Opening => self.open(env, me),
            Stage::Staging => self.stage(env, me),
            Stage::Asking { base } => return self.ask(env, me, base),
            Stage::Starting if silent => {
                self.abort(env, me, id);
                self.stage = Stage::Reporting(Outcome::Released);
            }
            Stage::Starting => {
                if env.bug == Some(Bug::ReportsTwice) && env.chance(0.2) {
                    drop(env.call(self.outcome(failed("takes_long"))));
                }
                self.stage = match self.repository(env).begin_publish(me, id) {
                    Ok(()) => Stage::Publishing,
                    Err(_) => Stage::Reporting(self.look(env)),
                };
            }
            Stage::Publishing => self.publish(env, me),
            Stage::Reporting(outcome) => return self.report(env, outcome),
        }
        false
    }

    fn claim(&mut self, env: &mut Environment, node: &str, me: InstanceId) -> bool {
        let (id, generation) = (self.offer.batch_id, self.offer.generation);
        let request = || Request::Claim(id, ClaimRequest { generation, node: node.into(), instance: me });
        match self.line.ask(env, request) {
            None => false,
            Some(Ok(Reply::Claim(claim))) => {
                self.token = Some(claim.token);
                self.jobs = claim.jobs;
                if env.bug == Some(Bug::NewTagEachTry) {
                    self.tag = format!("{}-{me}", claim.key);
                }
                self.stage = Stage::Opening;
                false
            }
            Some(Err(CallError::Network)) => self.gives_up(env),
            Some(_) => true,
        }
    }

    /// After a call without a reply: was it the last try?
    fn gives_up(&self, env: &mut Environment) -> bool {
        env.chance(0.25)
    }

    fn open(&mut self, env: &mut Environment, me: InstanceId) {
        let jobs = self.jobs.iter().map(|job| job.spec.id).collect();
        let open = Open { batch: self.offer.batch_id, owner: me, tag: self.tag.clone(), jobs, publishing: false };
        let alive = env.alive.clone();
        self.repository(env).drop_leftovers(&alive);
        self.stage = match self.repository(env).open(open) {
            Ok(()) => Stage::Staging,
            Err(holder) => Stage::Reporting(Outcome::Busy { holder }),
        };
    }

    fn stage(&mut self, env: &mut Environment, me: InstanceId) {
        let fails = |job: &ClaimedJob| job.spec.name.contains("failing");
        let flaky = self.jobs.iter().any(|job| job.spec.name.contains("flaky")) && env.chance(0.3);
        if flaky || self.jobs.iter().any(fails) {
            self.abort(env, me, self.offer.batch_id);
            self.stage = Stage::Reporting(failed("script_failed"));
        } else {
            let base = self.repository(env).head();
            self.stage = Stage::Asking { base };
        }
    }

    fn ask(&mut self, env: &mut Environment, me: InstanceId, base: u64) -> bool {
        if env.bug == Some(Bug::PublishesWithoutPermission) {
            self.stage = Stage::Starting;
        }
        let (id, token) = (self.offer.batch_id, self.token.clone().unwrap_or_default());
        let intent = Intent { base_revision: base, base_root_hash: String::new(), changed_paths_digest: String::new() };
        let Some(reply) = self.line.ask(env, || Request::Intent(id, token, intent)) else { return false };
        match reply {
            Ok(_) => {
                self.stage = Stage::Starting;
                return false;
            }
            Err(_) if env.bug == Some(Bug::PublishesWithoutPermission) => return false,
            Err(CallError::Network) if !self.gives_up(env) => return false,
            Err(CallError::Network | CallError::Refused("cancel_requested")) => {
                self.stage = Stage::Reporting(Outcome::Released);
            }
            Err(CallError::Refused(_)) => {}
        }
        self.abort(env, me, id);
        !matches!(self.stage, Stage::Reporting(_))
    }

    fn publish(&mut self, env: &mut Environment, me: InstanceId) {
        let (id, repository) = (self.offer.batch_id, self.offer.repository.clone());
        let outcome = match env.rng.random_range(0..20) {
            // It fails before anything is visible.
            0 if env.fault_rate > 0.0 => {
                self.abort(env, me, id);
                failed("publish_failed")
            }
            // It happens, and says that it failed.
            1 if env.fault_rate > 0.0 => {
                drop(env.commit(&repository, me, id));
                if env.bug == Some(Bug::TrustsExitCodes) {
                    failed("publish_failed")
                } else if env.chance(0.3) {
                    Outcome::Unknown { reason: "the publish hangs".into() }
                } else {
                    self.look(env)
                }
            }
            _ => match env.commit(&repository, me, id) {
                Some(revision) => Outcome::Succeeded {
                    revision: revision.number,
                    root_hash: revision.root,
                    outputs: [("revision".to_owned(), revision.number.to_string())].into(),
                },
                None => self.look(env),
            },
        };
        self.stage = Stage::Reporting(outcome);
    }

    /// Our transaction is gone: what does the repository say?
    fn look(&self, env: &mut Environment) -> Outcome {
        let repository = self.repository(env);
        match repository.look(&self.tag) {
            _ if repository.unreadable => Outcome::Unknown { reason: "no manifest".into() },
            Some(found) => Outcome::Succeeded {
                revision: found.number,
                root_hash: found.root.clone(),
                outputs: Default::default(),
            },
            None => failed("transaction_gone"),
        }
    }

    fn outcome(&self, outcome: Outcome) -> Request {
        let jobs = self.offer.jobs.iter().map(|job| JobOutcome {
            job_id: job.job_id,
            attempt: job.attempt,
            outcome: outcome.clone(),
        });
        let token = self.token.clone().unwrap_or_default();
        Request::Outcome(self.offer.batch_id, OutcomeRequest { token, jobs: jobs.collect() })
    }

    fn report(&mut self, env: &mut Environment, outcome: Outcome) -> bool {
        let request = self.outcome(outcome);
        !matches!(self.line.ask(env, || request), None | Some(Err(CallError::Network)))
    }
}

fn failed(code: &str) -> Outcome {
    Outcome::Failed { failure: Failure { code: code.into(), message: code.into() }, transient: true }
}
