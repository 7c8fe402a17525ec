//! Secrets in files.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::{Config, ConfigError};
use crate::domain::token::Token;

impl Config {
    /// The same settings for a check on a machine where their files are not: those with tokens, passwords and certificates are not
    /// opened, and each is taken for good. Nothing can be run with what a role is then told.
    #[must_use]
    pub fn without_secrets(self) -> Self {
        Self { without_secrets: true, ..self }
    }

    /// The token of a file.
    pub(super) fn token_in(&self, path: &Path) -> Result<Token, ConfigError> {
        if self.without_secrets { stand_in() } else { read_token_file(path) }
    }
}

/// Stands for a secret that is not read.
pub(super) fn stand_in() -> Result<Token, ConfigError> {
    Token::new("not-read")
        .map_err(|error| ConfigError::Value { key: "a secret that is not read".into(), why: error.to_string() })
}

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
