//! People and programs that submit, cancel and retry; they repeat what was not answered.

use std::time::Duration;

use conveyor::app::clock::Clock;
use conveyor::domain::ids::{BatchId, HoldId, JobId, SubmissionId};
use conveyor::domain::job::event::Verdict;
use conveyor::domain::job::spec::{Condition, Dependency, JobSpec, Payload, Publish, Work};
use conveyor::domain::job::state::JobState;
use conveyor::domain::outcome::Finding;
use conveyor::domain::protocol::{FindingRequest, ResolveRequest};
use conveyor::domain::repository::HoldRequest;
use jiff::{SignedDuration, Timestamp};
use rand::{Rng, RngExt};
use rand_chacha::ChaCha8Rng;

use super::clock::uuid_v7;
use super::environment::{Environment, NODES, repository_names};
use super::line::Line;
use super::replicas::{REPLICAS, replica_url};
use super::transport::{CallError, Called, Reply, Request};

/// Some of which exclude each other only as the gateway compares them.
const LEASE_PATHS: [&str; 10] = ["/", "/a", "/A/x", "/ab", "/rel-1", "/rel-10", "/rel_1/y", "/b", "/c/d", "/c/e"];

/// How the server refuses a job whose deadline is over.
pub(super) const DEADLINE_PASSED: &str = "deadline_passed";

pub(super) struct Client {
    /// What is to be submitted, in this order; the first is being submitted.
    pub(super) plan: Vec<(SubmissionId, Vec<JobSpec>)>,
    submitted: Vec<(SubmissionId, Vec<JobSpec>)>,
    line: Line,
}

impl Client {
    /// Plans 20 to 28 jobs in some submissions, with dependencies on earlier ones.
    pub(super) fn new(env: &mut Environment) -> Self {
        let now = env.clock.now();
        let rng = &mut env.rng;
        let count = rng.random_range(20..29);
        let mut specs: Vec<JobSpec> = Vec::with_capacity(count);
        for i in 0..count {
            let spec = job(rng, now, i, &specs);
            specs.push(spec);
        }
        specs.iter().for_each(|spec| env.checker.expect(spec));
        let mut plan = Vec::new();
        while !specs.is_empty() {
            let rest = specs.split_off(env.rng.random_range(1..=specs.len().min(8)));
            let submission = SubmissionId(uuid_v7(&mut env.rng, now));
            plan.push((submission, std::mem::replace(&mut specs, rest)));
        }
        Self { plan, submitted: Vec::new(), line: Line::default() }
    }

    /// Goes on with the submission at hand.
    pub(super) fn submit(&mut self, env: &mut Environment) {
        let Some((submission, specs)) = self.plan.first().cloned() else { return };
        let reply = self.line.ask(env, None, || Request::Submit { submission, specs: specs.clone() });
        match reply {
            None | Some(Err(CallError::Network)) => {}
            Some(Ok(_)) => {
                env.checker.accepted.extend(specs.iter().map(|spec| spec.id));
                self.submitted.push(self.plan.remove(0));
            }
            // It came too late, or the answer to it did: people see that, and give a later deadline or none.
            Some(Err(CallError::Refused(code))) if code == DEADLINE_PASSED => self.without_deadlines(env),
            Some(Err(CallError::Refused(code))) => env.checker.fail(format!("a submission was refused: {code}")),
        }
    }

    /// Takes the deadlines from the submission at hand.
    fn without_deadlines(&mut self, env: &mut Environment) {
        let Some((_, specs)) = self.plan.first_mut() else { return };
        for spec in specs {
            spec.deadline = None;
            env.checker.expect(spec);
        }
    }

    /// Does what people do: cancel, try again, submit what was submitted already, settle what nobody could find out. And a
    /// node talks of what is none of its business.
    pub(super) fn interfere(&mut self, env: &mut Environment) {
        let Some(job) = pick(&mut env.rng, &env.checker.accepted.iter().copied().collect::<Vec<_>>()) else { return };
        let request = match env.rng.random_range(0..11) {
            10 => return hold(env),
            0..3 => Request::Cancel(job),
            3..6 => Request::Retry { job, with_dependents: env.rng.random() },
            6 => match lost_batch(env, false) {
                Some((_, batch)) => {
                    let node = NODES[env.rng.random_range(0..NODES.len())].0.into();
                    let is_its = batch_node(env, batch).is_none_or(|of| of == node);
                    if is_its {
                        return;
                    }
                    Request::Finding(batch, FindingRequest { node, finding: Finding::NotPublished, signed: None })
                }
                None => return,
            },
            7 => match lost_batch(env, true) {
                Some((job, batch)) => match settle(env, job, batch) {
                    Some(request) => Request::Resolve(job, request),
                    None => return,
                },
                None => return,
            },
            _ => {
                let Some((submission, specs)) = pick(&mut env.rng, &self.submitted) else { return };
                Request::Submit { submission, specs }
            }
        };
        let is_submit = matches!(request, Request::Submit { .. });
        if let Called::Now(Err(CallError::Refused(code))) = env.call(None, request)
            && is_submit
        {
            env.checker.fail(format!("the same submission again was refused: {code}"));
        }
    }
}

/// Asks for a repository for oneself; where it is granted, the checker looks that it is so.
fn hold(env: &mut Environment) {
    let names: Vec<_> = repository_names().collect();
    let Some(name) = pick(&mut env.rng, &names) else { return };
    let id = HoldId(uuid_v7(&mut env.rng, env.clock.now()));
    let lease_s = env.rng.random_range(5..30);
    let request = HoldRequest { id, reason: String::new(), lease_s, renew: false };
    if let Called::Now(Ok(Reply::Hold(reply))) = env.call(None, Request::Hold(name.clone(), request))
        && reply.exclusive
    {
        let until = env.now() + Duration::from_secs(lease_s.into());
        env.observe();
        env.checker.held(name, until);
    }
}

/// A job whose batch is lost, or that needs a person, with that batch.
fn lost_batch(env: &mut Environment, needs_operator: bool) -> Option<(JobId, BatchId)> {
    let lost = env.checker.model.iter().filter_map(|(id, progress)| match &progress.state {
        JobState::NeedsOperator { batch, .. } => Some((*id, *batch)),
        JobState::Recovering { batch, .. } if !needs_operator => Some((*id, *batch)),
        _ => None,
    });
    let lost: Vec<_> = lost.collect();
    pick(&mut env.rng, &lost)
}

fn batch_node(env: &Environment, batch: BatchId) -> Option<String> {
    env.checker.model.values().find_map(|progress| match &progress.state {
        JobState::Recovering { batch: of, node, .. } | JobState::NeedsOperator { batch: of, node, .. } => {
            (*of == batch).then(|| node.clone())
        }
        _ => None,
    })
}

/// What a person does as `conveyor check` advises: end what is left of the worker, look, and say what is there.
fn settle(env: &mut Environment, job: JobId, batch: BatchId) -> Option<ResolveRequest> {
    let give_up = env.chance(0.2);
    let name = env.checker.specs.get(&job)?.publish().repository.clone();
    let repository = env.repositories.get_mut(&name)?;
    repository.fence(batch);
    let verdict = match repository.look(&batch.key()) {
        Some(found) => Verdict::Published { revision: found.number, root_hash: found.root.clone() },
        None if give_up => Verdict::GivenUp,
        None => Verdict::NotPublished,
    };
    Some(ResolveRequest { batch_id: Some(batch), verdict, by: "operator".into(), reason: String::new() })
}

fn pick<T: Clone>(rng: &mut impl Rng, from: &[T]) -> Option<T> {
    (!from.is_empty()).then(|| from[rng.random_range(0..from.len())].clone())
}

fn job(rng: &mut ChaCha8Rng, now: Timestamp, number: usize, earlier: &[JobSpec]) -> JobSpec {
    let id = JobId(uuid_v7(rng, now));
    let kind = match rng.random_range(0..10) {
        0 | 1 => "flaky",
        2 => "failing",
        3 => "needless",
        _ => "",
    };
    let repositories: Vec<_> = repository_names().collect();
    let repository = pick(rng, &repositories).unwrap();
    let lease_path = LEASE_PATHS[rng.random_range(0..LEASE_PATHS.len())].parse().unwrap();
    let mut dependencies: Vec<Dependency> = Vec::new();
    for _ in 0..[0, 0, 0, 1, 1, 2][rng.random_range(0..6)] {
        if let Some(before) = pick(rng, earlier)
            && dependencies.iter().all(|known| known.job_id != before.id)
        {
            let condition = match rng.random_range(0..9) {
                0 | 1 => Condition::Always,
                2 => Condition::Failure,
                _ => Condition::Success,
            };
            dependencies.push(Dependency { job_id: before.id, condition });
        }
    }
    let dry_run = rng.random_range(0..12) == 0;
    let replicas = if dry_run { 0 } else { [0, 0, 0, 0, 1, 2][rng.random_range(0..6)] };
    let visible_at = REPLICAS[..replicas].iter().map(|host| replica_url(host, &repository)).collect();
    let visible_within_s = (replicas > 0).then(|| rng.random_range(1..40));
    JobSpec {
        id,
        name: format!("job {number} {kind}"),
        work: Work::Publish(Publish { dry_run, ..Publish::new(repository, lease_path, Payload::Empty) }),
        dependencies,
        priority: rng.random_range(-1..2),
        attempts: rng.random_range(1..5),
        timeout_s: 60,
        alone: rng.random_range(0..8) == 0,
        deadline: (rng.random_range(0..5) == 0).then(|| now + SignedDuration::from_secs(rng.random_range(5..120))),
        visible_at,
        visible_within_s,
        labels: Default::default(),
        submitter: ["anna", "ben"][rng.random_range(0..2)].into(),
    }
}
