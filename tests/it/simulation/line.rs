//! One caller's conversation with the server: one question at a time, the reply maybe much later.

use std::time::Duration;

use super::environment::Environment;
use super::transport::{CallError, Called, Reply, Request};

#[derive(Default)]
pub(super) struct Line {
    pending: Option<(Duration, Result<Reply, CallError>)>,
    /// When the question was asked.
    pub(super) asked_at: Duration,
}

impl Line {
    /// Asks, or hears the reply to what was asked before; `None` while that is on its way.
    pub(super) fn ask(
        &mut self,
        env: &mut Environment,
        from: Option<&str>,
        request: impl FnOnce() -> Request,
    ) -> Option<Result<Reply, CallError>> {
        if let Some((at, _)) = &self.pending {
            return if *at <= env.now() { self.pending.take().map(|(_, reply)| reply) } else { None };
        }
        self.asked_at = env.now();
        match env.call(from, request()) {
            Called::Now(reply) => Some(reply),
            Called::Later(at, reply) => {
                self.pending = Some((at, reply));
                None
            }
        }
    }
}
