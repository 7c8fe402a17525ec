//! The repository format of CernVM-FS as a library: hashes, objects, catalogs, manifest, whitelist, tags.
//!
//! It knows nothing of the rest of Conveyor. Calls are synchronous; nothing looks at a clock, every function that needs
//! the time takes it as seconds since 1970. CernVM-FS's own sources are the reference; docs name the file.
//!
//! * [`reader`] opens a repository through any [`fetch::Fetch`], verifies it from the public key down, and reads it.
//! * [`check`] finds what is wrong with one.
//! * [`diff`] tells what changed between two revisions.
//! * [`stratum0`] makes one on disk and publishes into it.

pub mod catalog;
pub mod certificate;
pub mod check;
mod database;
pub mod diff;
pub mod durable;
pub mod edit;
pub mod error;
pub mod fetch;
pub mod hash;
pub mod history;
pub mod http;
pub mod ingest;
pub mod keys;
pub mod manifest;
pub mod metainfo;
pub mod object;
pub mod owner;
pub mod reader;
pub mod reflog;
pub mod replica;
pub mod resolve;
pub mod revisions;
pub mod settings;
pub mod signature;
pub mod stratum0;
pub mod tree;
pub mod trust;
pub mod whitelist;
pub mod xattr;

pub use error::Error;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(crate) mod tests;
