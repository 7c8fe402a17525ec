//! What notifications did since the process began: counted where it happens, read by whoever watches the service.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// How a subscriber is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// Server-sent events, as the gateway sends them.
    Events,
    /// The WebSocket of `cvmfs-notify`.
    WebSocket,
}

impl Dialect {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Events, Self::WebSocket];

    /// A word for programs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Events => "events",
            Self::WebSocket => "websocket",
        }
    }
}

/// What became of a message, whichever way it came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It was newer, and was told.
    Told,
    /// It was good, and not newer than the last one.
    NotNewer,
    /// It was not believed.
    Refused,
    /// The database could not take it.
    NotStored,
}

impl Fate {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Told, Self::NotNewer, Self::Refused, Self::NotStored];

    /// A word for programs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Told => "told",
            Self::NotNewer => "not_newer",
            Self::Refused => "refused",
            Self::NotStored => "not_stored",
        }
    }
}

/// The figures themselves. Each is right by itself; two of them are not of the same moment.
#[derive(Debug, Default)]
pub struct Figures {
    messages: [AtomicU64; Fate::ALL.len()],
    subscribers: [AtomicU64; Dialect::ALL.len()],
    sent: [AtomicU64; Dialect::ALL.len()],
    dropped: AtomicU64,
    turned_away: AtomicU64,
}

/// A subscriber that is counted until this is dropped.
#[derive(Debug)]
pub struct Counted {
    figures: Arc<Figures>,
    dialect: Dialect,
}

impl Figures {
    /// Counts a message.
    pub fn message(&self, fate: Fate) {
        self.messages[fate as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a subscriber that has no place.
    pub fn turned_away(&self) {
        self.turned_away.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a subscriber for as long as it is there.
    pub fn subscriber(self: &Arc<Self>, dialect: Dialect) -> Counted {
        self.subscribers[dialect as usize].fetch_add(1, Ordering::Relaxed);
        Counted { figures: Arc::clone(self), dialect }
    }

    /// How many messages came to this end.
    pub fn messages(&self, fate: Fate) -> u64 {
        self.messages[fate as usize].load(Ordering::Relaxed)
    }

    /// How many subscribers there are now.
    pub fn subscribers(&self, dialect: Dialect) -> u64 {
        self.subscribers[dialect as usize].load(Ordering::Relaxed)
    }

    /// How many messages were given to subscribers.
    pub fn sent(&self, dialect: Dialect) -> u64 {
        self.sent[dialect as usize].load(Ordering::Relaxed)
    }

    /// How many subscribers were dropped since they took nothing.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// How many were turned away since there were as many as there may be.
    pub fn all_turned_away(&self) -> u64 {
        self.turned_away.load(Ordering::Relaxed)
    }
}

impl Counted {
    /// Counts a message that it is given.
    pub fn sent(&self) {
        self.figures.sent[self.dialect as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Counts it as one that was dropped since it took nothing.
    pub fn dropped(&self) {
        self.figures.dropped.fetch_add(1, Ordering::Relaxed);
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.figures.subscribers[self.dialect as usize].fetch_sub(1, Ordering::Relaxed);
    }
}
