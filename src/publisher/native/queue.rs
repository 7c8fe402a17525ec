//! Entries on their way into the tree: content is stored by many threads, entries are written in the order in which they
//! came.

use std::collections::{HashSet, VecDeque};
use std::io::{self, Read};

use crate::cvmfs::edit::{NewEntry, NewKind};
use crate::cvmfs::ingest::Ticket;
use crate::domain::progress::Counters;
use crate::domain::tree::EntryPath;
use crate::publisher::PublisherError;

use super::errors::{conflict, translate, translate_stage};
use super::transaction::NativeTransaction;

/// Entries that may wait: each is small, and their contents have a budget of their own.
const MOST_WAITING: usize = 8192;

/// Entries that wait for the content of an earlier one, or for their own.
#[derive(Debug, Default)]
pub(super) struct Queue {
    waiting: VecDeque<Waiting>,
    /// Those that are no directories: nothing can lie below them once they are written.
    leaves: HashSet<EntryPath>,
}

#[derive(Debug)]
enum Waiting {
    Entry {
        path: EntryPath,
        entry: NewEntry,
    },
    /// The entry's kind is made of what comes for the ticket.
    File {
        path: EntryPath,
        entry: NewEntry,
        ticket: Ticket,
    },
    Link {
        path: EntryPath,
        target: EntryPath,
    },
    /// Content that nobody wants any more.
    Nothing,
}

impl NativeTransaction {
    /// Writes an entry, now or after those that came before it.
    pub(super) fn push(&mut self, path: &EntryPath, entry: NewEntry) -> Result<(), PublisherError> {
        if self.queue.waiting.is_empty() {
            return self.write(path, &entry);
        }
        self.check_parent(path)?;
        if entry.kind != NewKind::Directory {
            self.note_leaf(path);
        }
        self.queue.waiting.push_back(Waiting::Entry { path: path.clone(), entry });
        self.drain(false)
    }

    /// Makes a hard link, now or after the entries that came before it.
    pub(super) fn push_link(&mut self, path: &EntryPath, target: &EntryPath) -> Result<(), PublisherError> {
        if self.queue.waiting.is_empty() {
            return self.write_link(path, target);
        }
        self.check_parent(path)?;
        self.note_leaf(path);
        self.queue.waiting.push_back(Waiting::Link { path: path.clone(), target: target.clone() });
        self.drain(false)
    }

    /// Takes in a file of so many bytes; its entry is written when its content is stored.
    pub(super) fn push_file(
        &mut self,
        path: &EntryPath,
        entry: NewEntry,
        size: u64,
        content: &mut dyn Read,
    ) -> Result<(), PublisherError> {
        self.check_size(path, size)?;
        self.check_parent(path)?;
        let mut counted = Counted::new(content, &self.progress);
        let sent = self.draft.send(&mut counted);
        let read = counted.bytes;
        let ticket = sent.map_err(translate_stage(&self.repository, path))?;
        if read != size {
            self.queue.waiting.push_back(Waiting::Nothing);
            let why = format!("it has {read} bytes instead of {size}");
            let source = io::Error::new(io::ErrorKind::InvalidData, why);
            return Err(PublisherError::Content { path: path.clone(), source });
        }
        self.note_leaf(path);
        self.queue.waiting.push_back(Waiting::File { path: path.clone(), entry, ticket });
        self.drain(false)
    }

    /// Writes the entries at the head of the queue whose content is stored. An error is that of an entry which was taken
    /// in before, and nothing can be made of the transaction then.
    pub(super) fn drain(&mut self, wait: bool) -> Result<(), PublisherError> {
        while let Some(first) = self.queue.waiting.pop_front() {
            let wait = wait || self.queue.waiting.len() >= MOST_WAITING;
            let written = match first {
                Waiting::Entry { path, entry } => {
                    self.queue.leaves.remove(&path);
                    self.write(&path, &entry)
                }
                Waiting::Link { path, target } => {
                    self.queue.leaves.remove(&path);
                    self.write_link(&path, &target)
                }
                Waiting::Nothing => match self.next_stored(wait)? {
                    None => {
                        self.queue.waiting.push_front(Waiting::Nothing);
                        return Ok(());
                    }
                    Some(_) => Ok(()),
                },
                Waiting::File { path, mut entry, ticket } => match self.next_stored(wait)? {
                    None => {
                        self.queue.waiting.push_front(Waiting::File { path, entry, ticket });
                        return Ok(());
                    }
                    Some((stored, kind)) => {
                        debug_assert_eq!(stored, ticket, "contents come back in the order of their entries");
                        entry.kind = kind;
                        self.progress.add_file();
                        self.queue.leaves.remove(&path);
                        self.write(&path, &entry)
                    }
                },
            };
            if written.is_err() {
                self.broken = true;
            }
            written?;
        }
        Ok(())
    }

    fn note_leaf(&mut self, path: &EntryPath) {
        if self.checked_parent.as_ref().is_some_and(|parent| parent.is_within(path)) {
            self.checked_parent = None;
        }
        self.queue.leaves.insert(path.clone());
    }

    fn next_stored(&mut self, wait: bool) -> Result<Option<(Ticket, NewKind)>, PublisherError> {
        let stored = self.draft.next_stored(wait);
        self.broken |= stored.is_err();
        stored.map_err(translate(&self.repository, "store a file"))
    }

    /// Refuses early what cannot go where it is to go. Entries that are on their way are looked at when they are written.
    fn check_parent(&mut self, path: &EntryPath) -> Result<(), PublisherError> {
        if self.checked_parent == path.parent() {
            return Ok(());
        }
        let leaf_is_on_its_way = |parent: &EntryPath| self.queue.leaves.contains(parent);
        let mut above = std::iter::successors(path.parent(), EntryPath::parent);
        let changes = !self.queue.leaves.is_empty() && above.any(|parent| leaf_is_on_its_way(&parent));
        if changes || self.parent_in_the_way(path)?.is_some() {
            // What is on its way decides.
            self.drain(true)?;
            if let Some((parent, what)) = self.parent_in_the_way(path)? {
                return Err(conflict(&parent, format!("it is {what}, not a directory")));
            }
        }
        self.checked_parent = path.parent();
        Ok(())
    }

    fn parent_in_the_way(&mut self, path: &EntryPath) -> Result<Option<(EntryPath, &'static str)>, PublisherError> {
        let mut next = path.parent();
        while let Some(parent) = next {
            match self.lookup(&parent)? {
                Some(entry) if entry.is_directory() => break,
                Some(entry) if entry.is_symlink() => return Ok(Some((parent, "a symbolic link"))),
                Some(_) => return Ok(Some((parent, "a file"))),
                None => next = parent.parent(),
            }
        }
        Ok(None)
    }
}

/// A content whose bytes are counted as they are read.
pub(super) struct Counted<'a> {
    content: &'a mut dyn Read,
    bytes: u64,
    progress: &'a Counters,
}

impl<'a> Counted<'a> {
    pub(super) fn new(content: &'a mut dyn Read, progress: &'a Counters) -> Self {
        Self { content, bytes: 0, progress }
    }
}

impl Read for Counted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.content.read(buffer)?;
        self.bytes += count as u64;
        self.progress.add_bytes(count as u64);
        Ok(count)
    }
}
