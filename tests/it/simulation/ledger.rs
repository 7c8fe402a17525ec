//! Who showed when that it lives: what a claim's expiry is judged by, kept beside the server's own account.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use conveyor::domain::batch::{Batch, BatchState};
use conveyor::domain::ids::{BatchId, InstanceId};

use super::environment::EXPIRY;

/// A claim, as it is seen from outside.
#[derive(Debug, Clone)]
struct Kept {
    instance: InstanceId,
    node: String,
    /// When the server was last shown, for sure, that its worker lives; `None` where that is not known.
    confirmed: Option<Duration>,
    /// When it may have been shown last.
    touched: Duration,
    /// Its worker said that it does not know what became of it.
    unknown: bool,
    /// Another life of its node may have been heard of since.
    rivalled: bool,
}

#[derive(Default)]
pub(super) struct Ledger {
    kept: BTreeMap<BatchId, Kept>,
    /// Claims that were lost by their time alone.
    expired: BTreeSet<BatchId>,
}

impl Ledger {
    /// Follows the live batches: claims appear, and go.
    pub(super) fn follow(&mut self, now: Duration, live: &[Batch]) {
        let claims = live.iter().filter_map(|batch| batch.state.claim().map(|claim| (batch.id, claim)));
        let claims: BTreeMap<_, _> = claims.collect();
        self.kept.retain(|batch, _| claims.contains_key(batch));
        for (batch, claim) in claims {
            let (instance, node) = (claim.instance, claim.node.clone());
            let first = || Kept { instance, node, confirmed: None, touched: now, unknown: false, rivalled: false };
            self.kept.entry(batch).or_insert_with(first);
        }
    }

    /// A claim or a heartbeat reached the server; `sure`: it was answered while nothing else happened.
    pub(super) fn renewed(&mut self, now: Duration, batch: BatchId, instance: InstanceId, sure: bool) {
        if let Some(kept) = self.kept.get_mut(&batch).filter(|kept| kept.instance == instance) {
            kept.touched = now;
            if sure {
                kept.confirmed = Some(now);
            }
        }
    }

    /// The server may have heard of a life of a node; by that it takes the batches of the others.
    pub(super) fn heard(&mut self, node: &str, instance: InstanceId) {
        for kept in self.kept.values_mut().filter(|kept| kept.node == node && kept.instance != instance) {
            kept.rivalled = true;
        }
    }

    pub(super) fn unknown(&mut self, batch: BatchId) {
        if let Some(kept) = self.kept.get_mut(&batch) {
            kept.unknown = true;
        }
    }

    /// All claims begin anew: the server was away, or stood still.
    pub(super) fn begin_anew(&mut self, now: Duration) {
        for kept in self.kept.values_mut() {
            (kept.confirmed, kept.touched) = (Some(now), now);
        }
    }

    /// A claim was lost; the error says why it should not have been.
    pub(super) fn lost(&mut self, now: Duration, batch: BatchId) -> Result<(), String> {
        let Some(kept) = self.kept.get(&batch) else { return Ok(()) };
        if kept.rivalled || kept.unknown {
            return Ok(());
        }
        self.expired.insert(batch);
        match kept.confirmed {
            Some(confirmed) if now - confirmed < EXPIRY => Err(format!(
                "the claim on {batch} was lost {:?} after its worker showed that it lives",
                now - confirmed
            )),
            _ => Ok(()),
        }
    }

    /// Claims that live although their time has been over; to be asked right after a tick.
    pub(super) fn overdue(&self, now: Duration) -> Option<String> {
        let (batch, kept) = self.kept.iter().find(|(_, kept)| now > kept.touched + EXPIRY)?;
        Some(format!("the claim on {batch} lives {:?} after its worker's last sign of life", now - kept.touched))
    }

    pub(super) fn is_expired(&self, batch: BatchId) -> bool {
        self.expired.contains(&batch)
    }
}

/// What the rules say of a request, given the batch's row before it: the error names the broken one.
pub(super) fn judge_claim(
    before: &Batch,
    generation: u32,
    instance: InstanceId,
    granted: Option<&str>,
    refused: Option<&str>,
) -> Result<(), String> {
    let id = before.id;
    match (&before.state, granted, refused) {
        (_, Some(_), _) if generation != before.generation => {
            Err(format!("offer {generation} of {id} was granted, and {} counts", before.generation))
        }
        (BatchState::Claimed { claim }, Some(token), _) if claim.instance != instance || claim.token != token => {
            Err(format!("{id} was granted to {instance}, and {} has it", claim.instance))
        }
        (BatchState::Publishing { .. } | BatchState::Recovering { .. } | BatchState::Settled, Some(_), _) => {
            Err(format!("{id} was granted while it is {}", before.state.as_str()))
        }
        (BatchState::Claimed { claim }, None, Some(code))
            if claim.instance == instance && generation == before.generation =>
        {
            Err(format!("{id} was refused to the instance that has it: {code}"))
        }
        _ => Ok(()),
    }
}
