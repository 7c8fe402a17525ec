//! All that was ever published into a repository, read from its chain of root catalogs.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use conveyor::cvmfs::hash::ContentHash;
use conveyor::cvmfs::history::Tag;
use conveyor::cvmfs::reader::Reader;

use super::home::reader;

/// Opens repositories as they lie there and reads what is new in them: they must be whole, and nothing in them may have
/// happened twice. `state` has `repositories` and `keys`.
pub(super) fn look(chains: &mut BTreeMap<String, Chain>, state: &Path, repositories: &[&str]) -> Result<(), String> {
    for repository in repositories {
        let chain = chains.entry((*repository).to_owned()).or_default();
        let reader = reader(state, repository).map_err(|error| format!("{repository}: {error}"))?;
        chain.extend(&reader).map_err(|error| format!("{repository}: {error}"))?;
        if let Some(wrong) = chain.repetitions().first() {
            return Err(format!("{repository}: {wrong}"));
        }
    }
    Ok(())
}

/// What a revision did to one file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Change {
    Added(String),
    Replaced(String),
    Removed(String),
}

#[derive(Debug, Clone)]
pub(super) struct Revision {
    pub(super) number: u64,
    pub(super) root_hash: String,
    pub(super) changes: Vec<Change>,
}

/// The chain as far as it was read.
#[derive(Debug, Clone, Default)]
pub(super) struct Chain {
    /// From the first on, without gaps.
    pub(super) revisions: Vec<Revision>,
    /// The tags of the last reading.
    pub(super) tags: Vec<Tag>,
    files: BTreeMap<Vec<u8>, Option<ContentHash>>,
}

impl Chain {
    /// Reads what is new: the old end must still be part of the chain. Verifies the content of every new file.
    pub(super) fn extend(&mut self, reader: &Reader) -> Result<(), String> {
        let text = |error: conveyor::cvmfs::Error| error.to_string();
        let known = self.revisions.last().map(|revision| revision.root_hash.clone());
        let (mut fresh, mut met) = (Vec::new(), known.is_none());
        for info in reader.revisions() {
            let info = info.map_err(text)?;
            if Some(info.root_hash.to_string()) == known {
                met = true;
                break;
            }
            fresh.push(info);
        }
        if !met {
            return Err(format!("the revision that was the last one, {known:?}, is no longer part of the chain"));
        }
        for info in fresh.into_iter().rev() {
            if let Some(last) = self.revisions.last()
                && last.number + 1 != info.revision
            {
                return Err(format!("revision {} follows on {}", info.revision, last.number));
            }
            let changes = self.step(reader, &info.root_hash)?;
            self.revisions.push(Revision { number: info.revision, root_hash: info.root_hash.to_string(), changes });
        }
        let last = self.revisions.last().map(|revision| revision.number);
        if last != Some(reader.manifest().revision) {
            return Err(format!(
                "the manifest says revision {}, the chain ends at {last:?}",
                reader.manifest().revision
            ));
        }
        self.tags = reader.tags().map_err(text)?;
        Ok(())
    }

    /// Takes the files of the next revision; tells what changed.
    fn step(&mut self, reader: &Reader, root_hash: &ContentHash) -> Result<Vec<Change>, String> {
        let text = |error: conveyor::cvmfs::Error| error.to_string();
        let mut files = BTreeMap::new();
        let mut tree = reader.tree_at(root_hash).map_err(text)?;
        tree.walk(b"", |path, entry| {
            if !entry.is_directory() {
                files.insert(path.to_vec(), entry.hash);
            }
            Ok(())
        })
        .map_err(text)?;
        let mut changes = Vec::new();
        for path in self.files.keys().chain(files.keys()).collect::<BTreeSet<_>>() {
            let name = String::from_utf8_lossy(path).into_owned();
            match (self.files.get(path), files.get(path)) {
                (None, Some(_)) => changes.push(Change::Added(name)),
                (Some(_), None) => changes.push(Change::Removed(name)),
                (before, now) if before != now => changes.push(Change::Replaced(name)),
                _ => continue,
            }
            if files.contains_key(path) {
                let mut content = tree.file(path).map_err(text)?;
                std::io::copy(&mut content, &mut std::io::sink()).map_err(|error| error.to_string())?;
            }
        }
        self.files = files;
        Ok(changes)
    }

    /// What can never be right, however far the jobs are: a file that was added, replaced or removed more than once.
    pub(super) fn repetitions(&self) -> Vec<String> {
        let mut seen = BTreeSet::new();
        let mut found = Vec::new();
        for revision in &self.revisions {
            for change in &revision.changes {
                let number = revision.number;
                match change {
                    Change::Replaced(path) => {
                        found.push(format!("revision {number} replaced {path}: no job asked for that"))
                    }
                    Change::Added(path) | Change::Removed(path) => {
                        if !seen.insert(format!("{change:?}")) {
                            found.push(format!("revision {number} added or removed {path} once more"));
                        }
                    }
                }
            }
        }
        found
    }

    /// A file that is there now.
    pub(super) fn any_file(&self) -> Option<String> {
        self.files.keys().next_back().map(|path| String::from_utf8_lossy(path).into_owned())
    }
}
