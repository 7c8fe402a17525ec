//! Whether a repository can be published into from here, for a person who sets a worker up.

use nix::unistd::{AccessFlags, access};

use super::NativePublisher;
use crate::cvmfs::keys::SigningKeys;
use crate::cvmfs::reader::Expiry;
use crate::domain::names::RepositoryName;
use crate::publisher::{Finding, Publisher as _};

/// Days before its end from which a whitelist is worth a warning.
const SOON_DAYS: i64 = 7;

impl NativePublisher {
    /// One finding a repository, or one that says that there is none.
    pub(super) fn look(&self, served: Option<&[RepositoryName]>) -> Vec<Finding> {
        let names = self.repositories().unwrap_or_default();
        if names.is_empty() {
            let text = format!("no repository in {}", self.root.display());
            let hint = "make one with: conveyor repository create NAME, or set repositories_dir in [worker]";
            return vec![Finding::missing("repositories", text, hint)];
        }
        let is_served = |name: &&RepositoryName| served.is_none_or(|served| served.contains(name));
        names.iter().filter(is_served).map(|name| self.look_at(name)).collect()
    }

    fn look_at(&self, repository: &RepositoryName) -> Finding {
        let what = format!("repository {repository}");
        let stratum0 = self.stratum0(repository);
        let directory = stratum0.directory();
        let now = super::now();
        let reader = match stratum0.reader(Expiry::Refuse { now }) {
            Ok(reader) => reader,
            Err(error) => {
                let hint = format!("look with: conveyor repository check {repository}");
                return Finding::missing(what, format!("cannot be read: {}", chain(&error)), hint);
            }
        };
        if let Err(error) = SigningKeys::load(&self.keys, repository.as_str()) {
            let hint = format!("put NAME.key and NAME.crt into {}, readable for this account", self.keys.display());
            return Finding::missing(what, format!("cannot be signed: {}", chain(&error)), hint);
        }
        for place in [directory, &directory.join("data"), &self.root] {
            if let Err(error) = access(place, AccessFlags::W_OK | AccessFlags::X_OK) {
                let hint = "run the worker as the repository's owner";
                return Finding::missing(what, format!("cannot write in {}: {error}", place.display()), hint);
            }
        }
        let days = (reader.whitelist().expires_at - now) / 86_400;
        if days < SOON_DAYS {
            let hint = format!("sign it anew: conveyor repository show {repository} says until when it holds");
            return Finding::warning(what, format!("its whitelist expires in {days} days"), hint);
        }
        Finding::good(what, format!("revision {}, whitelist for {days} days", reader.manifest().revision))
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
