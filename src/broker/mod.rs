//! Distribution of offers. The broker only sends: what counts is the batch's row.

mod embedded;
pub mod rabbitmq;
mod status;

pub use embedded::Embedded;
pub use status::{Link, Snapshot, Status};
