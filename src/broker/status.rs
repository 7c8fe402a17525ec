//! How the connection to the broker stands, for whoever is asked.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;

/// What a connection can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Link {
    /// Nothing was reached yet.
    Connecting,
    /// Offers and events go out.
    Up,
    /// The broker takes nothing for the time being: it lacks memory or disk.
    Blocked,
    /// Tried again for ever.
    Down,
}

impl Link {
    /// Every kind.
    pub const ALL: [Self; 4] = [Self::Connecting, Self::Up, Self::Blocked, Self::Down];

    /// Its word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::Up => "up",
            Self::Blocked => "blocked",
            Self::Down => "down",
        }
    }
}

/// The connection's state since when, and why. Never holds a secret: its writers redact what they note.
#[derive(Debug)]
pub struct Status {
    now: Mutex<Snapshot>,
}

/// One look at it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// What it is.
    pub link: Link,
    /// Since when it is that.
    pub since: Timestamp,
    /// Why, where that is known.
    pub reason: Option<String>,
    /// Fleets whose queue takes nothing, and why; the others go on.
    pub fleets: BTreeMap<String, String>,
}

impl Default for Status {
    fn default() -> Self {
        Self {
            now: Mutex::new(Snapshot {
                link: Link::Connecting,
                since: Timestamp::now(),
                reason: None,
                fleets: BTreeMap::new(),
            }),
        }
    }
}

impl Status {
    /// How it stands.
    pub fn snapshot(&self) -> Snapshot {
        self.now.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Notes how it stands; the time counts from the change. `true` where it is one.
    pub fn set(&self, link: Link, reason: Option<String>) -> bool {
        let mut now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        let is_change = now.link != link;
        if is_change {
            now.since = Timestamp::now();
            now.link = link;
        }
        now.reason = reason;
        is_change
    }

    /// Notes why a fleet's queue takes nothing, or that it does. `true` where that is news.
    pub fn set_fleet(&self, fleet: &str, trouble: Option<String>) -> bool {
        let mut now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        match trouble {
            Some(why) => now.fleets.insert(fleet.to_owned(), why).is_none(),
            None => now.fleets.remove(fleet).is_some(),
        }
    }

    /// Forgets the fleets' troubles: whatever they were, everything begins anew.
    pub fn forget_fleets(&self) {
        self.now.lock().unwrap_or_else(PoisonError::into_inner).fleets.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_counts_from_the_change_and_the_reason_is_the_latest() {
        let status = Status::default();
        assert!(status.set(Link::Down, Some("one".into())));
        let since = status.snapshot().since;
        assert!(!status.set(Link::Down, Some("two".into())));
        assert_eq!(
            status.snapshot(),
            Snapshot { link: Link::Down, since, reason: Some("two".into()), fleets: BTreeMap::new() }
        );
        assert!(status.set(Link::Up, None));
        assert!(status.snapshot().since >= since);
        assert!(status.set_fleet("one", Some("silent".into())) && !status.set_fleet("one", Some("nack".into())));
        assert_eq!(status.snapshot().fleets["one"], "nack");
        assert!(status.set_fleet("one", None) && !status.set_fleet("one", None));
    }
}
