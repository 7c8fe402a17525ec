//! The server's state: backed up while it runs, put back, checked, pruned, and killed meanwhile.

mod backup;
#[cfg(feature = "crash-points")]
mod killed;
