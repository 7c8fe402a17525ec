//! What Conveyor is about, without I/O, clock, async or logging: a test reads these sources and fails where they are not pure.

pub mod digest;
pub mod names;
pub mod tree;
