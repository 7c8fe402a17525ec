//! What happens to repositories, to the broker and to machines.

use std::time::Duration;

use conveyor::domain::ids::{BatchId, InstanceId};
use conveyor::domain::names::RepositoryName;
use rand::RngExt;

use super::environment::{Environment, NODES};
use super::repository::Revision;

impl Environment {
    /// A publish that was started ends; the checker judges it.
    pub(super) fn commit(&mut self, name: &RepositoryName, owner: InstanceId, batch: BatchId) -> Option<Revision> {
        let committed = self.repositories.get_mut(name)?.commit(owner, batch).ok();
        self.note(|| format!("publish of {batch} by {owner}: {committed:?}"));
        if let Some(revision) = &committed {
            self.checker.published(name, batch, revision);
        }
        committed
    }

    /// Something happens to a repository from outside.
    pub(super) fn disturb_repository(&mut self) {
        let names: Vec<RepositoryName> = self.repositories.keys().cloned().collect();
        let name = &names[self.rng.random_range(0..names.len())];
        let dice = self.rng.random_range(0..4);
        let Some(repository) = self.repositories.get_mut(name) else { return };
        // A publish outlives its worker.
        let orphan = repository.open.iter().find(|open| open.publishing && !self.alive.contains(&open.owner));
        match (dice, orphan.map(|open| (open.owner, open.batch))) {
            (0, _) => repository.unreadable = !repository.unreadable,
            (1, _) if repository.open.is_empty() => repository.human = true,
            (2, _) => repository.human = false,
            (3, Some((owner, batch))) => drop(self.commit(name, owner, batch)),
            _ => return,
        }
        self.note(|| format!("repository {name}: disturbed ({dice})"));
    }

    /// Something happens to the broker.
    pub(super) fn disturb_broker(&mut self) {
        let dice = self.rng.random_range(0..1000);
        match dice % 6 {
            0 => self.broker.set_down(true),
            1 | 2 => self.broker.set_down(false),
            3 | 4 => self.broker.cut_one(dice),
            _ => self.broker.lose_queue(dice),
        }
        self.note(|| format!("the broker is disturbed ({})", dice % 6));
    }

    /// A node and the server do not reach each other for some time.
    pub(super) fn partition(&mut self) {
        let (node, _) = NODES[self.rng.random_range(0..NODES.len())];
        let until = self.now() + Duration::from_millis(self.rng.random_range(0..20_000));
        self.note(|| format!("{node} does not reach the server until {until:?}"));
        self.partitioned.insert(node, until);
    }

    /// The server's process stands still for some time, and goes on as if nothing had been.
    pub(super) fn freeze_server(&mut self) {
        self.frozen_until = self.now() + Duration::from_millis(self.rng.random_range(0..15_000));
        let until = self.frozen_until;
        self.note(|| format!("the server stands still until {until:?}"));
    }
}
