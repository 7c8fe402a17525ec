//! Why a payload could not be had.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::domain::digest::Checksum;

/// Whatever the HTTP client says, without the URL, which may carry credentials.
pub(super) type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Why a payload could not be fetched or verified. URLs are shown without credentials and query.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The HTTP client could not be set up, for instance because this host has no root certificates.
    #[error("cannot set up the HTTP client")]
    Client {
        /// Why.
        #[source]
        source: BoxError,
    },
    /// Neither http nor https.
    #[error("cannot fetch {url}: only http and https are supported")]
    Scheme {
        /// The URL.
        url: String,
    },
    /// The peer could not be reached: name, network, TLS.
    #[error("cannot connect to fetch {url}")]
    Connect {
        /// The URL.
        url: String,
        /// Why.
        #[source]
        source: BoxError,
    },
    /// The peer is too slow.
    #[error("cannot fetch {url}: {what} took longer than {limit:?}")]
    Timeout {
        /// The URL.
        url: String,
        /// What was waited for.
        what: &'static str,
        /// The limit that was set.
        limit: Duration,
    },
    /// The peer answered, but not with the payload.
    #[error("cannot fetch {url}: the server answered with status {status}")]
    Status {
        /// The URL that was answered, after redirects.
        url: String,
        /// The HTTP status.
        status: u16,
    },
    /// More redirects than are followed.
    #[error("cannot fetch {url}: it was redirected more than {limit} times, last to {last}")]
    TooManyRedirects {
        /// The URL that was asked for.
        url: String,
        /// Where the last redirect led.
        last: String,
        /// How many are followed.
        limit: u32,
    },
    /// A redirect that is not followed.
    #[error("cannot fetch {url}: its redirect to {target:?} is refused: {why}")]
    Redirect {
        /// The URL that redirects.
        url: String,
        /// Where to.
        target: String,
        /// Which rule it breaks.
        why: &'static str,
    },
    /// The transfer broke off.
    #[error("the transfer of {url} broke off after {received} bytes")]
    Transfer {
        /// The URL.
        url: String,
        /// Bytes that arrived.
        received: u64,
        /// Why.
        #[source]
        source: BoxError,
    },
    /// Larger than is accepted.
    #[error("cannot fetch {url}: it is larger than the limit of {limit} bytes")]
    TooLarge {
        /// The URL.
        url: String,
        /// The limit that was set.
        limit: u64,
    },
    /// Not the bytes that were asked for.
    #[error("{what} does not match its checksum: expected {expected}, found {found}")]
    Checksum {
        /// The URL or file.
        what: String,
        /// What was asked for.
        expected: Checksum,
        /// What is there.
        found: Checksum,
    },
    /// No room left where payloads are put.
    #[error("no space is left to write {}: free some, or set another scratch directory", path.display())]
    DiskFull {
        /// The file being written.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The machine failed us.
    #[error("cannot {what} {}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

impl FetchError {
    /// Tells whether trying again later, unchanged, can help.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Connect { .. }
            | Self::Timeout { .. }
            | Self::Transfer { .. }
            | Self::DiskFull { .. }
            | Self::Io { .. } => true,
            Self::Status { status, .. } => matches!(status, 408 | 425 | 429 | 500..=599),
            Self::Client { .. }
            | Self::Scheme { .. }
            | Self::TooManyRedirects { .. }
            | Self::Redirect { .. }
            | Self::TooLarge { .. }
            | Self::Checksum { .. } => false,
        }
    }

    /// Tells a full disk from other failures on a file.
    pub(super) fn on_file(what: &'static str, path: &Path, source: std::io::Error) -> Self {
        use std::io::ErrorKind;
        let path = path.to_owned();
        match source.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Self::DiskFull { path, source },
            _ => Self::Io { what, path, source },
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_full_disk_is_named_as_such() {
        let path = Path::new("/dev/full");
        let source = std::fs::OpenOptions::new().write(true).open(path).unwrap().write_all(b"x").unwrap_err();
        let error = FetchError::on_file("write", path, source);
        assert!(matches!(error, FetchError::DiskFull { .. }), "{error:?}");
        assert!(error.is_transient());
        assert!(error.to_string().contains("/dev/full"));
    }

    #[test]
    fn only_what_time_can_heal_is_transient() {
        let status = |status| FetchError::Status { url: "http://a.example/".into(), status }.is_transient();
        for transient in [408, 425, 429, 500, 502, 503, 504] {
            assert!(status(transient), "{transient}");
        }
        for lasting in [201, 204, 206, 304, 400, 401, 403, 404, 410] {
            assert!(!status(lasting), "{lasting}");
        }
    }
}
