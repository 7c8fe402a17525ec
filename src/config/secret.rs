//! Secrets in files.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::ConfigError;
use crate::domain::token::Token;

/// Reads a token from a file that not everyone can read: its first line that is not empty.
pub fn read_token_file(path: &Path) -> Result<Token, ConfigError> {
    refuse_exposed(path)?;
    let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
    Token::new(&text).map_err(|error| ConfigError::Value {
        key: path.display().to_string(),
        why: format!("holds no token: {error}"),
    })
}

/// Refuses a file that everyone on the machine can read.
pub(super) fn refuse_exposed(path: &Path) -> Result<(), ConfigError> {
    let metadata = std::fs::metadata(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
    // A pipe or a descriptor (`/dev/fd/3`) has no mode that matters.
    if metadata.is_file() && metadata.permissions().mode() & 0o004 != 0 {
        return Err(ConfigError::Exposed { path: path.to_owned() });
    }
    Ok(())
}
