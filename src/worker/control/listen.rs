//! Where the socket is and who may use it.

use std::io;
use std::path::Path;

use tokio::net::UnixListener;

use super::SOCKET;
use crate::socket_file::{self, SocketFile};

/// A socket that listens; its file goes when this is dropped.
pub(in crate::worker) struct Socket {
    pub(super) listener: UnixListener,
    _file: SocketFile,
}

impl Socket {
    /// Listens in a state directory whose lock is ours: what lies there is of an earlier life.
    pub(in crate::worker) fn bind(state_dir: &Path) -> io::Result<Self> {
        let (listener, file) = socket_file::listen(&state_dir.join(SOCKET), 0o600)?;
        Ok(Self { listener, _file: file })
    }
}
