//! Token lists: files with the hashes of tokens and what they are good for.
//!
//! ```toml
//! [[token]]
//! id = "3f9a0c2e71b4"
//! name = "ci-release"
//! roles = ["submit"]
//! sha256 = "sha256:…"
//! expires_at = "2027-03-01T00:00:00Z"
//! ```

use std::collections::HashSet;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::time::SystemTime;

use serde::Deserialize;

use super::ConfigError;
use crate::domain::access::{TokenId, TokenRecord};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    #[serde(default)]
    token: Vec<TokenRecord>,
}

/// Tells whether a file is the one that was read before: inode, size in bytes, time of change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp(u64, u64, Option<SystemTime>);

impl Stamp {
    /// The file as it is now; none where there is none.
    pub fn of(path: &Path) -> Option<Self> {
        let metadata = std::fs::metadata(path).ok()?;
        Some(Self(metadata.ino(), metadata.len(), metadata.modified().ok()))
    }
}

/// Reads a token list. One that everyone on the machine can write is refused: it says who may do everything.
pub fn read_token_list(path: &Path) -> Result<Vec<TokenRecord>, ConfigError> {
    let read = |source| ConfigError::Read { path: path.to_owned(), source };
    let metadata = std::fs::metadata(path).map_err(read)?;
    if metadata.is_file() && metadata.permissions().mode() & 0o002 != 0 {
        return Err(ConfigError::Writable { path: path.to_owned() });
    }
    parse_token_list(path, &std::fs::read_to_string(path).map_err(read)?)
}

/// Takes a token list apart; `path` is for its errors.
pub fn parse_token_list(path: &Path, text: &str) -> Result<Vec<TokenRecord>, ConfigError> {
    let list: List = toml::from_str(text).map_err(|error| super::file::syntax_error(path, text, &error))?;
    let mut ids = HashSet::new();
    for token in &list.token {
        let refuse = |why: String| ConfigError::Value { key: format!("{}: token {}", path.display(), token.id), why };
        token.validate().map_err(|error| refuse(format!("is not usable: {error}")))?;
        if token.id == TokenId::bootstrap() {
            return Err(refuse("has the id of the [server] token_file; give it another".into()));
        }
        if !ids.insert(&token.id) {
            return Err(refuse("is there twice; remove one".into()));
        }
    }
    Ok(list.token)
}
