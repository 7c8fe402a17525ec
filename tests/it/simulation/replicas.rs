//! A model of replicas: each serves some revision of each repository, lags behind, goes back, or gives no answer.

use std::collections::BTreeMap;
use std::time::Duration;

use conveyor::app::{Answers, AppError, Engine};
use conveyor::domain::names::RepositoryName;
use conveyor::domain::visible::Answer;
use conveyor::store::StoreError;
use rand::RngExt;
use url::Url;

use super::environment::{Environment, repository_names};
use super::executor::block_on;

/// The hosts of the replicas; each serves all repositories.
pub(super) const REPLICAS: [&str; 2] = ["s1.sim.org", "s2.sim.org"];
/// How often the server asks them.
const ASK: Duration = Duration::from_secs(1);

/// Where a host serves a repository.
pub(super) fn replica_url(host: &str, repository: &RepositoryName) -> Url {
    format!("http://{host}/cvmfs/{repository}").parse().unwrap()
}

#[derive(Default)]
pub(super) struct Replicas {
    /// What each serves; `None` where it gives no answer.
    serves: BTreeMap<Url, Option<u64>>,
    asked_at: Duration,
    /// All are well, and have what there is.
    pub(super) calm: bool,
}

impl Environment {
    /// Something happens to the replicas, and the server asks those that jobs wait for.
    pub(super) fn ask_replicas(&mut self, engine: &Engine) {
        if self.now() < self.replicas.asked_at + ASK {
            return;
        }
        self.replicas.asked_at = self.now();
        self.disturb_replicas();
        let awaited = match block_on(engine.awaited()) {
            Ok(awaited) => awaited,
            Err(error) => return self.checker.fail(format!("who waits for replicas: {error:?}")),
        };
        let asked = engine.monotonic();
        let mut answers = Answers::new();
        for (repository, url) in
            awaited.into_iter().flat_map(|of| of.urls.into_iter().map(move |url| (of.repository.clone(), url)))
        {
            let served = self.replicas.serves.get(&url).copied().flatten().ok_or_else(|| "no answer".to_owned());
            answers.insert((repository, url), Answer { asked, served });
        }
        self.observe();
        self.checker.replicas = self.replicas.serves.clone();
        match self.disk_full(|| block_on(engine.note_answers(&answers))) {
            Ok(()) | Err(AppError::Store(StoreError::Full { .. })) => {}
            Err(error) => self.checker.fail(format!("what replicas serve: {error:?}")),
        }
        self.observe();
    }

    fn disturb_replicas(&mut self) {
        for name in repository_names() {
            let head = self.repositories[&name].head();
            for host in REPLICAS {
                let url = replica_url(host, &name);
                let before = self.replicas.serves.get(&url).copied().flatten().unwrap_or(0);
                let after = match self.rng.random_range(0..20) {
                    _ if self.replicas.calm => Some(head),
                    0..3 => Some(head),
                    3 => Some(before.saturating_sub(1)),
                    4 => None,
                    _ => continue,
                };
                self.replicas.serves.insert(url, after);
            }
        }
    }
}
