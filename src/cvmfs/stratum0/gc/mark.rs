//! Finding all that the kept revisions lead to.

use std::collections::{HashMap, HashSet};

use super::super::super::Error;
use super::super::super::catalog::Catalog;
use super::super::super::fetch::Fetch;
use super::super::super::hash::{ContentHash, DIGEST_BYTES, ObjectKind};
use super::super::super::history::Tag;
use super::super::super::reader::Reader;
use super::GcReport;

/// What is kept. The memory that it takes is that of one digest for each kept object.
pub(super) struct Marked {
    /// Objects of all kinds, catalogs among them. Neither kind nor algorithm counts: at worst something stays.
    pub(super) objects: HashSet<[u8; DIGEST_BYTES]>,
    /// Catalogs: each is read once, however many revisions have it.
    pub(super) catalogs: HashSet<ContentHash>,
    /// When the oldest kept revision of the chain was published.
    pub(super) oldest: i64,
    revisions: u64,
    missing: Vec<String>,
}

impl Default for Marked {
    fn default() -> Self {
        Self { objects: HashSet::new(), catalogs: HashSet::new(), oldest: i64::MAX, revisions: 0, missing: Vec::new() }
    }
}

impl Marked {
    /// Marks the chain of revisions from the present one on, up to and with the first that is out of bounds. The time of
    /// a revision is when it came into the reflog, where that is known: a rollback's catalog may be older.
    pub(super) fn chain(
        &mut self,
        reader: &Reader,
        depth: u64,
        since: i64,
        times: &HashMap<ContentHash, i64>,
    ) -> Result<(), Error> {
        let mut next = Some(reader.manifest().root_hash);
        let mut behind = 0;
        while let Some(hash) = next {
            let catalog = match reader.catalog(&hash) {
                Ok(catalog) => catalog,
                // Collected before: what was before it is gone as well.
                Err(Error::Missing(_)) if behind > 0 => break,
                Err(error) => return Err(error),
            };
            let time = times.get(&hash).copied().map_or_else(|| catalog.last_modified(), Ok)?;
            self.oldest = self.oldest.min(time);
            next = catalog.previous_revision()?;
            self.tree(reader, hash, catalog, behind > 0)?;
            if behind >= depth || time < since {
                break;
            }
            behind += 1;
        }
        Ok(())
    }

    /// Marks the revision that a tag names.
    pub(super) fn tag(&mut self, reader: &Reader, tag: &Tag) -> Result<(), Error> {
        if self.catalogs.contains(&tag.root_hash) {
            return Ok(());
        }
        match reader.catalog(&tag.root_hash) {
            Ok(catalog) => self.tree(reader, tag.root_hash, catalog, true),
            Err(Error::Missing(what)) => {
                self.missing.push(format!("{what} of tag {}", tag.name));
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Marks a catalog and all that it leads to. Nested ones may be missing in an older revision only.
    fn tree(&mut self, reader: &Reader, root: ContentHash, catalog: Catalog, may_miss: bool) -> Result<(), Error> {
        self.revisions += u64::from(self.catalogs.insert(root));
        let mut pending = self.open(root, &catalog)?;
        drop(catalog);
        while let Some(hash) = pending.pop() {
            if !self.catalogs.insert(hash) {
                continue;
            }
            match reader.catalog(&hash) {
                Ok(catalog) => pending.extend(self.open(hash, &catalog)?),
                Err(Error::Missing(what)) if may_miss => self.missing.push(what),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn open(&mut self, hash: ContentHash, catalog: &Catalog) -> Result<Vec<ContentHash>, Error> {
        self.objects.insert(*hash.digest());
        catalog.objects(&mut |hash, _| {
            self.objects.insert(*hash.digest());
            Ok(())
        })?;
        catalog.catalogs()
    }

    pub(super) fn report(&self) -> GcReport {
        GcReport {
            kept_revisions: self.revisions,
            kept_catalogs: self.catalogs.len() as u64,
            kept_objects: self.objects.len() as u64,
            missing: self.missing.clone(),
            ..GcReport::default()
        }
    }
}

/// Refuses a revision of which anything is gone.
pub(in super::super) fn check_complete(reader: &Reader, root: ContentHash) -> Result<(), Error> {
    let is_there = |hash: ContentHash, kind: ObjectKind| {
        let path = hash.object_path(kind);
        let found = Fetch::fetch(reader.fetch(), &path).map_err(Error::io(format!("read {path}")))?;
        found.map(drop).ok_or_else(|| Error::Missing(format!("object {path} of that revision")))
    };
    let (mut seen, mut checked) = (HashSet::new(), HashSet::new());
    let mut pending = vec![root];
    while let Some(hash) = pending.pop() {
        if !seen.insert(hash) {
            continue;
        }
        let catalog = reader.catalog(&hash)?;
        catalog.objects(&mut |hash, kind| if checked.insert((hash, kind)) { is_there(hash, kind) } else { Ok(()) })?;
        pending.extend(catalog.catalogs()?);
    }
    Ok(())
}
