//! Notifications: watching what others publish ([`watch`]).

pub mod watch;
