//! After a publish: is everything in the new revision as it was staged? `cvmfs_server` can succeed without it, such as for
//! what lies outside a gateway's lease.
//!
//! Type, size, permissions, time, owner and target are compared with the catalogs. Contents are not: their hashes are not
//! known before `cvmfs_server` has read the files.

use std::collections::HashSet;

use nix::libc;

use crate::cvmfs::Error;
use crate::cvmfs::catalog::{Entry, join, split};
use crate::cvmfs::edit::{AUTO_MARKER, MARKER};
use crate::cvmfs::hash::ContentHash;
use crate::cvmfs::reader::Reader;
use crate::cvmfs::tree::Tree;
use crate::domain::tree::EntryPath;
use crate::publisher::Mismatch;

use super::upper::{Change, Kind, State};

/// So many are named: enough to tell which jobs of a batch they belong to.
const NAMED: usize = 1000;

/// The name of a file that describes a content which is stored already begins so.
const GRAFT: &[u8] = b".cvmfsgraft-";

/// What is not as it was staged.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Mismatches {
    /// The first ones, sorted by path.
    pub(super) named: Vec<Mismatch>,
    /// How many there are.
    pub(super) count: u64,
}

/// Looks up each change, sorted by path, in the catalogs of a revision. `ignores_special_files` says that the repository
/// leaves devices, FIFOs and sockets out.
pub(super) fn verify(
    reader: &Reader,
    root: &ContentHash,
    changes: &[Change],
    ignores_special_files: bool,
) -> Result<Mismatches, Error> {
    let mut tree = reader.tree_at(root)?;
    let grafted = grafted(changes);
    let mut found = Mismatches::default();
    for change in changes {
        let why = match &change.now {
            None => left_over(&mut tree, &change.path)?,
            Some(now) if now.is_special() && ignores_special_files => None,
            Some(now) => {
                let is_grafted = grafted.contains(change.path.as_bytes());
                difference(&mut tree, change, now, is_grafted)?
            }
        };
        if let Some(why) = why {
            found.count += 1;
            if found.named.len() < NAMED {
                found.named.push(Mismatch { path: change.path.clone(), why });
            }
        }
    }
    Ok(found)
}

/// The files whose content is described by another file beside them.
fn grafted(changes: &[Change]) -> HashSet<Vec<u8>> {
    let graft = |change: &Change| {
        let (directory, name) = split(change.path.as_bytes())?;
        Some(join(directory, name.strip_prefix(GRAFT)?))
    };
    changes.iter().filter(|change| change.kind != Kind::Removed).filter_map(graft).collect()
}

fn left_over(tree: &mut Tree<'_>, path: &EntryPath) -> Result<Option<String>, Error> {
    // `cvmfs_server` makes these by itself, by its rules.
    if matches!(name(path), MARKER | AUTO_MARKER) || tree.lookup(path.as_bytes())?.is_none() {
        return Ok(None);
    }
    Ok(Some("it was removed and is still there".into()))
}

fn difference(tree: &mut Tree<'_>, change: &Change, now: &State, is_grafted: bool) -> Result<Option<String>, Error> {
    let path = change.path.as_bytes();
    let name = name(&change.path);
    if name == AUTO_MARKER || name.starts_with(GRAFT) {
        return Ok(None);
    }
    let Some(entry) = tree.lookup(path)? else { return Ok(Some("it is missing".into())) };
    if name == MARKER {
        return Ok(None);
    }
    let differs = |what: &str, found: &dyn std::fmt::Display, staged: &dyn std::fmt::Display| {
        Ok(Some(format!("its {what} is {found}, and was staged as {staged}")))
    };
    let (kind, staged_kind) = (entry.mode & libc::S_IFMT, now.mode & libc::S_IFMT);
    if kind != staged_kind {
        return differs("type", &type_name(kind), &type_name(staged_kind));
    }
    if !now.is_directory() && now.target.is_none() && !is_grafted && entry.size != now.size {
        return differs("size", &entry.size, &now.size);
    }
    if let Some(target) = &now.target
        && entry.symlink[..] != target[..]
    {
        return differs("target", &entry.symlink.escape_ascii(), &target.escape_ascii());
    }
    let permissions = now.mode & 0o7777;
    if entry.permissions() != permissions {
        return differs("mode", &format!("{:04o}", entry.permissions()), &format!("{permissions:04o}"));
    }
    if (entry.uid, entry.gid) != (now.uid, now.gid) {
        return differs("owner", &format!("{}:{}", entry.uid, entry.gid), &format!("{}:{}", now.uid, now.gid));
    }
    if entry.mtime != now.mtime && !was_split(tree, path, &entry)? {
        return differs("time", &entry.mtime, &now.mtime);
    }
    Ok(None)
}

/// Tells whether `cvmfs_server` may have put its marker into a directory before it published, which changed the time.
fn was_split(tree: &mut Tree<'_>, path: &[u8], entry: &Entry) -> Result<bool, Error> {
    Ok(entry.is_directory() && tree.lookup(&join(path, MARKER))?.is_some_and(|marker| marker.mtime == entry.mtime))
}

fn name(path: &EntryPath) -> &[u8] {
    split(path.as_bytes()).map_or(b"", |(_, name)| name)
}

fn type_name(kind: u32) -> &'static str {
    match kind {
        libc::S_IFDIR => "a directory",
        libc::S_IFREG => "a file",
        libc::S_IFLNK => "a symbolic link",
        libc::S_IFIFO => "a FIFO",
        libc::S_IFSOCK => "a socket",
        libc::S_IFCHR => "a character device",
        libc::S_IFBLK => "a block device",
        _ => "unknown",
    }
}
