//! Conveyor: jobs that publish into CernVM-FS repositories, once, exactly, anywhere, and proven.
//!
//! `ARCHITECTURE.md` has the code map; `domain` is pure, `app` holds the use cases, the rest are adapters.

pub mod app;
pub mod broker;
pub mod crash;
pub mod cvmfs;
pub mod domain;
pub mod http;
pub mod payload;
pub mod publisher;
pub mod store;
