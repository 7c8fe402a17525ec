//! A manifest in a directory, looked at when the kernel says that something changed there.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::{Look, MAX_MANIFEST, WatchError, Watcher};
use crate::cvmfs::manifest;

/// The file is written in place or replaced, or a directory on the way to it comes or goes.
const CHANGES: AddWatchFlags = AddWatchFlags::IN_CLOSE_WRITE
    .union(AddWatchFlags::IN_MOVED_TO)
    .union(AddWatchFlags::IN_CREATE)
    .union(AddWatchFlags::IN_DELETE_SELF)
    .union(AddWatchFlags::IN_MOVE_SELF)
    .union(AddWatchFlags::IN_ONLYDIR);

#[derive(Debug)]
pub(super) struct Directory {
    path: PathBuf,
    watch: Option<Watch>,
    /// Tests: as if the kernel told nothing.
    #[cfg(test)]
    pub(super) is_deaf: bool,
}

/// What the kernel was asked to tell.
#[derive(Debug)]
struct Watch {
    events: AsyncFd<Events>,
    watched: Option<(WatchDescriptor, PathBuf)>,
}

struct Events(Inotify);

impl std::fmt::Debug for Events {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Events").finish()
    }
}

impl AsFd for Events {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for Events {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

impl Directory {
    pub(super) fn new(path: PathBuf) -> Self {
        Self {
            path,
            watch: None,
            #[cfg(test)]
            is_deaf: false,
        }
    }

    /// Waits until something changed, or might have: for `pause` at the most.
    pub(super) async fn changed(&mut self, pause: Duration) {
        let Some(watch) = &self.watch else { return tokio::time::sleep(pause).await };
        let waiting = tokio::time::timeout(pause, watch.wait()).await;
        if let Ok(Err(error)) = waiting {
            tracing::debug!(%error, directory = %self.path.display(), "the kernel does not tell changes any more");
            self.watch = None;
            tokio::time::sleep(pause).await;
        }
    }

    /// Watches from now on, then reads: a change in between is told.
    pub(super) async fn look(&mut self) -> Result<Look, WatchError> {
        self.watch = match self.watch.take().map_or_else(Watch::new, Ok).and_then(|watch| watch.on(&self.path)) {
            Ok(watch) => Some(watch),
            // There is a limit for each account. Looking now and then goes on.
            Err(error) => {
                tracing::debug!(%error, directory = %self.path.display(), "the kernel cannot tell changes here");
                None
            }
        };
        #[cfg(test)]
        if self.is_deaf {
            self.watch = None;
        }
        let file = self.path.join(manifest::FILE);
        let reading = tokio::task::spawn_blocking(move || read(&file)).await;
        match reading.unwrap_or_else(|error| Err(std::io::Error::other(error))) {
            Ok(Some(manifest)) => Ok(Look::Manifest(manifest)),
            Ok(None) => Ok(Look::Unchanged),
            Err(error) => Err(Watcher::unreadable(self.path.display(), error)),
        }
    }
}

/// The file; nothing where it is not there yet.
fn read(file: &Path) -> std::io::Result<Option<Vec<u8>>> {
    let file = match File::open(file) {
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(None),
        file => file?,
    };
    let mut bytes = Vec::new();
    file.take(MAX_MANIFEST + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_MANIFEST {
        return Err(std::io::Error::other(format!(
            "the file has more than {MAX_MANIFEST} bytes, which is no manifest"
        )));
    }
    // Some write in place: it is empty for an instant, and told again.
    Ok(Some(bytes).filter(|bytes| !bytes.is_empty()))
}

impl Watch {
    fn new() -> std::io::Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
        // Deprecated for types whose descriptor may change; `Events` owns the one it has.
        #[allow(deprecated)]
        let events = AsyncFd::with_interest(Events(inotify), Interest::READABLE)?;
        Ok(Self { events, watched: None })
    }

    /// Watches a directory; where it is not there, the nearest above it that is.
    fn on(mut self, directory: &Path) -> std::io::Result<Self> {
        let inotify = &self.events.get_ref().0;
        loop {
            let nearest = directory.ancestors().find(|path| path.is_dir()).unwrap_or(Path::new("/"));
            let watched = match inotify.add_watch(nearest, CHANGES) {
                Ok(watched) => watched,
                // It went this instant.
                Err(Errno::ENOENT | Errno::ENOTDIR) => continue,
                Err(error) => return Err(error.into()),
            };
            // The same directory is watched by the same descriptor.
            if let Some((before, _)) = self.watched.replace((watched, nearest.to_owned()))
                && before != watched
            {
                // It may be gone with its directory.
                let _ = inotify.rm_watch(before);
            }
            // What came below it before it was watched is not told.
            let is_nearest = directory.ancestors().find(|path| path.is_dir()) == Some(nearest);
            if is_nearest {
                return Ok(self);
            }
        }
    }

    /// Waits for any change.
    async fn wait(&self) -> std::io::Result<()> {
        loop {
            let mut ready = self.events.readable().await?;
            match ready.try_io(|events| Ok(events.get_ref().0.read_events()?)) {
                Ok(Ok(_)) => return Ok(()),
                Ok(Err(error)) => return Err(error),
                // Nothing, after all.
                Err(_) => {}
            }
        }
    }
}
