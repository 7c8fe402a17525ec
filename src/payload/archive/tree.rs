//! What an archive has put where so far, and which entries that rules out.
//!
//! The rules make an archive mean the same to every program and keep it in its directory, whatever the order in which a
//! publisher writes: no path is a directory and something else, nothing lies below a symbolic link.

use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, Hasher, RandomState};

use sha2::{Digest, Sha256};

use super::error::{Refusal, shown};
use crate::domain::tree::EntryPath;

/// The longest target that Linux takes in a symbolic link.
const MAX_TARGET: usize = 4095;

/// Bytes that are remembered of links which climb: those of real software take thousands.
const MAX_CLIMBS: usize = 16 << 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seen {
    /// Named, or implied by something below it.
    Directory,
    File,
    Symlink,
}

/// A symbolic link with a `..` that is taken after a part of its target: it means what it says only while that part is
/// a real directory.
struct Climb {
    link: EntryPath,
    through: EntryPath,
}

/// Stands for a path: there may be millions, each up to 4000 bytes long. The hash is keyed with what no archive can know,
/// so nobody can make up two paths that have the same.
type Key = [u8; 15];

/// Takes the first bytes of a key as they are: they are a hash already.
#[derive(Default)]
struct FirstBytes(u64);

impl Hasher for FirstBytes {
    fn write(&mut self, bytes: &[u8]) {
        let mut first = [0; 8];
        first.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
        self.0 = u64::from_le_bytes(first);
    }

    // The length of a key is always the same.
    fn write_usize(&mut self, _: usize) {}

    fn finish(&self) -> u64 {
        self.0
    }
}

/// All paths of an archive so far, relative to the directory where it goes.
pub(super) struct Tree {
    seen: HashMap<Key, Seen, BuildHasherDefault<FirstBytes>>,
    /// A hash function that has taken in its key.
    keyed: Sha256,
    climbs: Vec<Climb>,
    climbs_bytes: usize,
    /// The parts of that directory's absolute path on a client.
    absolute: Vec<Vec<u8>>,
}

impl Tree {
    /// `base` is where the archive goes in the repository that clients see at `absolute_root`.
    pub(super) fn new(base: &EntryPath, absolute_root: &str) -> Self {
        let root = parts(absolute_root.as_bytes());
        let absolute = root.chain(base.parts()).map(<[u8]>::to_vec).collect();
        let random = RandomState::new();
        let keyed = [0_u8, 1].map(|half| random.hash_one(half).to_le_bytes());
        let keyed = Sha256::new().chain_update(keyed.as_flattened());
        Self { seen: HashMap::default(), keyed, climbs: Vec::new(), climbs_bytes: 0, absolute }
    }

    /// Paths that are known, directories among them that are only implied.
    pub(super) fn len(&self) -> u64 {
        self.seen.len() as u64
    }

    fn key(&self, path: &EntryPath) -> Key {
        let digest = self.keyed.clone().chain_update(path.as_bytes()).finalize();
        let mut key = Key::default();
        key.iter_mut().zip(digest).for_each(|(to, from)| *to = from);
        key
    }

    fn seen(&self, path: &EntryPath) -> Option<Seen> {
        self.seen.get(&self.key(path)).copied()
    }

    /// Takes a directory; again is allowed, and so is the base itself.
    pub(super) fn directory(&mut self, path: &EntryPath) -> Result<(), Refusal> {
        if path.is_base() {
            return Ok(());
        }
        self.put(path, Seen::Directory)
    }

    /// Takes a regular file, in place of a file or link of the same name.
    pub(super) fn file(&mut self, path: &EntryPath) -> Result<(), Refusal> {
        self.put(path, Seen::File)
    }

    /// Takes a symbolic link, in place of a file or link of the same name.
    pub(super) fn symlink(&mut self, path: &EntryPath, target: &[u8]) -> Result<(), Refusal> {
        self.check_target(path, target)?;
        self.put(path, Seen::Symlink)
    }

    /// Takes a hard link to a file of the same archive and returns that file's path.
    pub(super) fn hard_link(&mut self, path: &EntryPath, target: &[u8]) -> Result<EntryPath, Refusal> {
        let refuse = |why| Err(Refusal::HardLink { target: shown(target), why });
        let Ok(to) = EntryPath::new(target) else {
            return refuse("which is not a path within the archive");
        };
        if to == *path {
            return refuse("which is itself");
        }
        match self.seen(&to) {
            Some(Seen::File) => {}
            Some(Seen::Directory) => return refuse("which is a directory"),
            Some(Seen::Symlink) => return refuse("which is a symbolic link"),
            None => return refuse("which is not an earlier file of the archive"),
        }
        self.put(path, Seen::File)?;
        Ok(to)
    }

    /// Settles, once all links are known, which of them climb out of another one.
    pub(super) fn finish(&self) -> Result<(), (EntryPath, Refusal)> {
        for Climb { link, through } in &self.climbs {
            let mut step = Some(through.clone());
            while let Some(path) = step {
                if self.seen(&path) == Some(Seen::Symlink) {
                    return Err((link.clone(), Refusal::ClimbsThroughLink { through: path }));
                }
                step = path.parent();
            }
        }
        Ok(())
    }

    fn put(&mut self, path: &EntryPath, new: Seen) -> Result<(), Refusal> {
        if path.is_base() {
            return Err(Refusal::NoName);
        }
        let mut missing = Vec::new();
        let mut above = path.parent();
        while let Some(directory) = above.filter(|directory| !directory.is_base()) {
            match self.seen(&directory) {
                // What is above a known directory is known to be one.
                Some(Seen::Directory) => break,
                Some(Seen::File) => return Err(Refusal::Collision { path: directory }),
                Some(Seen::Symlink) => return Err(Refusal::ThroughLink { link: directory }),
                None => {}
            }
            above = directory.parent();
            missing.push(directory);
        }
        let key = self.key(path);
        if let Some(old) = self.seen.get(&key)
            && (*old == Seen::Directory) != (new == Seen::Directory)
        {
            return Err(Refusal::Collision { path: path.clone() });
        }
        for directory in missing {
            self.seen.insert(self.key(&directory), Seen::Directory);
        }
        self.seen.insert(key, new);
        Ok(())
    }

    /// Follows a target by its text from where the link stands.
    fn check_target(&mut self, path: &EntryPath, target: &[u8]) -> Result<(), Refusal> {
        match target {
            [] => return Err(Refusal::LinkTarget("is empty")),
            _ if target.contains(&0) => return Err(Refusal::LinkTarget("contains a NUL byte")),
            _ if target.len() > MAX_TARGET => return Err(Refusal::LinkTarget("is longer than 4095 bytes")),
            _ => {}
        }
        let outside = || Refusal::LinkOutside { target: shown(target) };
        if target.starts_with(b"/") {
            // With `..` in it, what an absolute path means depends on links that are not in the archive.
            let inside = parts(target).take(self.absolute.len()).eq(self.absolute.iter().map(Vec::as_slice));
            return if inside && parts(target).all(|part| part != b"..") { Ok(()) } else { Err(outside()) };
        }
        let parent = path.parent().unwrap_or_else(EntryPath::base);
        let mut at: Vec<&[u8]> = parent.parts().collect();
        let mut from_target = 0usize;
        for part in parts(target) {
            if part != b".." {
                at.push(part);
                from_target += 1;
                continue;
            }
            if from_target > 0 {
                if let Ok(through) = EntryPath::new(&at.join(&b'/')) {
                    self.climbs_bytes += size_of::<Climb>() + path.as_bytes().len() + through.as_bytes().len();
                    if self.climbs_bytes > MAX_CLIMBS {
                        return Err(Refusal::LinkTarget("climbs with `..`, as too many links of this archive do"));
                    }
                    self.climbs.push(Climb { link: path.clone(), through });
                }
                from_target -= 1;
            }
            at.pop().ok_or_else(outside)?;
        }
        Ok(())
    }
}

fn parts(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.split(|b| *b == b'/').filter(|part| !matches!(*part, b"" | b"."))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn path(text: &str) -> EntryPath {
        EntryPath::new(text.as_bytes()).unwrap()
    }

    fn tree() -> Tree {
        Tree::new(&path("apps/x"), "/cvmfs/software.example.org")
    }

    fn link(at: &str, target: &str) -> Result<(), Refusal> {
        tree().symlink(&path(at), target.as_bytes())
    }

    #[test]
    fn a_link_may_lead_anywhere_within() {
        for (at, target) in [
            ("l", "a"),
            ("l", "."),
            ("l", "absent/too"),
            ("a/l", ".."),
            ("a/b/l", "../../c"),
            ("a/l", "../a/../b"),
            ("l", "$(OSTYPE)/lib"),
            ("l", "/cvmfs/software.example.org/apps/x"),
            ("l", "/cvmfs//software.example.org/./apps/x/y"),
        ] {
            assert_eq!(link(at, target), Ok(()), "{at} -> {target}");
        }
    }

    #[test]
    fn a_link_that_leads_out_is_refused() {
        for (at, target) in [
            ("l", ".."),
            ("l", "../x"),
            ("a/l", "../.."),
            ("a/l", "../../x/a"),
            ("l", "a/../.."),
            ("l", "/"),
            ("l", "/etc/passwd"),
            ("l", "//etc"),
            ("l", "/cvmfs/software.example.org/apps"),
            ("l", "/cvmfs/software.example.org/apps/xy"),
            ("l", "/cvmfs/software.example.org/apps/x/../y"),
            ("l", "/cvmfs/other.example.org/apps/x"),
        ] {
            assert!(matches!(link(at, target), Err(Refusal::LinkOutside { .. })), "{at} -> {target}");
        }
        for target in ["", "a\0b", &"a/".repeat(2048)] {
            assert!(matches!(link("l", target), Err(Refusal::LinkTarget(_))), "{target:?}");
        }
    }

    #[test]
    fn a_link_that_climbs_out_of_another_link_is_refused_in_either_order() {
        // By its text `climb` is `a`; followed, it is the base's grandparent.
        let links = [("a/b/up", "../.."), ("climb", "a/b/up/../..")];
        for order in [[0, 1], [1, 0]] {
            let mut tree = tree();
            for (at, target) in order.map(|i| links[i]) {
                tree.symlink(&path(at), target.as_bytes()).unwrap();
            }
            let (link, why) = tree.finish().unwrap_err();
            assert_eq!((link, why), (path("climb"), Refusal::ClimbsThroughLink { through: path("a/b/up") }));
        }
        let mut tree = tree();
        tree.directory(&path("a/b")).unwrap();
        tree.symlink(&path("fine"), b"a/b/../b/../c").unwrap();
        assert!(tree.finish().is_ok());
    }

    #[test]
    fn what_is_remembered_of_climbing_links_is_bounded() {
        let (mut tree, target) = (tree(), "a/../".repeat(800));
        let refused = (0..5000).find_map(|number| tree.symlink(&path(&number.to_string()), target.as_bytes()).err());
        assert!(matches!(refused, Some(Refusal::LinkTarget(_))), "{refused:?}");
    }

    #[test]
    fn nothing_goes_through_a_link_or_below_a_file() {
        let mut tree = tree();
        tree.symlink(&path("l"), b"d").unwrap();
        tree.file(&path("f")).unwrap();
        assert_eq!(tree.file(&path("l/x")), Err(Refusal::ThroughLink { link: path("l") }));
        assert_eq!(tree.directory(&path("l/x/y")), Err(Refusal::ThroughLink { link: path("l") }));
        assert_eq!(tree.symlink(&path("f/x"), b"y"), Err(Refusal::Collision { path: path("f") }));
        assert_eq!(tree.directory(&path("l")), Err(Refusal::Collision { path: path("l") }));
    }

    #[test]
    fn a_directory_stays_one_also_when_it_is_only_implied() {
        let mut tree = tree();
        tree.file(&path("a/b/c")).unwrap();
        for refused in [tree.file(&path("a/b")), tree.symlink(&path("a"), b"x")] {
            assert!(matches!(refused, Err(Refusal::Collision { .. })));
        }
        tree.directory(&path("a/b")).unwrap();
        tree.directory(&path("a/b")).unwrap();
        tree.file(&path("a/b/c")).unwrap();
        tree.symlink(&path("a/b/c"), b"d").unwrap();
        assert_eq!(tree.file(&path("a/b/c/d")), Err(Refusal::ThroughLink { link: path("a/b/c") }));
    }

    #[test]
    fn a_hard_link_needs_an_earlier_file() {
        let mut tree = tree();
        tree.file(&path("d/f")).unwrap();
        tree.symlink(&path("s"), b"d/f").unwrap();
        assert_eq!(tree.hard_link(&path("h"), b"./d/f"), Ok(path("d/f")));
        assert_eq!(tree.hard_link(&path("i"), b"h"), Ok(path("h")));
        for bad in ["", ".", "d", "s", "later", "/d/f", "../d/f", "d/../../d/f", "h/x", "j", "a\0"] {
            assert!(matches!(tree.hard_link(&path("j"), bad.as_bytes()), Err(Refusal::HardLink { .. })), "{bad:?}");
        }
        assert!(matches!(tree.hard_link(&path("h"), b"h"), Err(Refusal::HardLink { why: "which is itself", .. })));
    }

    #[test]
    fn only_a_directory_can_be_the_base() {
        let mut tree = tree();
        assert!(tree.directory(&EntryPath::base()).is_ok());
        assert_eq!(tree.file(&EntryPath::base()), Err(Refusal::NoName));
        assert_eq!(tree.symlink(&EntryPath::base(), b"x"), Err(Refusal::NoName));
    }
}
