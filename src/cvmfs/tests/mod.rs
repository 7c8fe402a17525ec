//! Tests of the format as a whole; the parts have theirs beside them.

mod adopt;
mod check;
mod crash;
mod diff;
mod gc;
mod golden;
mod large;
mod power;
mod property;
mod publish;
mod replica;
mod resign;
pub(crate) mod support;
mod tags;
mod trust;
