//! Payloads: fetching, verifying, reading archives, running scripts.
//!
//! Everything here treats what it is given as hostile: servers that never stop sending, archives that climb out of
//! their directory, scripts that leave daemons behind. Nothing here knows of publishers: an archive is delivered entry
//! by entry to a callback, a script works in a directory that it is given.

pub mod archive;
pub mod delete;
mod error;
pub mod fetch;
mod hash;
pub mod script;

pub use archive::{ArchiveEntry, ArchiveError, ArchiveItem, ArchiveLimits, ReadError};
pub use delete::{DeleteError, delete_list};
pub use error::PayloadError;
pub use fetch::{Content, FetchError, FetchLimits, Fetcher, verify};
pub use script::{Ending, ScriptError, ScriptReport, ScriptRun};
