//! Unix sockets that have a name in the file system.

use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tokio::net::UnixListener;

/// The name of a socket that listens; it goes when this is dropped.
#[derive(Debug)]
pub(crate) struct SocketFile {
    path: PathBuf,
    /// Device and inode.
    is: (u64, u64),
}

/// Listens at `path`; what lies there is replaced. Nobody can connect before the socket has the rights of `mode`.
pub(crate) fn listen(path: &Path, mode: u32) -> io::Result<(UnixListener, SocketFile)> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // A new socket has the rights that the umask leaves it; until they are right it is where only we can reach it.
    let private = tempfile::Builder::new()
        .prefix(".c")
        .permissions(std::fs::Permissions::from_mode(0o700))
        .tempdir_in(directory)?;
    let made = private.path().join("s");
    let listener = UnixListener::bind(&made)?;
    std::fs::set_permissions(&made, std::fs::Permissions::from_mode(mode))?;
    let is = identity(&made)?;
    std::fs::rename(&made, path)?;
    Ok((listener, SocketFile { path: path.to_owned(), is }))
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    std::fs::symlink_metadata(path).map(|metadata| (metadata.dev(), metadata.ino()))
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Somebody else may have put another one in its place.
        if identity(&self.path).is_ok_and(|is| is == self.is) {
            let _ = std::fs::remove_file(&self.path);
        }
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
        let path = dir.path().join("socket");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists(), "std leaves it");
        let (listener, file) = listen(&path, 0o600).unwrap();
        let metadata = path.metadata().unwrap();
        assert!(metadata.file_type().is_socket());
        assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "nothing else is left");
        let (connected, accepted) = tokio::join!(tokio::net::UnixStream::connect(&path), listener.accept());
        assert!(connected.is_ok() && accepted.is_ok());
        drop(file);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn the_socket_of_another_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let (_first, first_file) = listen(&path, 0o600).unwrap();
        let (_second, _second_file) = listen(&path, 0o600).unwrap();
        drop(first_file);
        assert!(path.exists());
    }
}
