//! The publisher that drives `cvmfs_server`.

mod place;
#[allow(dead_code, reason = "the driver that calls it comes with the next commits")]
mod union;
#[allow(dead_code, reason = "the driver that calls it comes with the next commits")]
mod upper;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
