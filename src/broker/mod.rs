//! Distribution of offers. The broker only sends: what counts is the batch's row.

mod embedded;

pub use embedded::Embedded;
