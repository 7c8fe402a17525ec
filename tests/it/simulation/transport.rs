//! Requests on their way to the server, and what can happen to them there.

use std::time::Duration;

use conveyor::app::{AppError, Engine};
use conveyor::domain::batch::{Batch, BatchState, Intent};
use conveyor::domain::ids::{BatchId, InstanceId, JobId, SubmissionId};
use conveyor::domain::job::spec::JobSpec;
use conveyor::domain::names::RepositoryName;
use conveyor::domain::outcome::Outcome;
use conveyor::domain::protocol::{
    ClaimReply, ClaimRequest, FindingRequest, HeartbeatReply, HeartbeatRequest, IntentRequest, Offer, OutcomeRequest,
    ResolveRequest,
};
use conveyor::domain::repository::{HoldReply, HoldRequest};

use super::ledger::judge_claim;

/// The calls of the API that matter here.
#[derive(Clone)]
pub(super) enum Request {
    Submit {
        submission: SubmissionId,
        specs: Vec<JobSpec>,
    },
    Cancel(JobId),
    Retry {
        job: JobId,
        with_dependents: bool,
    },
    Offers {
        fleet: String,
        node: String,
        instance: InstanceId,
        max: usize,
    },
    /// The server's own note that offers went out.
    Sent(Vec<(BatchId, u32)>),
    Claim(BatchId, ClaimRequest),
    Heartbeat(HeartbeatRequest),
    Intent(BatchId, String, Intent),
    Outcome(BatchId, OutcomeRequest),
    Finding(BatchId, FindingRequest),
    /// A person settles a job that needs one.
    Resolve(JobId, ResolveRequest),
    /// A person wants a repository for itself.
    Hold(RepositoryName, HoldRequest),
}

#[derive(Clone)]
pub(super) enum Reply {
    Done,
    Offers(Vec<Offer>),
    Claim(Box<ClaimReply>),
    Heartbeat(HeartbeatReply),
    Hold(Box<HoldReply>),
}

/// Why a caller has no reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CallError {
    /// It cannot know whether the server did it.
    Network,
    /// The server said no, with this code.
    Refused(&'static str),
}

/// What a caller gets, and when.
pub(super) enum Called {
    Now(Result<Reply, CallError>),
    Later(Duration, Result<Reply, CallError>),
}

/// What happens to one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    DropRequest,
    DropReply,
    /// It arrives now and once more later.
    Duplicate,
    /// The caller gives up; the request arrives later.
    DelayRequest,
    DelayReply,
    /// While the server works on it, it does something else too.
    Overlap,
    /// The caller's connection breaks while the server works on it.
    Abandon,
    CrashBefore,
    CrashInside,
    CrashAfter,
}

impl Fault {
    pub(super) const ALL: [Self; 10] = [
        Self::DropRequest,
        Self::DropReply,
        Self::Duplicate,
        Self::DelayRequest,
        Self::DelayReply,
        Self::Overlap,
        Self::Abandon,
        Self::CrashBefore,
        Self::CrashInside,
        Self::CrashAfter,
    ];
}

impl Request {
    /// The batch whose row says whether the answer is right.
    pub(super) fn judged_batch(&self) -> Option<BatchId> {
        match self {
            Self::Claim(id, _) | Self::Outcome(id, _) | Self::Finding(id, _) => Some(*id),
            _ => None,
        }
    }

    /// Whether the answer keeps the rules, given the batch's row before.
    pub(super) fn judge(&self, before: &Batch, result: &Result<Reply, CallError>) -> Result<(), String> {
        let refused = match result {
            Err(CallError::Refused(code)) => Some(*code),
            _ => None,
        };
        match self {
            Self::Claim(_, claim) => {
                let granted = match result {
                    Ok(Reply::Claim(reply)) => Some(reply.token.as_str()),
                    _ => None,
                };
                judge_claim(before, claim.generation, claim.instance, granted, refused)
            }
            Self::Outcome(id, outcome) => {
                let has_succeeded = outcome.jobs.iter().any(|job| matches!(job.outcome, Outcome::Succeeded { .. }));
                let is_evidence = match &before.state {
                    BatchState::Publishing { claim, .. } | BatchState::Recovering { claim, intent: Some(_), .. } => {
                        claim.token == outcome.token
                    }
                    _ => false,
                };
                match refused {
                    Some(code) if is_evidence && has_succeeded => {
                        Err(format!("the outcome of the publish of {id}, which was permitted, was refused: {code}"))
                    }
                    _ => Ok(()),
                }
            }
            Self::Finding(id, found) => match &before.state {
                BatchState::Recovering { node, .. } if *node != found.node && result.is_ok() => {
                    Err(format!("node {} was believed about {id}, which was lost on {node}", found.node))
                }
                _ => Ok(()),
            },
            _ => Ok(()),
        }
    }
}

/// Tells whether an outcome says that it is not known.
pub(super) fn is_unknown(request: &OutcomeRequest) -> bool {
    request.jobs.iter().any(|job| matches!(job.outcome, Outcome::Unknown { .. }))
}

/// Does on the server what a request asks for.
pub(super) async fn execute(engine: &Engine, request: Request) -> Result<Reply, AppError> {
    match request {
        Request::Submit { submission, specs } => engine.submit(Some(submission), specs).await.map(|_| Reply::Done),
        Request::Cancel(id) => engine.cancel(id).await.map(|_| Reply::Done),
        Request::Retry { job, with_dependents } => engine.retry(job, with_dependents).await.map(|_| Reply::Done),
        Request::Offers { fleet, node, instance, max } => {
            engine.take_offers(&fleet, &node, instance, max).await.map(Reply::Offers)
        }
        Request::Sent(offers) => engine.offers_sent(offers).await.map(|()| Reply::Done),
        Request::Claim(id, request) => engine.claim(id, request).await.map(|reply| Reply::Claim(Box::new(reply))),
        Request::Heartbeat(request) => engine.heartbeat(request).await.map(Reply::Heartbeat),
        Request::Intent(id, token, intent) => {
            engine.intent(id, IntentRequest { token, intent }).await.map(|()| Reply::Done)
        }
        Request::Outcome(id, request) => engine.outcome(id, request).await.map(|()| Reply::Done),
        Request::Finding(id, request) => engine.finding(id, request).await.map(|()| Reply::Done),
        Request::Hold(name, request) => {
            engine.hold(name, request, "operator").await.map(|reply| Reply::Hold(Box::new(reply)))
        }
        Request::Resolve(id, request) => engine.resolve(id, request).await.map(|_| Reply::Done),
    }
}

impl std::fmt::Display for Request {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Submit { specs, .. } => write!(f, "submit {:?}", specs.iter().map(|s| &s.name).collect::<Vec<_>>()),
            Self::Cancel(id) => write!(f, "cancel {id}"),
            Self::Retry { job, with_dependents } => write!(f, "retry {job} {with_dependents}"),
            Self::Offers { node, instance, max, .. } => write!(f, "offers {node} {instance} {max}"),
            Self::Sent(offers) => write!(f, "sent {offers:?}"),
            Self::Claim(id, claim) => write!(f, "claim {id} gen {} by {}", claim.generation, claim.instance),
            Self::Heartbeat(beat) => write!(f, "heartbeat {} {} {:?}", beat.node, beat.instance, beat.claims),
            Self::Intent(id, _, intent) => write!(f, "intent {id} base {}", intent.base_revision),
            Self::Outcome(id, request) => {
                write!(f, "outcome {id} {:?}", request.jobs.iter().map(|job| &job.outcome).collect::<Vec<_>>())
            }
            Self::Finding(id, request) => write!(f, "finding {id} by {} {:?}", request.node, request.finding),
            Self::Hold(name, request) => write!(f, "hold {name} for {} s", request.lease_s),
            Self::Resolve(id, request) => write!(f, "resolve {id} {:?}", request.verdict),
        }
    }
}

impl std::fmt::Display for Reply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Done => f.write_str("done"),
            Self::Offers(offers) => write!(f, "{:?}", offers.iter().map(|o| o.batch_id.0).collect::<Vec<_>>()),
            Self::Claim(claim) => write!(f, "claimed {}", claim.key),
            Self::Hold(hold) => write!(f, "held, exclusive: {}", hold.exclusive),
            Self::Heartbeat(reply) => {
                let recover: Vec<_> = reply.recover.iter().map(|r| r.batch_id.0).collect();
                write!(f, "cancel {:?} lost {:?} recover {recover:?}", reply.cancel, reply.lost)
            }
        }
    }
}
