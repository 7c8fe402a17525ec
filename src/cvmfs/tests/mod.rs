//! Tests of the format as a whole; the parts have theirs beside them.

mod check;
mod crash;
mod gc;
mod golden;
mod property;
mod publish;
pub(crate) mod support;
mod tags;
mod trust;
