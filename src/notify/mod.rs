//! Notifications: who listens ([`hub`]), and what may be believed ([`verify`]).

pub mod hub;
pub mod verify;
