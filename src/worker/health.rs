//! What may go wrong with this node's repositories before a job meets it: whitelists that expire, tags that grow too many.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::Worker;
use super::failure::chain;
use crate::domain::names::RepositoryName;
use crate::domain::outcome::Outcome;
use crate::publisher::Publisher;

/// How often all repositories are looked at.
const LOOK: Duration = Duration::from_secs(3600);
/// How often while something is wrong with one: what was repaired must not be complained about for an hour.
const LOOK_AGAIN: Duration = Duration::from_secs(300);
/// How often it is seen whether there are repositories that were never looked at.
const NEW: Duration = Duration::from_secs(10);
/// Named tags that are worth a warning: CernVM-FS states fewer than 50 as its limit.
const MANY_TAGS: u64 = 40;

/// When the whitelists of repositories expire, as they were read last.
pub(super) type Whitelists = Mutex<BTreeMap<RepositoryName, Timestamp>>;

/// What was found about one repository.
struct Found {
    expires: Result<Option<Timestamp>, String>,
    tags: Result<Option<u64>, String>,
}

impl Worker {
    /// When whitelists expire, for the next heartbeat.
    pub(super) fn whitelists(&self) -> BTreeMap<RepositoryName, Timestamp> {
        self.whitelists.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Looks at all repositories at the start and then every hour.
    pub(super) async fn keep_looking_after(self: Arc<Self>) -> Infallible {
        let mut seen = Vec::new();
        let mut looked = tokio::time::Instant::now();
        loop {
            let served = self.served.lock().unwrap_or_else(PoisonError::into_inner).clone().unwrap_or_default();
            let pause = if self.faults.all().is_empty() { LOOK } else { LOOK_AGAIN };
            if looked.elapsed() >= pause || served.iter().any(|name| !seen.contains(name)) {
                for repository in &served {
                    self.look_after(repository).await;
                }
                (seen, looked) = (served, tokio::time::Instant::now());
            }
            tokio::time::sleep(NEW).await;
        }
    }

    async fn look_after(&self, repository: &RepositoryName) {
        let (publisher, name) = (Arc::clone(&self.publisher), repository.clone());
        let looking = tokio::task::spawn_blocking(move || Found {
            expires: publisher.whitelist_expires(&name).map_err(|error| chain(&error)),
            tags: publisher.named_tags(&name).map_err(|error| chain(&error)),
        });
        let Ok(Found { expires, tags }) = looking.await else { return };
        match expires {
            Ok(expires) => self.note_whitelist(repository, expires),
            Err(error) => {
                let fault = format!("the whitelist of {repository} cannot be read: {error}");
                self.note_fault(format!("whitelist {repository}"), Some(fault));
            }
        }
        // What cannot be read was said above.
        if let Ok(tags) = tags {
            self.note_fault(format!("tags {repository}"), many_tags(repository, tags));
        }
    }

    fn note_whitelist(&self, repository: &RepositoryName, expires: Option<Timestamp>) {
        let mut whitelists = self.whitelists.lock().unwrap_or_else(PoisonError::into_inner);
        let is_new = match expires {
            Some(at) => whitelists.insert(repository.clone(), at) != Some(at),
            None => whitelists.remove(repository).is_some(),
        };
        drop(whitelists);
        let days = i64::from(self.adjustable().whitelist_warning_days);
        let warning = expires.and_then(|at| expiry_warning(repository, &*self.publisher, at, Timestamp::now(), days));
        self.note_fault(format!("whitelist {repository}"), warning);
        if is_new {
            self.beat.notify_one();
        }
    }

    /// Notes what is wrong, or that nothing is any more, and says so once.
    fn note_fault(&self, about: String, fault: Option<String>) {
        if self.faults.note(about, fault.clone()) {
            match fault {
                Some(fault) => tracing::warn!("{fault}"),
                None => tracing::info!("something that was wrong on this node is in order again"),
            }
            self.beat.notify_one();
        }
    }

    /// Makes a batch wait whose repository's whitelist has expired: no client would take what it publishes, and a job cannot
    /// help it. One that cannot be read is for the opening to tell.
    pub(super) async fn wait_for_whitelist(&self, repository: &RepositoryName) -> Result<(), Outcome> {
        let (publisher, name) = (Arc::clone(&self.publisher), repository.clone());
        let looking = tokio::task::spawn_blocking(move || publisher.whitelist_expires(&name));
        let Ok(Ok(expires)) = looking.await else { return Ok(()) };
        self.note_whitelist(repository, expires);
        match expires {
            Some(at) if at <= Timestamp::now() => {
                Err(Outcome::Busy { holder: expired(repository, &*self.publisher, at) })
            }
            _ => Ok(()),
        }
    }
}

/// How a whitelist is signed anew.
fn resign(repository: &RepositoryName, publisher: &dyn Publisher) -> String {
    let program = if publisher.kind() == "native" { "conveyor repository" } else { "cvmfs_server" };
    format!("sign it anew: {program} resign {repository}")
}

fn expired(repository: &RepositoryName, publisher: &dyn Publisher, at: Timestamp) -> String {
    format!("the whitelist of {repository} expired at {at}; {}", resign(repository, publisher))
}

/// What to say of a whitelist, from so many days before its end.
fn expiry_warning(
    repository: &RepositoryName,
    publisher: &dyn Publisher,
    at: Timestamp,
    now: Timestamp,
    days: i64,
) -> Option<String> {
    if at <= now {
        return Some(format!("{}; its jobs wait", expired(repository, publisher, at)));
    }
    let is_soon = now.duration_until(at) < SignedDuration::from_hours(days * 24);
    is_soon.then(|| format!("the whitelist of {repository} expires at {at}; {}", resign(repository, publisher)))
}

fn many_tags(repository: &RepositoryName, tags: Option<u64>) -> Option<String> {
    let tags = tags.filter(|tags| *tags >= MANY_TAGS)?;
    Some(format!(
        "{repository} has {tags} named tags, and CernVM-FS is made for fewer than 50; where its storage is: conveyor repository tag {repository} prune"
    ))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::publisher::native::NativePublisher;

    #[test]
    fn a_whitelist_is_warned_of_days_before_its_end_and_from_then_on() {
        let name = RepositoryName::new("a.b").unwrap();
        let publisher = NativePublisher::new("/nowhere", "/nowhere");
        let at: Timestamp = "2026-11-21T00:00:00Z".parse().unwrap();
        let warning = |now: &str, days| expiry_warning(&name, &publisher, at, now.parse().unwrap(), days);
        assert_eq!(warning("2026-11-13T23:59:59Z", 7), None);
        let soon = warning("2026-11-14T00:00:01Z", 7).unwrap();
        assert_eq!(
            soon,
            "the whitelist of a.b expires at 2026-11-21T00:00:00Z; sign it anew: conveyor repository resign a.b"
        );
        assert_eq!(warning("2026-11-20T23:00:00Z", 0), None);
        assert!(warning("2026-11-21T00:00:00Z", 0).unwrap().contains("expired at"));
    }

    #[test]
    fn many_tags_are_warned_of() {
        let name = RepositoryName::new("a.b").unwrap();
        assert_eq!(many_tags(&name, Some(39)), None);
        assert_eq!(many_tags(&name, None), None);
        assert!(many_tags(&name, Some(40)).unwrap().contains("40 named tags"));
    }
}
