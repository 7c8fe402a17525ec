//! A tree on this machine: where it is, what it holds, and the archive that is made of it.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use walkdir::WalkDir;

/// What is compared of an entry, beside a file's content. A link has neither mode nor size of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Node {
    Directory { mode: u32, mtime: i64 },
    File { mode: u32, mtime: i64, size: u64 },
    Link { mtime: i64, target: PathBuf },
}

/// A tree, as it was when it was scanned.
pub(super) struct Source {
    root: PathBuf,
    entries: BTreeMap<PathBuf, Node>,
}

impl Node {
    /// Looks at an entry, following nothing.
    pub(super) fn of(path: &Path) -> io::Result<Self> {
        let metadata = path.symlink_metadata()?;
        let (mode, mtime, kind) = (metadata.mode() & 0o7777, metadata.mtime(), metadata.file_type());
        if kind.is_dir() {
            Ok(Self::Directory { mode, mtime })
        } else if kind.is_symlink() {
            Ok(Self::Link { mtime, target: fs::read_link(path)? })
        } else if kind.is_file() {
            Ok(Self::File { mode, mtime, size: metadata.len() })
        } else {
            Err(io::Error::other(format!("{}: {kind:?}", path.display())))
        }
    }
}

impl Source {
    /// The tree of that name in the directory that `CONVEYOR_TEST_TREES` names, `target/trees` by default; or why there
    /// is none.
    pub(super) fn find(name: &str) -> Result<Self, String> {
        let trees = std::env::var_os("CONVEYOR_TEST_TREES").map(PathBuf::from);
        let trees = trees.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("target/trees"));
        let place = trees.join(name);
        match fs::canonicalize(&place) {
            Ok(root) => Ok(Self::scan(&root)),
            Err(error) => Err(format!("no tree at {}: {error} (scripts/test finds or fetches it)", place.display())),
        }
    }

    /// Looks at all of a tree. Links that lead out of it are left out: payloads with such links are refused.
    pub(super) fn scan(root: &Path) -> Self {
        let mut entries = BTreeMap::new();
        for found in WalkDir::new(root).min_depth(1) {
            let found = found.unwrap();
            let path = found.path().strip_prefix(root).unwrap().to_owned();
            let node = Node::of(found.path()).unwrap();
            if !matches!(&node, Node::Link { target, .. } if leads_out(&path, target)) {
                entries.insert(path, node);
            }
        }
        Self { root: root.to_owned(), entries }
    }

    /// Bytes of a file; 0 for anything else.
    pub(super) fn size(&self, path: &Path) -> u64 {
        if let Some(Node::File { size, .. }) = self.entries.get(path) { *size } else { 0 }
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    pub(super) fn entries(&self) -> &BTreeMap<PathBuf, Node> {
        &self.entries
    }

    /// The paths of all regular files, in order.
    pub(super) fn files(&self) -> impl Iterator<Item = &Path> {
        self.entries.iter().filter(|(_, node)| matches!(node, Node::File { .. })).map(|(path, _)| path.as_path())
    }

    /// A file's content.
    pub(super) fn open(&self, path: &Path) -> File {
        File::open(self.root.join(path)).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    /// Writes the tree as an archive. Each of a file's hard links comes with the content.
    pub(super) fn pack(&self, archive: impl Write) -> io::Result<()> {
        let mut tar = tar::Builder::new(archive);
        for (path, node) in &self.entries {
            let mut header = tar::Header::new_gnu();
            header.set_size(0);
            header.set_uid(0);
            header.set_gid(0);
            match node {
                Node::Directory { mode, mtime } => {
                    set(&mut header, tar::EntryType::Directory, *mode, *mtime);
                    tar.append_data(&mut header, path, io::empty())?;
                }
                Node::Link { mtime, target } => {
                    set(&mut header, tar::EntryType::Symlink, 0o777, *mtime);
                    tar.append_link(&mut header, path, target)?;
                }
                Node::File { mode, mtime, size } => {
                    set(&mut header, tar::EntryType::Regular, *mode, *mtime);
                    header.set_size(*size);
                    tar.append_data(&mut header, path, self.open(path).take(*size))?;
                }
            }
        }
        tar.into_inner()?.flush()
    }
}

fn set(header: &mut tar::Header, kind: tar::EntryType, mode: u32, mtime: i64) {
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_mtime(u64::try_from(mtime).unwrap());
}

/// Tells whether a link names something outside of the tree that it is in.
fn leads_out(link: &Path, target: &Path) -> bool {
    let mut depth = link.components().count() - 1;
    for part in target.components() {
        match part {
            Component::Normal(_) => depth += 1,
            Component::CurDir => {}
            Component::ParentDir if depth > 0 => depth -= 1,
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => return true,
        }
    }
    false
}
