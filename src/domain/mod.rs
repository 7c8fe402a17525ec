//! What Conveyor is about, without I/O, clock, async or logging: a test reads these sources and fails where they are not pure.

pub mod access;
pub mod address;
pub mod batch;
pub mod dependencies;
pub mod digest;
pub mod fleet;
pub mod hold;
pub mod ids;
pub mod job;
pub mod names;
pub mod notification;
pub mod outcome;
pub mod plan;
pub mod policy;
pub mod progress;
pub mod protocol;
pub mod repository;
pub mod retention;
pub mod share;
pub mod signed;
pub mod standing;
#[cfg(test)]
mod tests;
pub mod token;
pub mod tree;
pub mod visible;
pub mod worker;
