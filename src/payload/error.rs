//! One error for whatever can be wrong with a payload.

use super::archive::ArchiveError;
use super::delete::DeleteError;
use super::fetch::FetchError;
use super::script::ScriptError;

/// What is wrong with a payload; the cause speaks for itself.
#[derive(Debug, thiserror::Error)]
pub enum PayloadError {
    /// It could not be fetched or is not what was asked for.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// The tarball is refused.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// The script could not be run.
    #[error(transparent)]
    Script(#[from] ScriptError),
    /// The paths to delete are refused.
    #[error(transparent)]
    Delete(#[from] DeleteError),
}

impl PayloadError {
    /// Tells whether trying again later, unchanged, can help.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Fetch(error) => error.is_transient(),
            Self::Archive(error) => error.is_transient(),
            Self::Script(error) => error.is_transient(),
            Self::Delete(_) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cause_decides_what_is_transient_and_what_is_said() {
        let status = |status| PayloadError::from(FetchError::Status { url: "http://a.example/x".into(), status });
        assert!(status(503).is_transient());
        assert!(!status(404).is_transient());
        assert_eq!(status(404).to_string(), "cannot fetch http://a.example/x: the server answered with status 404");
        let source = std::io::Error::other("gone");
        let place = super::super::archive::Place { entry: None, within: false };
        assert!(PayloadError::from(ArchiveError::Source { place, source }).is_transient());
        assert!(!PayloadError::from(ArchiveError::NotTar { found: "it is empty" }).is_transient());
        assert!(!PayloadError::from(DeleteError::Empty).is_transient());
    }
}
