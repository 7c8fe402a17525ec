//! A large real tree: what it holds, as an archive, and as it is found again.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::harness::LARGEST_WHOLE_FILE;
use sha2::{Digest, Sha256};
use walkdir::WalkDir;

use crate::harness::noise;

/// Files that are taken from this machine.
const MOST: usize = 4000;
const LEAST: usize = 3000;
/// Larger files of this machine are left out.
const LARGEST: u64 = 4 << 20;
/// The size of the one large file.
const LARGE: usize = 60_000_000;
/// The folder of the files that no machine has.
pub(super) const EXTRA_FOLDER: &str = "made by the test";
/// 2001-09-09, long before anything here was written.
const LONG_AGO: i64 = 1_000_000_000;

/// One entry of the tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Node {
    pub(super) item: Item,
    pub(super) mode: u32,
    pub(super) mtime: i64,
    /// Where the content is, where it is to be packed.
    content: Content,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Item {
    File { size: u64, sha256: String },
    Directory,
    Link(String),
}

impl Node {
    /// Tells whether it is a file that is published in chunks.
    pub(super) fn is_in_chunks(&self) -> bool {
        matches!(self.item, Item::File { size, .. } if size > LARGEST_WHOLE_FILE)
    }

    /// The same with another content.
    pub(super) fn with(&self, item: Item) -> Self {
        Self { item, content: Content::None, ..*self }
    }
}

#[derive(Clone, PartialEq, Eq)]
enum Content {
    None,
    At(PathBuf),
    Bytes(Vec<u8>),
}

impl std::fmt::Debug for Content {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("…")
    }
}

/// At least [`LEAST`] files of this machine below `host/`, and files that no machine has.
pub(super) fn large() -> BTreeMap<String, Node> {
    let mut tree = sources().find_map(|root| collect(&root)).expect("no tree with enough files on this machine");
    directory(&mut tree, EXTRA_FOLDER, 0o755);
    for (name, mode, content) in [
        ("with space and 'quotes'\"", 0o600, &b"a"[..]),
        ("größe-日本語-🚀", 0o755, b"#!/bin/sh\n"),
        ("empty", 0o444, b""),
        ("new\nline", 0o640, b"n"),
        ("setuid", 0o4755, b"s"),
        ("setgid", 0o2755, b"g"),
    ] {
        file(&mut tree, &format!("{EXTRA_FOLDER}/{name}"), mode, content.to_vec());
    }
    directory(&mut tree, &format!("{EXTRA_FOLDER}/empty directory"), 0o700);
    directory(&mut tree, &format!("{EXTRA_FOLDER}/sticky"), 0o1777);
    link(&mut tree, &format!("{EXTRA_FOLDER}/link"), "empty");
    link(&mut tree, &format!("{EXTRA_FOLDER}/sticky/up"), "../with space and 'quotes'\"");
    link(&mut tree, "dangling", "nowhere/to/be found");
    file(&mut tree, "large", 0o644, noise(LARGE));
    tree
}

/// One thing of each kind.
pub(super) fn small() -> BTreeMap<String, Node> {
    let mut tree = BTreeMap::new();
    for name in ["content", "other content", "mode", "time", "unexpected"] {
        // All of one size: only the hash tells them apart.
        file(&mut tree, name, 0o644, format!("{name:20}").into_bytes());
    }
    link(&mut tree, "link", "mode");
    tree
}

/// Every fiftieth file with another content, and kinds that change.
pub(super) fn replacement(tree: &BTreeMap<String, Node>) -> BTreeMap<String, Node> {
    let mut replaced = BTreeMap::new();
    let files = tree.iter().filter(|(path, node)| path.starts_with("host/") && matches!(node.item, Item::File { .. }));
    for (path, node) in files.step_by(50) {
        file(&mut replaced, path, node.mode ^ 0o100, format!("replaced {path}").into_bytes());
    }
    file(&mut replaced, "dangling", 0o644, b"no link any more".to_vec());
    link(&mut replaced, "large", "dangling");
    file(&mut replaced, "new", 0o644, b"new".to_vec());
    replaced
}

/// Places with many files, the best first.
fn sources() -> impl Iterator<Item = PathBuf> {
    let output = |program: &str, argument: &str| {
        let run = Command::new(program).args(["--print", argument]).output().ok()?;
        String::from_utf8(run.stdout).ok().map(|text| PathBuf::from(text.trim()))
    };
    let cargo = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cargo"));
    let registry = cargo.or(home).map(|home| home.join("registry/src"));
    let library = output("rustc", "sysroot").map(|root| root.join("lib/rustlib/src"));
    [registry, library, Some("/usr/lib/python3".into()), Some("/usr/share".into()), Some("/usr".into())]
        .into_iter()
        .flatten()
}

fn collect(root: &Path) -> Option<BTreeMap<String, Node>> {
    let mut tree = BTreeMap::new();
    let mut files = 0;
    for entry in WalkDir::new(root).sort_by_file_name().into_iter().flatten() {
        let Some(name) = entry.path().strip_prefix(root).ok().and_then(Path::to_str) else { continue };
        let (Ok(metadata), kind) = (entry.path().symlink_metadata(), entry.file_type()) else { continue };
        let path = if name.is_empty() { "host".to_owned() } else { format!("host/{name}") };
        let (mode, mtime) = (metadata.mode() & 0o7777, metadata.mtime());
        if kind.is_dir() {
            tree.insert(path, Node { item: Item::Directory, mode, mtime, content: Content::None });
        } else if kind.is_file() && metadata.len() <= LARGEST {
            let Ok(mut content) = File::open(entry.path()) else { continue };
            let item = Item::File { size: metadata.len(), sha256: sha256(&mut content) };
            tree.insert(path, Node { item, mode, mtime, content: Content::At(entry.path().to_owned()) });
            files += 1;
        } else if kind.is_symlink() {
            // Links that climb or begin at the root may lead out of the archive, which is refused.
            let target = fs::read_link(entry.path()).ok().and_then(|target| target.into_os_string().into_string().ok());
            if let Some(target) = target.filter(|target| !target.starts_with('/') && !target.contains("..")) {
                tree.insert(path, Node { item: Item::Link(target), mode, mtime, content: Content::None });
            }
        }
        if files == MOST {
            break;
        }
    }
    (files >= LEAST).then_some(tree)
}

fn file(tree: &mut BTreeMap<String, Node>, path: &str, mode: u32, content: Vec<u8>) {
    let item = Item::File { size: content.len() as u64, sha256: sha256(&mut &content[..]) };
    tree.insert(path.to_owned(), Node { item, mode, mtime: LONG_AGO, content: Content::Bytes(content) });
}

fn directory(tree: &mut BTreeMap<String, Node>, path: &str, mode: u32) {
    tree.insert(path.to_owned(), Node { item: Item::Directory, mode, mtime: LONG_AGO, content: Content::None });
}

fn link(tree: &mut BTreeMap<String, Node>, path: &str, target: &str) {
    tree.insert(
        path.to_owned(),
        Node { item: Item::Link(target.into()), mode: 0o777, mtime: LONG_AGO, content: Content::None },
    );
}

fn sha256(content: &mut impl Read) -> String {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        match content.read(&mut buffer) {
            Ok(0) => return hex::encode(hasher.finalize()),
            Ok(n) => hasher.update(&buffer[..n]),
            // Differs from all digests.
            Err(error) => return error.to_string(),
        }
    }
}

/// Reads one file of a mounted tree.
pub(super) fn read_file(path: &Path) -> Item {
    let mut content = File::open(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let size = content.metadata().unwrap().len();
    Item::File { size, sha256: sha256(&mut content) }
}

/// Writes the tree as an archive.
pub(super) fn pack(tree: &BTreeMap<String, Node>, archive: &Path) {
    let mut tar = tar::Builder::new(zstd::Encoder::new(File::create(archive).unwrap(), 1).unwrap());
    for (path, node) in tree {
        let mut header = tar::Header::new_gnu();
        header.set_mode(node.mode);
        header.set_mtime(u64::try_from(node.mtime).unwrap());
        header.set_size(0);
        match &node.item {
            Item::Directory => {
                header.set_entry_type(tar::EntryType::Directory);
                tar.append_data(&mut header, path, std::io::empty()).unwrap();
            }
            Item::Link(target) => {
                header.set_entry_type(tar::EntryType::Symlink);
                tar.append_link(&mut header, path, target).unwrap();
            }
            Item::File { size, .. } => {
                header.set_size(*size);
                match &node.content {
                    Content::At(from) => tar.append_data(&mut header, path, File::open(from).unwrap()).unwrap(),
                    Content::Bytes(bytes) => tar.append_data(&mut header, path, &bytes[..]).unwrap(),
                    Content::None => unreachable!("a file has content"),
                }
            }
        }
    }
    tar.into_inner().unwrap().finish().unwrap();
}

/// Reads what is below a directory, following nothing.
pub(super) fn read(root: &Path) -> BTreeMap<String, Node> {
    let mut tree = BTreeMap::new();
    let mut inodes = BTreeSet::new();
    for entry in WalkDir::new(root).min_depth(1) {
        let entry = entry.unwrap();
        let metadata = entry.path().symlink_metadata().unwrap();
        let name = entry.path().strip_prefix(root).unwrap().to_str().unwrap().to_owned();
        let kind = metadata.file_type();
        assert!(inodes.insert(metadata.ino()), "{name}: its inode is another's, too");
        let item = if kind.is_dir() {
            Item::Directory
        } else if kind.is_symlink() {
            Item::Link(fs::read_link(entry.path()).unwrap().into_os_string().into_string().unwrap())
        } else {
            assert!(kind.is_file(), "{name}: {kind:?}");
            read_file(entry.path())
        };
        tree.insert(
            name,
            Node { item, mode: metadata.mode() & 0o7777, mtime: metadata.mtime(), content: Content::None },
        );
    }
    tree
}
