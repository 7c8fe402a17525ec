//! The server's state: backed up while it runs, put back, checked, pruned, and killed meanwhile.

mod backup;
mod damage;
mod disk;
#[cfg(feature = "crash-points")]
mod killed;
#[cfg(feature = "crash-points")]
mod resolve;
