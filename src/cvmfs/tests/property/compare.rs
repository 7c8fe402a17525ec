//! Compares what the reader shows of a revision with the model.

use std::collections::{BTreeSet, HashMap};
use std::io::Read;
use std::sync::Arc;

use super::Tally;
use super::model::{Kind, Model, Node};
use super::run::ensure;
use crate::cvmfs::catalog::{Entry, Flags, split};
use crate::cvmfs::check::{self, Data, Options};
use crate::cvmfs::hash::ContentHash;
use crate::cvmfs::reader::Reader;
use crate::cvmfs::tree::Tree;

/// Content of objects that was read before: an object never changes.
pub(super) type Seen = HashMap<ContentHash, Arc<[u8]>>;

pub(super) struct Comparison<'r> {
    pub(super) reader: &'r Reader,
    pub(super) now: i64,
    pub(super) tally: &'r Tally,
}

impl Comparison<'_> {
    pub(super) fn run(&self, model: &Model, root: &ContentHash, seen: &mut Seen) -> Result<(), String> {
        let shown = |error: crate::cvmfs::Error| error.to_string();
        let mut tree = self.reader.tree_at(root).map_err(shown)?;
        let mut found = Vec::new();
        tree.walk(b"", |path, entry| {
            found.push((path.to_vec(), entry.clone()));
            Ok(())
        })
        .map_err(shown)?;
        let paths = |of: &mut dyn Iterator<Item = &Vec<u8>>| -> BTreeSet<String> {
            of.map(|path| path.escape_ascii().to_string()).collect()
        };
        let (there, wanted) = (paths(&mut found.iter().map(|(path, _)| path)), paths(&mut model.nodes.keys()));
        let (more, fewer): (Vec<_>, Vec<_>) =
            (there.difference(&wanted).collect(), wanted.difference(&there).collect());
        ensure!(more.is_empty() && fewer.is_empty(), "there are also {more:?}, there are not {fewer:?}");
        let links = model.link_counts();
        let mut groups = HashMap::new();
        for (path, entry) in &found {
            let node = &model.nodes[path];
            let at = |why: String| format!("/{}: {why}", path.escape_ascii());
            metadata(entry, node).map_err(at)?;
            let (wanted, there) = (links[&path[..]], entry.link_count());
            ensure!(there == wanted, "/{} has {there} links, not {wanted}", path.escape_ascii());
            self.content(&mut tree, path, entry, node, seen).map_err(at)?;
            let is_linked = !node.is_directory() && wanted > 1;
            ensure!((entry.hardlink_group() != 0) == is_linked, "/{}: its group is wrong", path.escape_ascii());
            if is_linked {
                let home = split(path).map(|(home, _)| home.to_vec());
                let group = *groups.entry((home, entry.hardlink_group())).or_insert(node.group);
                ensure!(group == node.group, "/{} is linked with other files", path.escape_ascii());
                self.tally.links.add(1);
            }
        }
        self.catalogs(model, root)?;
        let options = Options {
            data: Data::Exists,
            root: Some(*root),
            tags: true,
            now: Some(self.now),
            threads: 1,
            ..Options::default()
        };
        let report = check::check(self.reader, &options).map_err(shown)?;
        ensure!(report.problems.is_empty(), "the check finds {report}");
        Ok(())
    }

    fn content(
        &self,
        tree: &mut Tree<'_>,
        path: &[u8],
        entry: &Entry,
        node: &Node,
        seen: &mut Seen,
    ) -> Result<(), String> {
        let Kind::File(bytes, algorithm, compression) = &node.kind else { return Ok(()) };
        let stored = (entry.algorithm(), entry.compression());
        ensure!(stored == (Some(*algorithm), Some(*compression)), "it is stored as {stored:?}");
        if let Some(known) = entry.hash.and_then(|hash| seen.get(&hash)) {
            ensure!(known == bytes, "it has another content");
            return Ok(());
        }
        let mut found = Vec::new();
        tree.file(path)
            .map_err(|error| error.to_string())?
            .read_to_end(&mut found)
            .map_err(|error| error.to_string())?;
        ensure!(found[..] == bytes[..], "it has another content");
        match entry.hash {
            Some(hash) => drop(seen.insert(hash, Arc::clone(bytes))),
            None => self.tally.chunked.add(1),
        }
        Ok(())
    }

    /// Where catalogs begin, and what the root's counters say of them all.
    fn catalogs(&self, model: &Model, root: &ContentHash) -> Result<(), String> {
        let (mut mounts, mut pending) = (BTreeSet::new(), vec![*root]);
        while let Some(hash) = pending.pop() {
            let catalog = self.reader.catalog(&hash).map_err(|error| error.to_string())?;
            for nested in catalog.nested().map_err(|error| error.to_string())? {
                pending.push(nested.hash);
                mounts.insert(nested.path);
            }
        }
        let shown =
            |mounts: &BTreeSet<Vec<u8>>| mounts.iter().map(|path| path.escape_ascii().to_string()).collect::<Vec<_>>();
        let wanted = model.mounts();
        ensure!(mounts == wanted, "catalogs begin at {:?}, not at {:?}", shown(&mounts), shown(&wanted));
        self.tally.nested.add(mounts.len());

        let statistics =
            self.reader.catalog(root).and_then(|catalog| catalog.statistics()).map_err(|error| error.to_string())?;
        let mut stated = statistics.own;
        stated.add(&statistics.subtree);
        let count = |wanted: &dyn Fn(&Node) -> bool| model.nodes.values().filter(|node| wanted(node)).count() as i64;
        let bytes = |node: &Node| if let Kind::File(bytes, ..) = &node.kind { bytes.len() as i64 } else { 0 };
        // A directory where a catalog begins stands in two.
        let twice = mounts.iter().filter(|path| !model.nodes[*path].xattrs.is_empty()).count() as i64;
        let is_special =
            |node: &Node| !node.is_file() && !node.is_directory() && !matches!(node.kind, Kind::Symlink(_));
        let wanted = [
            ("regular", count(&Node::is_file)),
            ("symlink", count(&|node| matches!(node.kind, Kind::Symlink(_)))),
            ("special", count(&is_special)),
            ("dir", count(&Node::is_directory) + mounts.len() as i64),
            ("nested", mounts.len() as i64),
            ("file_size", model.nodes.values().map(bytes).sum()),
            ("xattr", count(&|node| !node.xattrs.is_empty()) + twice),
            ("external", 0),
        ];
        for (name, wanted) in wanted {
            let (_, there) = stated.named().into_iter().find(|(counter, _)| *counter == name).unwrap();
            ensure!(there == wanted, "the counter of {name} is {there}, not {wanted}");
        }
        Ok(())
    }
}

fn metadata(entry: &Entry, node: &Node) -> Result<(), String> {
    let (file_type, size, target) = match &node.kind {
        Kind::Directory => (0o040_000, 4096, &[][..]),
        Kind::File(bytes, ..) => (0o100_000, bytes.len() as u64, &[][..]),
        Kind::Symlink(target) => (0o120_000, target.len() as u64, &target[..]),
        Kind::Fifo => (0o010_000, 0, &[][..]),
        Kind::Socket => (0o140_000, 0, &[][..]),
        Kind::CharacterDevice(device) => (0o020_000, *device, &[][..]),
        Kind::BlockDevice(device) => (0o060_000, *device, &[][..]),
    };
    ensure!(entry.mode == file_type | node.permissions, "its mode is {:o}, not {:o}", entry.mode, node.permissions);
    ensure!(entry.size == size, "its size is {}, not {size}", entry.size);
    ensure!(entry.symlink == target, "it points to {:?}", entry.symlink);
    let mtime = (entry.mtime, entry.mtime_ns);
    ensure!(mtime == node.mtime, "its time is {mtime:?}, not {:?}", node.mtime);
    let owner = (entry.uid, entry.gid);
    ensure!(owner == node.owner, "its owner is {owner:?}, not {:?}", node.owner);
    let xattrs = entry.xattrs().map_err(|error| error.to_string())?;
    ensure!(xattrs == node.xattrs, "its attributes are {xattrs:?}, not {:?}", node.xattrs);
    ensure!(!entry.flags.has(Flags::HIDDEN | Flags::BIND_MOUNTPOINT | Flags::EXTERNAL), "it has flags of other things");
    Ok(())
}
