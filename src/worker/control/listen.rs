//! Where the socket is and who may use it.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tokio::net::UnixListener;

use super::SOCKET;

/// A socket that listens; its file goes when this is dropped.
pub(in crate::worker) struct Socket {
    pub(super) listener: UnixListener,
    path: PathBuf,
}

impl Socket {
    /// Listens in a state directory whose lock is ours: what lies there is of an earlier life.
    pub(in crate::worker) fn bind(state_dir: &Path) -> io::Result<Self> {
        let path = state_dir.join(SOCKET);
        // A new socket has the rights that the umask leaves it; until they are right it is where only we can reach it.
        let private = tempfile::Builder::new()
            .prefix(".c")
            .permissions(std::fs::Permissions::from_mode(0o700))
            .tempdir_in(state_dir)?;
        let made = private.path().join("s");
        let listener = UnixListener::bind(&made)?;
        std::fs::set_permissions(&made, std::fs::Permissions::from_mode(0o600))?;
        std::fs::rename(&made, &path)?;
        Ok(Self { listener, path })
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::os::unix::fs::FileTypeExt;

    use super::*;

    #[tokio::test]
    async fn a_stale_socket_is_replaced_and_nobody_else_can_open_the_new_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(SOCKET);
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists(), "std leaves it");
        let socket = Socket::bind(dir.path()).unwrap();
        let metadata = path.metadata().unwrap();
        assert!(metadata.file_type().is_socket());
        assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "nothing else is left");
        let (connected, accepted) = tokio::join!(tokio::net::UnixStream::connect(&path), socket.listener.accept());
        assert!(connected.is_ok() && accepted.is_ok());
        drop(socket);
        assert!(!path.exists());
    }
}
