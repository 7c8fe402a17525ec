//! Notifications: who listens ([`hub`]), what may be believed ([`verify`]), what others publish ([`watch`]), and what was done
//! ([`figures`]).

pub mod figures;
pub mod hub;
pub mod verify;
pub mod watch;
