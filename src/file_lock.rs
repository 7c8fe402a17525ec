//! The lock that makes a process the only one with a state directory: it dies with its process.

use std::fs::File;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

/// How long a lock is waited for: children of a killed process that have not run their program yet hold its files, until
/// they do or are dead, too.
const PATIENCE: Duration = Duration::from_secs(3);

/// Pause between two looks of somebody who will not wait for ever.
const PAUSE: Duration = Duration::from_millis(50);

/// Takes a file's lock, which is held until the file is closed, also by death. [`Errno::EWOULDBLOCK`] means that somebody
/// else has held it all the time. Blocks for three seconds at most.
pub(crate) fn exclusive(mut file: File) -> Result<Flock<File>, Errno> {
    let began = Instant::now();
    loop {
        file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => return Ok(lock),
            Err((file, Errno::EWOULDBLOCK)) if began.elapsed() < PATIENCE => file,
            Err((_, why)) => return Err(why),
        };
        std::thread::sleep(PAUSE);
    }
}

/// Takes a file's lock, or fails at once with [`Errno::EWOULDBLOCK`] where somebody else has it.
pub(crate) fn now(file: File) -> Result<Flock<File>, Errno> {
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, why)| why)
}

/// Takes a file's lock however long that takes: the kernel wakes this thread when nobody holds it any more. Blocks.
pub(crate) fn wait(mut file: File) -> Result<Flock<File>, Errno> {
    loop {
        file = match Flock::lock(file, FlockArg::LockExclusive) {
            Ok(lock) => return Ok(lock),
            Err((file, Errno::EINTR)) => file,
            Err((_, why)) => return Err(why),
        };
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_is_waited_for_and_then_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let held = exclusive(file.reopen().unwrap()).unwrap();
        let other = file.reopen().unwrap();
        let waiting = std::thread::spawn(move || exclusive(other));
        drop(held);
        let held = waiting.join().unwrap().unwrap();
        assert_eq!(exclusive(file.reopen().unwrap()).unwrap_err(), Errno::EWOULDBLOCK);
        drop(held);
    }
}
