//! Where a server listens.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use crate::domain::address::{UNIX, unix_path};

/// An address and port, or the path of a Unix socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListenAddress {
    /// TCP.
    Tcp(SocketAddr),
    /// A Unix socket, by its absolute path.
    Unix(PathBuf),
}

impl From<SocketAddr> for ListenAddress {
    fn from(address: SocketAddr) -> Self {
        Self::Tcp(address)
    }
}

/// Why a text is no address to listen on.
#[derive(Debug, thiserror::Error)]
#[error(
    "write an address and a port, such as 127.0.0.1:8080 or [::]:8080, or a Unix socket, such as unix:/run/conveyor/server.sock"
)]
pub struct NoAddress;

impl FromStr for ListenAddress {
    type Err = NoAddress;

    fn from_str(text: &str) -> Result<Self, NoAddress> {
        match unix_path(text) {
            Some(path) => Ok(Self::Unix(path.to_owned())),
            None => text.parse().map(Self::Tcp).map_err(|_| NoAddress),
        }
    }
}

/// As [`FromStr`] reads it.
impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "{UNIX}{}", path.display()),
        }
    }
}

impl ListenAddress {
    /// What a client is to be given as the server's address.
    pub fn url(&self) -> String {
        match self {
            Self::Tcp(address) => format!("http://{address}"),
            Self::Unix(_) => self.to_string(),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn an_address_is_read_as_it_is_written() {
        for text in ["127.0.0.1:80", "[::1]:8080", "unix:/run/conveyor/server.sock"] {
            assert_eq!(text.parse::<ListenAddress>().unwrap().to_string(), text);
        }
        assert_eq!(unix_path("unix:///run/x"), Some(Path::new("/run/x")));
        for bad in ["localhost", "8080", "unix:", "unix:run/x", "unix://run/x", "/run/x"] {
            assert!(bad.parse::<ListenAddress>().is_err(), "{bad}");
        }
    }
}
