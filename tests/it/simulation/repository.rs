//! A model of a CernVM-FS repository: a chain of tagged revisions, and transactions that exclude each other.
//!
//! Without a gateway there is one transaction at a time. With one, transactions on lease paths that the gateway takes for
//! disjoint go on side by side. Its content is a list to which every publish appends: a payload that runs twice shows.

use std::collections::BTreeSet;

use conveyor::domain::ids::{BatchId, InstanceId, JobId};
use conveyor::domain::names::LeasePath;

/// One published state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Revision {
    pub(super) number: u64,
    pub(super) root: String,
    pub(super) tag: String,
    pub(super) jobs: Vec<JobId>,
}

/// A transaction that a worker opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Open {
    pub(super) batch: BatchId,
    pub(super) owner: InstanceId,
    pub(super) lease_path: LeasePath,
    pub(super) tag: String,
    pub(super) jobs: Vec<JobId>,
    /// The publish was started: from here on it can end without its worker.
    pub(super) publishing: bool,
}

/// The transaction is not what the caller believes: somebody fenced it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Gone;

#[derive(Debug, Default)]
pub(super) struct Repository {
    pub(super) chain: Vec<Revision>,
    pub(super) open: Vec<Open>,
    pub(super) gateway: bool,
    /// A person has it, by hand.
    pub(super) human: bool,
    /// Manifest and history cannot be read at the moment.
    pub(super) unreadable: bool,
}

/// Tells whether two leases exclude each other, as the gateway's database compares them: `LIKE` of one path with the other
/// as a prefix, for which case does not count and `_` and `%` stand for anything.
pub(super) fn exclude(a: &str, b: &str) -> bool {
    fn like(pattern: &[u8], text: &[u8]) -> bool {
        match (pattern.split_first(), text.split_first()) {
            (None, _) => true,
            (Some((b'%', rest)), _) => (0..=text.len()).any(|from| like(rest, &text[from..])),
            (Some((b'_', rest)), Some((_, text))) => like(rest, text),
            (Some((p, rest)), Some((t, text))) => p.eq_ignore_ascii_case(t) && like(rest, text),
            (Some(_), None) => false,
        }
    }
    let (a, b) = (a.trim_start_matches('/'), b.trim_start_matches('/'));
    like(a.as_bytes(), b.as_bytes()) || like(b.as_bytes(), a.as_bytes())
}

impl Repository {
    pub(super) fn head(&self) -> u64 {
        self.chain.len() as u64
    }

    /// Opens a transaction; says who stands in the way otherwise.
    pub(super) fn open(&mut self, open: Open) -> Result<(), String> {
        let excludes = |other: &&Open| !self.gateway || exclude(other.lease_path.as_str(), open.lease_path.as_str());
        if self.human {
            Err("a person".into())
        } else if self.look(&open.tag).is_some() {
            Err(format!("tag {} is in use", open.tag))
        } else if let Some(other) = self.open.iter().find(excludes) {
            Err(format!("a transaction of {}", other.batch))
        } else {
            self.open.push(open);
            Ok(())
        }
    }

    fn ours(&mut self, owner: InstanceId, batch: BatchId) -> Option<&mut Open> {
        self.open.iter_mut().find(|open| open.owner == owner && open.batch == batch)
    }

    /// Starts the publish of one's own transaction, which holds these jobs' work.
    pub(super) fn begin_publish(&mut self, owner: InstanceId, batch: BatchId, jobs: Vec<JobId>) -> Result<(), Gone> {
        let open = self.ours(owner, batch).ok_or(Gone)?;
        (open.publishing, open.jobs) = (true, jobs);
        Ok(())
    }

    /// Ends a publish that was started; a second commit with a used tag is refused.
    pub(super) fn commit(&mut self, owner: InstanceId, batch: BatchId) -> Result<Revision, Gone> {
        let is_it = |open: &Open| open.publishing && open.owner == owner && open.batch == batch;
        let open = self.open.remove(self.open.iter().position(is_it).ok_or(Gone)?);
        if self.look(&open.tag).is_some() {
            return Err(Gone);
        }
        let number = self.head() + 1;
        let root = format!("{:08x}", number.wrapping_mul(0x9e37_79b9) ^ u64::from(open.batch.0.as_fields().0));
        let revision = Revision { number, root, tag: open.tag, jobs: open.jobs };
        self.chain.push(revision.clone());
        Ok(revision)
    }

    /// Drops one's own transaction.
    pub(super) fn abort(&mut self, owner: InstanceId, batch: BatchId) {
        self.open.retain(|open| open.owner != owner || open.batch != batch);
    }

    /// Drops what processes that are dead left open and had not begun to publish, as the node's journal says.
    ///
    /// To be done before every transaction, not only at the start: an older process of the node may die later, and may
    /// have opened its transaction after its batch was settled.
    pub(super) fn drop_leftovers(&mut self, alive: &BTreeSet<InstanceId>) {
        self.open.retain(|open| open.publishing || alive.contains(&open.owner));
    }

    /// Ends whatever a batch has here, also a publish that runs: afterwards it can publish no more.
    pub(super) fn fence(&mut self, batch: BatchId) {
        self.open.retain(|open| open.batch != batch);
    }

    /// The revision of a tag.
    pub(super) fn look(&self, tag: &str) -> Option<&Revision> {
        self.chain.iter().find(|revision| revision.tag == tag)
    }
}
