//! Conveyor: jobs that publish into CernVM-FS repositories, once, exactly, anywhere, and proven.
//!
//! `ARCHITECTURE.md` has the code map; `domain` is pure, `app` holds the use cases, the rest are adapters.

pub mod app;
pub mod broker;
mod causes;
pub mod cli;
pub mod client;
pub mod config;
pub mod crash;
pub mod cvmfs;
pub mod domain;
mod file_lock;
pub mod http;
mod mountinfo;
pub mod notify;
pub mod payload;
pub mod planted;
mod processes;
pub mod publisher;
pub mod replicas;
mod socket_file;
pub mod store;
pub mod worker;
