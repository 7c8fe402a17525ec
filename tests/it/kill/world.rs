//! One server's disk, the jobs asked of it, and what was seen of its repositories so far.

use std::collections::BTreeMap;

use conveyor::client::Client;
use tokio::sync::{Semaphore, watch};

use super::chain::{self, Chain};
use super::home::{Home, REPOSITORIES};
use super::ledger::{self, Entry};
use super::life::Life;
use super::work::{Planned, states, submit_all};

/// A disk through many lives.
pub(super) struct World {
    pub(super) home: Home,
    pub(super) entries: Vec<Entry>,
    chains: BTreeMap<String, Chain>,
}

impl World {
    /// Repositories with `seeds` files each, published by a job that is in the ledger.
    pub(super) async fn seeded(seeds: usize) -> Self {
        let home = Home::new();
        let jobs: Vec<_> = REPOSITORIES.iter().map(|repository| Planned::seeds(repository, seeds)).collect();
        let mut life = Life::start(&home, None);
        let client = life.ready(&home).await.expect("it did not start");
        let (_sender, living) = watch::channel(Some(client.clone()));
        submit_all(&jobs, &living, &Semaphore::new(jobs.len()), &Default::default()).await;
        let entries: Vec<_> = jobs.into_iter().map(|job| job.entry).collect();
        let ended = states(&client, &entries).await;
        life.kill9().await;
        let mut world = Self { home, entries, chains: BTreeMap::new() };
        world.look().unwrap();
        assert_eq!(
            ledger::check(&world.entries, &ended, &world.chains),
            Vec::<String>::new(),
            "{}",
            world.home.log_end()
        );
        world
    }

    /// The same world on a disk of its own.
    pub(super) fn copied(&self) -> Self {
        Self { home: Home::copy_of(&self.home), entries: self.entries.clone(), chains: self.chains.clone() }
    }

    /// Opens the repositories as they lie there and reads what is new in them: they must be whole, and nothing in them
    /// may have happened twice.
    pub(super) fn look(&mut self) -> Result<(), String> {
        chain::look(&mut self.chains, &self.home.state(), &REPOSITORIES)
    }

    /// Lets a last life finish everything, then compares the ledger with what it says and with the repositories.
    pub(super) async fn settle(&mut self, life: Life, client: &Client) -> Result<(), String> {
        let ended = states(client, &self.entries).await;
        life.kill9().await;
        self.look()?;
        let wrong = ledger::check(&self.entries, &ended, &self.chains);
        if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n")) }
    }

    /// A file that a repository holds now.
    pub(super) fn any_file(&self, repository: &str) -> String {
        self.chains[repository].any_file().unwrap()
    }

    /// What revisions did to files over all repositories: each job here does one thing.
    pub(super) fn changes(&self) -> usize {
        self.chains.values().flat_map(|chain| &chain.revisions).map(|revision| revision.changes.len()).sum()
    }

    /// Revisions over all repositories.
    pub(super) fn revisions(&self) -> usize {
        self.chains.values().map(|chain| chain.revisions.len()).sum()
    }
}
