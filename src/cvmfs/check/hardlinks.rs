//! Hard links: entries of one directory that name the same file. A group's number is the catalog's.

use std::collections::HashMap;

use super::super::catalog::{Entry, Flags, PathHash};
use super::report::Code;

/// A group of hard links in a directory.
#[derive(Debug)]
struct Group {
    first: Entry,
    path: Vec<u8>,
    links: u32,
}

/// The groups of one catalog.
#[derive(Debug, Default)]
pub(super) struct Hardlinks {
    groups: HashMap<(u32, PathHash), Group>,
    homes: HashMap<u32, PathHash>,
}

impl Hardlinks {
    /// Takes in an entry that is no directory.
    pub(super) fn add(&mut self, directory: PathHash, entry: &Entry, path: &[u8], say: &mut dyn FnMut(Code, String)) {
        let (number, links) = (entry.hardlink_group(), entry.link_count());
        if number == 0 {
            if links > 1 {
                say(Code::HardlinkGroup, format!("it has {links} links and is in no group of hard links"));
            }
            return;
        }
        if *self.homes.entry(number).or_insert(directory) != directory {
            say(Code::HardlinkGroup, format!("its group of hard links, {number}, is another directory's too"));
        }
        match self.groups.entry((number, directory)) {
            std::collections::hash_map::Entry::Vacant(slot) => {
                slot.insert(Group { first: entry.clone(), path: path.to_vec(), links: 1 });
            }
            std::collections::hash_map::Entry::Occupied(mut slot) => {
                let group = slot.get_mut();
                group.links = group.links.saturating_add(1);
                let differences = differences(&group.first, entry, 0);
                if !differences.is_empty() {
                    let first = String::from_utf8_lossy(&group.first.name);
                    say(
                        Code::HardlinkDiffers,
                        format!("it is a hard link of {first:?}, which has another {differences}"),
                    );
                }
            }
        }
    }

    /// Compares link counts with the entries that were found.
    pub(super) fn finish(self, say: &mut dyn FnMut(&[u8], Code, String)) {
        for group in self.groups.into_values() {
            let stated = group.first.link_count();
            if stated != group.links {
                let message = format!("its link count is {stated}, its directory has {} links to it", group.links);
                say(&group.path, Code::HardlinkCount, message);
            }
        }
    }
}

/// What two entries differ in, names aside, as words; flags are compared without those of `ignored`.
pub(super) fn differences(a: &Entry, b: &Entry, ignored: u32) -> String {
    let fields = [
        ("link count", a.link_count() == b.link_count()),
        ("group of hard links", a.hardlink_group() == b.hardlink_group()),
        ("size", a.size == b.size),
        ("mode", a.mode == b.mode),
        ("mtime", (a.mtime, a.mtime_ns) == (b.mtime, b.mtime_ns)),
        ("owner", (a.uid, a.gid) == (b.uid, b.gid)),
        ("hash", a.hash == b.hash),
        ("target", a.symlink == b.symlink),
        ("set of extended attributes", a.xattr == b.xattr),
        ("set of flags", a.flags.0 & !ignored == b.flags.0 & !ignored),
    ];
    let names: Vec<_> = fields.into_iter().filter(|(_, same)| !same).map(|(name, _)| name).collect();
    names.join(", ")
}

/// The flags in which the two ends of a transition between catalogs differ.
pub(super) const TRANSITION: u32 = Flags::NESTED_MOUNTPOINT | Flags::NESTED_ROOT;
