//! What is shown beside what was published. Differences begin with the path.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use conveyor::cvmfs::catalog::Entry;
use walkdir::WalkDir;

use super::published::{Published, REPOSITORY};
use super::source::{Node, Source};
use crate::harness::{LARGEST_WHOLE_FILE, Mount, Served};

/// Reads everything with our own reader, all contents among it.
pub(super) fn differences_in_reader(published: &Published, tree: &Source) -> Vec<String> {
    let (reader, base) = (published.reader(), published.base());
    let mut catalogs = reader.tree().unwrap();
    let mut shown = BTreeMap::new();
    catalogs
        .walk(base.as_bytes(), |path, entry| {
            if let Some(below) = path.strip_prefix(base.as_bytes()).and_then(|rest| rest.strip_prefix(b"/")) {
                shown.insert(PathBuf::from(OsString::from_vec(below.to_vec())), node_of(entry));
            }
            Ok(())
        })
        .unwrap();
    let mut wrong = differing_entries(&shown, tree);
    wrong.extend(differing_contents(tree.files().filter(|path| same(&shown, tree, path)), tree, |path| {
        let path = [base.as_bytes(), path.as_os_str().as_bytes()].join(&b'/');
        catalogs.file(&path).map_err(io::Error::other)
    }));
    wrong
}

/// Looks at every entry below a mounted tree, and reads every `step`th file, beginning with the one of number `first`.
/// A difference in the content of a large file counts if new clients show it, too.
pub(super) fn differences_in_mount(
    published: &Published,
    served: &Served,
    tree: &Source,
    first: usize,
    step: usize,
) -> Vec<String> {
    let mount = Mount::new(served.url(), REPOSITORY);
    let root = published.in_mount(mount.path());
    let mut shown = BTreeMap::new();
    for found in WalkDir::new(&root).min_depth(1) {
        let found = found.unwrap();
        let path = found.path().strip_prefix(&root).unwrap().to_owned();
        shown.insert(path, Node::of(found.path()).unwrap());
    }
    let mut wrong = differing_entries(&shown, tree);
    let sample = tree.files().skip(first).step_by(step).filter(|path| same(&shown, tree, path));
    for path in sample {
        let look = |root: &Path| differing_contents([path].into_iter(), tree, |path| File::open(root.join(path))).pop();
        let mut difference = look(&root);
        if difference.is_some() && tree.size(path) > LARGEST_WHOLE_FILE {
            let look = |mountpoint: &Path| look(&published.in_mount(mountpoint));
            difference = Mount::confirmed(served.url(), REPOSITORY, look);
        }
        wrong.extend(difference);
    }
    wrong
}

fn node_of(entry: &Entry) -> Node {
    let (mode, mtime) = (entry.permissions(), entry.mtime);
    if entry.is_directory() {
        Node::Directory { mode, mtime }
    } else if entry.is_symlink() {
        Node::Link { mtime, target: OsString::from_vec(entry.symlink.clone()).into() }
    } else {
        assert!(entry.is_file(), "{entry:?}");
        Node::File { mode, mtime, size: entry.size }
    }
}

fn differing_entries(shown: &BTreeMap<PathBuf, Node>, tree: &Source) -> Vec<String> {
    let paths: BTreeSet<_> = shown.keys().chain(tree.entries().keys()).collect();
    let differing = paths.into_iter().filter_map(|path| match (tree.entries().get(path), shown.get(path)) {
        (Some(node), Some(shown)) if node == shown => None,
        (node, shown) => Some(format!("{}: published {node:?}, shown {shown:?}", path.display())),
    });
    differing.collect()
}

/// Tells whether an entry is shown as it was published: only then are contents comparable.
fn same(shown: &BTreeMap<PathBuf, Node>, tree: &Source, path: &Path) -> bool {
    shown.get(path) == tree.entries().get(path)
}

fn differing_contents<'t, R: Read>(
    files: impl Iterator<Item = &'t Path>,
    tree: &Source,
    mut open: impl FnMut(&Path) -> io::Result<R>,
) -> Vec<String> {
    let differing = files.filter_map(|path| match open(path).and_then(|shown| is_same(tree.open(path), shown)) {
        Ok(true) => None,
        Ok(false) => Some(format!("{}: other content", path.display())),
        Err(error) => Some(format!("{}: {error}", path.display())),
    });
    differing.collect()
}

fn is_same(mut one: impl Read, mut other: impl Read) -> io::Result<bool> {
    let (mut left, mut right) = ([0; 1 << 16], [0; 1 << 16]);
    loop {
        let count = fill(&mut one, &mut left)?;
        if count != fill(&mut other, &mut right)? || left[..count] != right[..count] {
            return Ok(false);
        }
        if count == 0 {
            return Ok(true);
        }
    }
}

/// Reads until the buffer is full or the content ends.
fn fill(from: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut count = 0;
    while count < buffer.len() {
        match from.read(&mut buffer[count..])? {
            0 => break,
            more => count += more,
        }
    }
    Ok(count)
}
