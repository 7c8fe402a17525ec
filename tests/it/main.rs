//! All integration tests in one binary: linking many costs minutes.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod activation;
mod announce;
mod batches;
mod broker;
mod cli;
mod escape;
mod fuzz;
mod harness;
mod holds;
mod hostile;
mod kill;
mod mount;
mod nixos;
mod predecessor;
mod publisher_node;
mod race;
mod real_notify;
mod revert;
#[cfg(feature = "crash-points")]
mod simulation;
mod site;
mod soak;
mod standby;
mod standin;
mod state;
mod systemd;
mod tidy;
mod trees;
mod unchanged;
mod units;
mod visible;
mod waiting;
mod workers;
