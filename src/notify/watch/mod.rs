//! Watching a repository that others publish: its `.cvmfspublished`, in a directory or behind HTTP.

mod directory;
mod pages;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

use std::path::PathBuf;
use std::time::Duration;

use directory::Directory;
use pages::Pages;

/// Bytes that a manifest may have; what is larger is none.
const MAX_MANIFEST: u64 = 64 << 10;
/// Longest pause after failures, where looks are not further apart anyway.
const LONGEST: Duration = Duration::from_secs(15 * 60);

/// Where a repository is looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// Below this URL.
    Url(String),
    /// In this directory. Changes are told by the kernel; it is looked at now and then all the same, since a file system that is
    /// mounted from elsewhere tells nothing.
    Directory(PathBuf),
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Url(url) => f.write_str(url),
            Self::Directory(path) => path.display().fmt(f),
        }
    }
}

/// Why a place could not be looked at. It is looked at again.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    /// It did not answer as it should.
    #[error("{place} cannot be watched: {why}")]
    Unreadable {
        /// Where.
        place: String,
        /// What is wrong.
        why: String,
    },
}

/// Looks at one place for ever.
#[derive(Debug)]
pub struct Watcher {
    place: Place,
    every: Duration,
    eye: Eye,
    /// What was given last.
    given: Option<Vec<u8>>,
    failures: u32,
    is_first: bool,
}

#[derive(Debug)]
enum Eye {
    Pages(Box<Pages>),
    Directory(Directory),
}

/// What a look found.
enum Look {
    /// The manifest.
    Manifest(Vec<u8>),
    /// It is as it was.
    Unchanged,
}

impl Watcher {
    /// Looks at a place at least once in `every`, from the first [`next`](Self::next) on.
    pub fn new(place: Place, every: Duration) -> Result<Self, WatchError> {
        let eye = match &place {
            Place::Url(url) => Eye::Pages(Box::new(Pages::new(url)?)),
            Place::Directory(path) => Eye::Directory(Directory::new(path.clone())),
        };
        Ok(Self { place, every, eye, given: None, failures: 0, is_first: true })
    }

    /// Where it looks.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// Waits for a manifest that is not the one that was given last. An error is for telling: after it, it is looked again.
    pub async fn next(&mut self) -> Result<Vec<u8>, WatchError> {
        loop {
            if !std::mem::take(&mut self.is_first) {
                let pause = self.pause();
                match &mut self.eye {
                    Eye::Pages(_) => tokio::time::sleep(pause).await,
                    Eye::Directory(directory) => directory.changed(pause).await,
                }
            }
            let looked = match &mut self.eye {
                Eye::Pages(pages) => pages.look().await,
                Eye::Directory(directory) => directory.look().await,
            };
            match looked {
                Ok(Look::Manifest(manifest)) if self.given.as_ref() != Some(&manifest) => {
                    self.failures = 0;
                    self.given = Some(manifest.clone());
                    return Ok(manifest);
                }
                Ok(Look::Manifest(_) | Look::Unchanged) => self.failures = 0,
                Err(error) => {
                    self.failures = self.failures.saturating_add(1);
                    return Err(error);
                }
            }
        }
    }

    /// Forgets what was given last, so that it is given again after the usual pause: nothing came of it.
    pub fn forget(&mut self) {
        self.given = None;
        if let Eye::Pages(pages) = &mut self.eye {
            pages.forget();
        }
    }

    /// Until the next look: spread by a tenth, so that servers that watch the same do not come in step.
    fn pause(&self) -> Duration {
        let full = self.every.saturating_mul(1 << self.failures.min(10)).min(LONGEST.max(self.every));
        let mut byte = [128];
        // Without randomness they are merely in step.
        let _ = getrandom::fill(&mut byte);
        full.mul_f64(0.9 + 0.2 * f64::from(byte[0]) / 255.0)
    }

    fn unreadable(place: impl std::fmt::Display, why: impl std::fmt::Display) -> WatchError {
        WatchError::Unreadable { place: place.to_string(), why: why.to_string() }
    }
}
