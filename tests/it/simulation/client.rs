//! People and programs that submit, cancel and retry; they repeat what was not answered.

use conveyor::app::clock::Clock;
use conveyor::domain::ids::{JobId, SubmissionId};
use conveyor::domain::job::spec::{Condition, Dependency, JobSpec, Payload, Publish, Work};
use rand::{Rng, RngExt};
use rand_chacha::ChaCha8Rng;

use super::clock::uuid_v7;
use super::environment::{Environment, REPOSITORIES};
use super::line::Line;
use super::transport::{CallError, Called, Request};

pub(super) struct Client {
    /// What is to be submitted, in this order; the first is being submitted.
    pub(super) plan: Vec<(SubmissionId, Vec<JobSpec>)>,
    submitted: Vec<(SubmissionId, Vec<JobSpec>)>,
    line: Line,
}

impl Client {
    /// Plans 8 to 14 jobs in some submissions, with dependencies on earlier ones.
    pub(super) fn new(env: &mut Environment) -> Self {
        let now = env.clock.now();
        let rng = &mut env.rng;
        let count = rng.random_range(8..15);
        let mut specs: Vec<JobSpec> = Vec::with_capacity(count);
        for i in 0..count {
            let id = JobId(uuid_v7(rng, now));
            let spec = job(rng, id, i, &specs);
            specs.push(spec);
        }
        specs.iter().for_each(|spec| env.checker.expect(spec));
        let mut plan = Vec::new();
        while !specs.is_empty() {
            let rest = specs.split_off(env.rng.random_range(1..=specs.len().min(6)));
            let submission = SubmissionId(uuid_v7(&mut env.rng, now));
            plan.push((submission, std::mem::replace(&mut specs, rest)));
        }
        Self { plan, submitted: Vec::new(), line: Line::default() }
    }

    /// Goes on with the submission at hand.
    pub(super) fn submit(&mut self, env: &mut Environment) {
        let Some((submission, specs)) = self.plan.first().cloned() else { return };
        let reply = self.line.ask(env, || Request::Submit { submission, specs: specs.clone() });
        match reply {
            None | Some(Err(CallError::Network)) => {}
            Some(Ok(_)) => {
                env.checker.accepted.extend(specs.iter().map(|spec| spec.id));
                self.submitted.push(self.plan.remove(0));
            }
            Some(Err(CallError::Refused(code))) => env.checker.fail(format!("a submission was refused: {code}")),
        }
    }

    /// Does what people do: cancel, try again, submit what was submitted already.
    pub(super) fn interfere(&mut self, env: &mut Environment) {
        let Some(job) = pick(&mut env.rng, &env.checker.accepted.iter().copied().collect::<Vec<_>>()) else { return };
        let request = match env.rng.random_range(0..5) {
            0 | 1 => Request::Cancel(job),
            2 | 3 => Request::Retry { job, with_dependents: env.rng.random() },
            _ => {
                let Some((submission, specs)) = pick(&mut env.rng, &self.submitted) else { return };
                Request::Submit { submission, specs }
            }
        };
        let is_submit = matches!(request, Request::Submit { .. });
        if let Called::Now(Err(CallError::Refused(code))) = env.call(request)
            && is_submit
        {
            env.checker.fail(format!("the same submission again was refused: {code}"));
        }
    }
}

fn pick<T: Clone>(rng: &mut impl Rng, from: &[T]) -> Option<T> {
    (!from.is_empty()).then(|| from[rng.random_range(0..from.len())].clone())
}

fn job(rng: &mut ChaCha8Rng, id: JobId, number: usize, earlier: &[JobSpec]) -> JobSpec {
    let kind = ["", "", "", "", "flaky", "failing"][rng.random_range(0..6)];
    let (repository, _) = REPOSITORIES[rng.random_range(0..REPOSITORIES.len())];
    let mut dependencies: Vec<Dependency> = Vec::new();
    for _ in 0..rng.random_range(0..3) {
        if let Some(before) = pick(rng, earlier)
            && dependencies.iter().all(|known| known.job_id != before.id)
        {
            let condition = match rng.random_range(0..8) {
                0 => Condition::Always,
                1 => Condition::Failure,
                _ => Condition::Success,
            };
            dependencies.push(Dependency { job_id: before.id, condition });
        }
    }
    JobSpec {
        id,
        name: format!("job {number} {kind}"),
        work: Work::Publish(Publish {
            repository: repository.parse().unwrap(),
            lease_path: "/".parse().unwrap(),
            payload: Payload::Empty,
        }),
        dependencies,
        priority: rng.random_range(-1..2),
        attempts: rng.random_range(1..5),
        timeout_s: 60,
        alone: false,
        deadline: None,
        labels: Default::default(),
        submitter: String::new(),
    }
}
