//! All integration tests in one binary: linking many costs minutes.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod batches;
mod broker;
mod cli;
mod fuzz;
mod harness;
mod holds;
mod hostile;
mod kill;
mod mount;
mod predecessor;
mod race;
mod revert;
#[cfg(feature = "crash-points")]
mod simulation;
mod standby;
mod state;
mod tidy;
mod trees;
mod unchanged;
mod waiting;
mod workers;
