//! What happens to repositories.

use conveyor::domain::ids::{BatchId, InstanceId};
use conveyor::domain::names::RepositoryName;
use rand::RngExt;

use super::environment::Environment;
use super::repository::{Holder, Revision};

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
        match (dice, &repository.holder) {
            (0, _) => repository.unreadable = !repository.unreadable,
            (1, Holder::Nobody) => repository.holder = Holder::Human,
            (2, Holder::Human) => repository.holder = Holder::Nobody,
            // A publish outlives its worker.
            (3, Holder::Ours(open)) if open.publishing && !self.alive.contains(&open.owner) => {
                let (owner, batch) = (open.owner, open.batch);
                drop(self.commit(name, owner, batch));
            }
            _ => return,
        }
        self.note(|| format!("repository {name}: disturbed ({dice})"));
    }
}
