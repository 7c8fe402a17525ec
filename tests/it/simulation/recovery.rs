//! Settles a lost batch: fence, then look, then say what was found.

use conveyor::domain::outcome::Finding;
use conveyor::domain::protocol::{FindingRequest, RecoverRequest};

use super::bugs::WorkerBug;
use super::environment::Environment;
use super::line::Line;
use super::transport::{CallError, Request};

enum Stage {
    Fencing,
    Looking,
    Reporting(Finding),
}

pub(super) struct Recovery {
    wanted: RecoverRequest,
    stage: Stage,
    line: Line,
}

impl Recovery {
    pub(super) fn new(wanted: RecoverRequest) -> Self {
        Self { wanted, stage: Stage::Fencing, line: Line::default() }
    }

    /// One step; `true` when it is done.
    pub(super) fn step(&mut self, env: &mut Environment, node: &str) -> bool {
        let id = self.wanted.batch_id;
        let (no_fence, blind) = (env.has(WorkerBug::LooksWithoutFence), env.has(WorkerBug::FindsWithoutLooking));
        let repository = env.repositories.get_mut(&self.wanted.repository).unwrap();
        match &self.stage {
            Stage::Fencing => {
                if !no_fence {
                    repository.fence(id);
                }
                self.stage = Stage::Looking;
            }
            Stage::Looking => {
                let finding = match repository.look(&self.wanted.key) {
                    _ if blind => Finding::NotPublished,
                    _ if repository.unreadable => Finding::Unreadable { reason: "no manifest".into() },
                    Some(found) => Finding::Published { revision: found.number, root_hash: found.root.clone() },
                    None => Finding::NotPublished,
                };
                self.stage = Stage::Reporting(finding);
            }
            Stage::Reporting(finding) => {
                let request = || {
                    Request::Finding(id, FindingRequest { node: node.into(), finding: finding.clone(), signed: None })
                };
                return match self.line.ask(env, Some(node), request) {
                    None | Some(Err(CallError::Network)) => false,
                    Some(_) => true,
                };
            }
        }
        false
    }
}
