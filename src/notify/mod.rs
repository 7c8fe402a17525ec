//! Notifications: who listens ([`hub`]), what may be believed ([`verify`]), and what others publish ([`watch`]).

pub mod hub;
pub mod verify;
pub mod watch;
