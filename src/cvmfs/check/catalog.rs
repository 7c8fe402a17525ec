//! One catalog: two scans over its rows, one over its chunks, and what it says of itself.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::Ordering;

use super::super::catalog::{Catalog, ChunkRow, Compression, Counters, Entry, Flags, PathHash, Row};
use super::super::hash::{Algorithm, ContentHash, ObjectKind};
use super::super::{Error, catalog::Statistics};
use super::directory::{Directories, Reach};
use super::hardlinks::{Hardlinks, TRANSITION, differences};
use super::objects::ObjectRef;
use super::report::{Code, Place, shown};
use super::{CatalogTask, Check, Data, Node, Tasks, entry};
use crate::cvmfs::check::work::lock;

/// The file that asks for a nested catalog.
const MARKER: &[u8] = b".cvmfscatalog";

/// A file in chunks, until its chunks were met.
struct ChunkedFile {
    path: Vec<u8>,
    size: u64,
    algorithm: Option<Algorithm>,
    compression: Option<Compression>,
    external: bool,
    chunks: u64,
    /// Where the next chunk must begin. Wide enough for any sum of what a row can hold.
    end: i128,
    sum: i128,
    aligned: bool,
}

/// A catalog while it is checked.
struct Scan<'s, 'r> {
    check: &'s Check<'r>,
    tasks: &'s Tasks,
    top: &'s [u8],
    hash: ContentHash,
    directories: Directories,
    hardlinks: Hardlinks,
    chunked: HashMap<PathHash, ChunkedFile>,
    /// The directories at which other catalogs go on.
    mountpoints: HashMap<Vec<u8>, Entry>,
    own: Counters,
    root: Option<Entry>,
    has_marker: bool,
    batch: Vec<ObjectRef>,
    /// The path of the row in work.
    path: Vec<u8>,
    rows: u64,
}

impl Check<'_> {
    /// Checks a catalog and hands on those that it refers to.
    pub(super) fn catalog(&self, task: CatalogTask, tasks: &Tasks) {
        let number = {
            let mut nodes = lock(&self.nodes);
            nodes.push(Node {
                path: task.path.clone(),
                hash: task.hash,
                parent: task.parent,
                own: Counters::default(),
                below: Counters::default(),
                stated_below: None,
                complete: false,
            });
            nodes.len() - 1
        };
        if let Err(error) = self.read_catalog(&task, number, tasks) {
            self.note_catalog(&task.path, task.hash, Code::CatalogUnreadable, chain(&error));
        }
    }

    fn note_catalog(&self, path: &[u8], hash: ContentHash, code: Code, message: String) {
        self.note(Place::Catalog { path: path.to_vec(), hash }, code, message);
    }

    fn read_catalog(&self, task: &CatalogTask, number: usize, tasks: &Tasks) -> Result<(), Error> {
        let (catalog, size) = self.reader.catalog_and_size(&task.hash)?;
        let say = |code, message| self.note_catalog(&task.path, task.hash, code, message);
        if task.size != 0 && size != task.size {
            say(Code::CatalogSize, format!("its file has {size} bytes, its reference says {}", task.size));
        }
        if self.options.data == Data::Verify {
            let damage = catalog.damage()?;
            damage.into_iter().for_each(|line| say(Code::CatalogDamaged, format!("SQLite says: {line}")));
        }
        self.properties(task, &catalog)?;
        let mut scan = Scan {
            check: self,
            tasks,
            top: &task.path,
            hash: task.hash,
            directories: Directories::read(&catalog, &task.path)?,
            hardlinks: Hardlinks::default(),
            chunked: HashMap::new(),
            mountpoints: HashMap::new(),
            own: Counters::default(),
            root: None,
            has_marker: false,
            batch: Vec::new(),
            path: Vec::new(),
            rows: 0,
        };
        catalog.scan(false, &mut |row| match row {
            Ok(row) => scan.row(&row),
            Err(rowid) => say(Code::RowUnreadable, format!("row {rowid} holds a value of a wrong type")),
        })?;
        catalog.scan_chunks(&mut |chunk| scan.chunk(&chunk))?;
        let own = scan.finish(task);
        let mountpoints = std::mem::take(&mut scan.mountpoints);
        self.hand_over(&mut scan.batch, tasks);
        self.entries.fetch_add(scan.rows, Ordering::Relaxed);

        let statistics = catalog.statistics()?;
        self.compare_counters("self", &task.path, task.hash, &own, &statistics.own);
        self.counter_names(task, &catalog)?;
        {
            let mut nodes = lock(&self.nodes);
            let node = &mut nodes[number];
            (node.own, node.stated_below, node.complete) = (own, Some(statistics.subtree), true);
        }
        self.references(task, number, &catalog, mountpoints, tasks)
    }

    /// What a catalog says of itself: its path, its revision, the one before.
    fn properties(&self, task: &CatalogTask, catalog: &Catalog) -> Result<(), Error> {
        let say = |code, message| self.note_catalog(&task.path, task.hash, code, message);
        let prefix = catalog.root_prefix()?;
        if prefix != task.path {
            say(Code::RootPrefix, format!("it says that it begins at {}", shown(&prefix)));
        }
        if let Err(error) = catalog.previous_revision() {
            say(Code::PreviousRevision, chain(&error));
        }
        let manifest = self.reader.manifest();
        let revision = catalog.revision()?;
        if task.hash == manifest.root_hash && revision != manifest.revision {
            let message = format!("it is of revision {}, its root catalog of revision {revision}", manifest.revision);
            self.note(Place::Base("manifest"), Code::ManifestRevision, message);
        }
        Ok(())
    }

    fn counter_names(&self, task: &CatalogTask, catalog: &Catalog) -> Result<(), Error> {
        let there: HashSet<String> = catalog.counter_names()?.into_iter().collect();
        for (name, _) in Statistics::default().own.named() {
            // Special files are counted since revision 5 of the schema.
            if name == "special" && catalog.schema_revision() < 5 {
                continue;
            }
            for name in [format!("self_{name}"), format!("subtree_{name}")] {
                if !there.contains(&name) {
                    let message = format!("the counter {name} is missing");
                    self.note_catalog(&task.path, task.hash, Code::Statistics, message);
                }
            }
        }
        Ok(())
    }

    /// Compares the references to other catalogs with the mount points, and hands on the nested ones.
    fn references(
        &self,
        task: &CatalogTask,
        number: usize,
        catalog: &Catalog,
        mut mountpoints: HashMap<Vec<u8>, Entry>,
        tasks: &Tasks,
    ) -> Result<(), Error> {
        let mut before: Option<Vec<u8>> = None;
        for reference in catalog.references()? {
            let stripped = reference.path.strip_prefix(b"/").unwrap_or(&reference.path).to_vec();
            let place = Place::Entry { path: stripped.clone() };
            if before.as_ref() == Some(&stripped) {
                let message = "it is listed both as a nested catalog and as a bind mount point".to_owned();
                self.note(place, Code::NestedMalformed, message);
                continue;
            }
            before = Some(stripped.clone());
            if !reference.path.starts_with(b"/") {
                self.note(place, Code::NestedMalformed, "it is listed without leading slash".into());
                continue;
            }
            let mountpoint = mountpoints.remove(&stripped);
            let flags = mountpoint.as_ref().map_or(Flags(0), |entry| entry.flags);
            match (reference.bind, reference.nested) {
                (_, Err(text)) => {
                    self.note(place, Code::NestedMalformed, format!("its reference is no hash: {text:?}"));
                }
                (true, Ok(_)) if flags.has(Flags::BIND_MOUNTPOINT) => {}
                (true, Ok(_)) => {
                    self.note(place, Code::BindMountpoint, "it is listed as bind mount point and is none".into());
                }
                (false, Ok(_)) if flags.has(Flags::BIND_MOUNTPOINT) => {
                    self.note(place, Code::BindMountpoint, "it is a bind mount point, listed as nested catalog".into());
                }
                (false, Ok(nested)) => {
                    if mountpoint.is_none() {
                        let message = "a nested catalog is listed there, and no directory says so".to_owned();
                        self.note(place, Code::NestedUnmounted, message);
                    }
                    // Catalogs below each other end somewhere; one that leads elsewhere might not.
                    if below(&nested.path, &task.path) {
                        let mountpoint = mountpoint.map(Box::new);
                        let (path, hash, size, parent) = (nested.path, nested.hash, nested.size, Some(number));
                        tasks.add_catalog(CatalogTask { path, hash, size, parent, mountpoint });
                    }
                }
            }
        }
        for (path, entry) in mountpoints {
            let code =
                if entry.flags.has(Flags::BIND_MOUNTPOINT) { Code::BindMountpoint } else { Code::NestedUnlisted };
            self.note(Place::Entry { path }, code, "another catalog is mounted there, and none is listed".into());
        }
        Ok(())
    }
}

impl Scan<'_, '_> {
    fn row(&mut self, row: &Row) {
        self.rows += 1;
        let is_top = row.key == PathHash::of(self.top);
        if is_top {
            self.path.clear();
            self.path.extend_from_slice(self.top);
        } else if !self.locate(row) {
            return;
        }
        let place = || Place::Entry { path: self.path.clone() };
        if PathHash::of(&self.path) != row.key {
            self.check.note(place(), Code::PathHash, "it is stored under the hash of another path".into());
        }
        entry::examine(row, is_top && self.top.is_empty(), &mut |code, message| {
            self.check.note(place(), code, message)
        });
        self.own.count(&row.entry, 0, 1);
        if row.has_xattr && row.entry.xattr.is_none() {
            self.own.xattr += 1;
        }
        if is_top {
            self.root = Some(row.entry.clone());
            return;
        }
        let entry = &row.entry;
        // Of whatever type it is: CernVM-FS's own check looks at the name alone.
        if entry.name == MARKER {
            if row.parent == PathHash::of(self.top) {
                self.has_marker = true;
            } else {
                let message = "it marks a nested catalog, and none begins there".to_owned();
                self.check.note(place(), Code::MarkerAstray, message);
            }
        }
        if entry.is_directory() {
            if entry.flags.has(Flags::NESTED_MOUNTPOINT | Flags::BIND_MOUNTPOINT) {
                self.mountpoints.insert(self.path.clone(), entry.clone());
            }
            return;
        }
        let check = self.check;
        let path = &self.path;
        self.hardlinks.add(row.parent, entry, path, &mut |code, message| {
            check.note(Place::Entry { path: path.clone() }, code, message);
        });
        self.content(row);
    }

    /// Finds out where a row belongs; tells whether it belongs anywhere.
    fn locate(&mut self, row: &Row) -> bool {
        let is_directory = row.entry.is_directory();
        let lost = |scan: &Self, why: &str| {
            let name = String::from_utf8_lossy(&row.entry.name);
            scan.check.note_catalog(scan.top, scan.hash, Code::Dangling, format!("the entry {name:?} {why}"));
            false
        };
        let Some(parent) = self.directories.get_mut(row.parent) else {
            return lost(self, "is in no directory");
        };
        if parent.reach == Reach::Lost {
            return lost(self, "is in a directory that nothing leads to");
        }
        if parent.is_mountpoint() {
            parent.has_entries = true;
            return false;
        }
        parent.directories += u32::from(is_directory);
        self.path.clear();
        self.path.extend_from_slice(&parent.path);
        if !self.path.is_empty() {
            self.path.push(b'/');
        }
        self.path.extend_from_slice(&row.entry.name);
        true
    }

    /// Takes note of a file's objects.
    fn content(&mut self, row: &Row) {
        let entry = &row.entry;
        if !entry.is_file() {
            return;
        }
        let external = entry.flags.has(Flags::EXTERNAL);
        if let Some(hash) = entry.hash.filter(|hash| !hash.is_null() && !external) {
            let compression = entry.compression();
            let object = ObjectRef { hash, kind: ObjectKind::File, size: entry.size, compression, path: Vec::new() };
            self.check.meet(&mut self.batch, self.tasks, object, &self.path);
        }
        if entry.flags.has(Flags::CHUNKED) {
            let file = ChunkedFile {
                path: self.path.clone(),
                size: entry.size,
                algorithm: entry.algorithm(),
                compression: entry.compression(),
                external,
                chunks: 0,
                end: 0,
                sum: 0,
                aligned: true,
            };
            self.chunked.insert(row.key, file);
        }
    }

    fn chunk(&mut self, chunk: &ChunkRow) {
        let Some(file) = self.chunked.get_mut(&chunk.key) else {
            let message = format!("a chunk at {} belongs to no file in chunks", chunk.offset);
            return self.check.note_catalog(self.top, self.hash, Code::ChunksOrphaned, message);
        };
        self.own.chunks += 1;
        file.chunks += 1;
        file.aligned &= i128::from(chunk.offset) == file.end && chunk.size > 0;
        file.end = i128::from(chunk.offset) + i128::from(chunk.size);
        file.sum += i128::from(chunk.size);
        let say = |code, message| self.check.note(Place::Entry { path: file.path.clone() }, code, message);
        // An unknown algorithm was told of with the file.
        let Some(algorithm) = file.algorithm else { return };
        match ContentHash::from_digest(algorithm, &chunk.digest) {
            Ok(hash) if hash.is_null() => say(Code::HashMissing, format!("its chunk at {} has no hash", chunk.offset)),
            Ok(hash) if !file.external => {
                let (compression, size) = (file.compression, chunk.size.cast_unsigned());
                let object = ObjectRef { hash, kind: ObjectKind::Chunk, size, compression, path: Vec::new() };
                self.check.meet(&mut self.batch, self.tasks, object, &file.path);
            }
            Ok(_) => {}
            Err(_) => {
                let message = format!("the hash of its chunk at {} has {} bytes", chunk.offset, chunk.digest.len());
                say(Code::HashMalformed, message);
            }
        }
    }

    /// What can be told when all rows were seen; gives the counters.
    fn finish(&mut self, task: &CatalogTask) -> Counters {
        let check = self.check;
        let say = |path: &[u8], code, message| check.note(Place::Entry { path: path.to_vec() }, code, message);
        for file in self.chunked.values() {
            if file.chunks == 0 {
                say(&file.path, Code::ChunksMissing, "it has no chunks".into());
                continue;
            }
            if !file.aligned {
                say(&file.path, Code::ChunksMisaligned, "its chunks do not follow each other".into());
            }
            if file.sum != i128::from(file.size) {
                let message = format!("its chunks have {} bytes, it has {}", file.sum, file.size);
                say(&file.path, Code::ChunksSize, message);
            }
        }
        for directory in self.directories.iter().filter(|directory| directory.reach == Reach::Reached) {
            if directory.is_mountpoint() {
                if directory.has_entries {
                    let message = "another catalog goes on there, and this one has entries below it".to_owned();
                    say(&directory.path, Code::MountpointNotEmpty, message);
                }
            } else if directory.links != directory.directories.saturating_add(2) {
                let (stated, found) = (directory.links, directory.directories);
                let message =
                    format!("its link count is {stated}; with {found} directories in it, it is {}", found + 2);
                say(&directory.path, Code::DirectoryLinks, message);
            }
        }
        std::mem::take(&mut self.hardlinks).finish(&mut |path, code, message| say(path, code, message));
        self.finish_root(task);
        self.own
    }

    fn finish_root(&self, task: &CatalogTask) {
        let say = |code, message: &str| self.check.note_catalog(self.top, self.hash, code, message.to_owned());
        let Some(root) = &self.root else {
            return say(Code::RootEntry, "its root is not in it");
        };
        let is_nested = !self.top.is_empty();
        if !root.is_directory() {
            say(Code::RootEntry, "its root is no directory");
        }
        if is_nested != root.flags.has(Flags::NESTED_ROOT) {
            say(
                Code::RootEntry,
                if is_nested { "its root is not marked as one" } else { "its root is marked as nested" },
            );
        }
        if is_nested && !self.has_marker {
            say(Code::MarkerMissing, "there is no .cvmfscatalog where it begins");
        }
        if let Some(mountpoint) = &task.mountpoint {
            let mut differences = differences(mountpoint, root, TRANSITION);
            if mountpoint.name != root.name {
                differences = format!("name, {differences}");
            }
            if !differences.is_empty() {
                let differences = differences.trim_end_matches(", ");
                say(Code::TransitionDiffers, &format!("its root and its mount point have another {differences}"));
            }
        }
    }
}

/// Tells whether a path lies truly below another.
fn below(path: &[u8], above: &[u8]) -> bool {
    match path.strip_prefix(above) {
        Some(rest) if above.is_empty() => !rest.is_empty(),
        Some(rest) => rest.len() > 1 && rest[0] == b'/',
        None => false,
    }
}

/// An error with its causes, on one line.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text += &format!(": {cause}");
        source = cause.source();
    }
    text
}
