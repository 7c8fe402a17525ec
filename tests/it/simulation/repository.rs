//! A model of a CernVM-FS repository: a chain of tagged revisions and one exclusive transaction.
//!
//! Its content is a list to which every publish appends: a payload that runs twice shows.

use std::collections::BTreeSet;

use conveyor::domain::ids::{BatchId, InstanceId, JobId};

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
    pub(super) tag: String,
    pub(super) jobs: Vec<JobId>,
    /// The publish was started: from here on it can end without its worker.
    pub(super) publishing: bool,
}

/// Who has the transaction.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) enum Holder {
    #[default]
    Nobody,
    /// A person, by hand.
    Human,
    Ours(Open),
}

/// The transaction is not what the caller believes: somebody fenced it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Gone;

#[derive(Debug, Default)]
pub(super) struct Repository {
    pub(super) chain: Vec<Revision>,
    pub(super) holder: Holder,
    /// Manifest and history cannot be read at the moment.
    pub(super) unreadable: bool,
}

impl Repository {
    pub(super) fn head(&self) -> u64 {
        self.chain.len() as u64
    }

    /// Opens the transaction; says who holds it otherwise.
    pub(super) fn open(&mut self, open: Open) -> Result<(), String> {
        match &self.holder {
            Holder::Nobody if self.look(&open.tag).is_some() => Err(format!("tag {} is in use", open.tag)),
            Holder::Nobody => {
                self.holder = Holder::Ours(open);
                Ok(())
            }
            Holder::Human => Err("a person".into()),
            Holder::Ours(other) => Err(format!("a transaction of {}", other.batch)),
        }
    }

    /// Starts the publish of one's own transaction.
    pub(super) fn begin_publish(&mut self, owner: InstanceId, batch: BatchId) -> Result<(), Gone> {
        match &mut self.holder {
            Holder::Ours(open) if open.owner == owner && open.batch == batch => {
                open.publishing = true;
                Ok(())
            }
            _ => Err(Gone),
        }
    }

    /// Ends a publish that was started; a second commit with a used tag is refused.
    pub(super) fn commit(&mut self, owner: InstanceId, batch: BatchId) -> Result<Revision, Gone> {
        match &self.holder {
            Holder::Ours(open) if open.publishing && open.owner == owner && open.batch == batch => {
                let open = open.clone();
                self.holder = Holder::Nobody;
                if self.look(&open.tag).is_some() {
                    return Err(Gone);
                }
                let number = self.head() + 1;
                let root = format!("{:08x}", number.wrapping_mul(0x9e37_79b9) ^ u64::from(open.batch.0.as_fields().0));
                let revision = Revision { number, root, tag: open.tag, jobs: open.jobs };
                self.chain.push(revision.clone());
                Ok(revision)
            }
            _ => Err(Gone),
        }
    }

    /// Drops one's own transaction.
    pub(super) fn abort(&mut self, owner: InstanceId, batch: BatchId) {
        if matches!(&self.holder, Holder::Ours(open) if open.owner == owner && open.batch == batch) {
            self.holder = Holder::Nobody;
        }
    }

    /// Drops what a process that is dead left open and had not begun to publish, as the node's journal says.
    ///
    /// To be done before every transaction, not only at the start: an older process of the node may die later, and may
    /// have opened its transaction after its batch was settled.
    pub(super) fn drop_leftovers(&mut self, alive: &BTreeSet<InstanceId>) {
        if matches!(&self.holder, Holder::Ours(open) if !open.publishing && !alive.contains(&open.owner)) {
            self.holder = Holder::Nobody;
        }
    }

    /// Ends whatever a batch has here, also a publish that runs: afterwards it can publish no more.
    pub(super) fn fence(&mut self, batch: BatchId) {
        if matches!(&self.holder, Holder::Ours(open) if open.batch == batch) {
            self.holder = Holder::Nobody;
        }
    }

    /// The revision of a tag.
    pub(super) fn look(&self, tag: &str) -> Option<&Revision> {
        self.chain.iter().find(|revision| revision.tag == tag)
    }
}
