//! Going back: a new revision with the content of an older one (`CommandRollbackTag`).

use super::super::Error;
use super::super::catalog::Catalog;
use super::super::database::Database;
use super::super::hash::ObjectKind;
use super::super::history::{History, TRUNK, TRUNK_PREVIOUS, Tag};
use super::super::manifest::Manifest;
use super::super::object;
use super::change::{Change, Next};
use super::{NewTag, RepositoryLock, Stratum0, add_file, gc, tags, target};

/// How to go back.
#[derive(Debug, Clone, Copy)]
pub struct RollbackOptions<'a> {
    /// Where to: a tag, a root hash, or the number of a revision.
    pub to: &'a str,
    /// The tag of the new revision, the evidence of what was done.
    pub tag: NewTag<'a>,
    /// Leaves the tags of the revisions in between, which the real tools remove.
    pub keep_tags: bool,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RolledBack {
    /// The new manifest.
    pub manifest: Manifest,
    /// The revision whose content is back.
    pub target: u64,
    /// Tags that were removed, the newest first.
    pub removed_tags: Vec<String>,
}

impl Stratum0 {
    /// Makes a new revision with the content of an older one. Removes the tags of the revisions after that, but for the
    /// tags of Conveyor's batches of the last week: a batch that was published must not look as if it was not. A tag that
    /// named the target moves to the new revision.
    pub fn rollback(
        &self,
        lock: RepositoryLock,
        options: RollbackOptions<'_>,
        now: i64,
        passing: &dyn Fn(&str),
    ) -> Result<RolledBack, Error> {
        let mut change = Change::begin(self, lock, now)?;
        let time = change.time(now);
        let base = change.reader.manifest().clone();
        let target = target::find(&change.reader, options.to)?;
        if change.reader.tag(options.tag.name)?.is_some() {
            return Err(Error::Exists(format!("tag {}", options.tag.name)));
        }
        if target.root_hash == base.root_hash {
            return Err(Error::Exists(format!("revision {} as the present one", target.revision)));
        }
        gc::check_complete(&change.reader, target.root_hash)?;

        let path = change.staging.directory().join("catalog");
        object::unpack(change.reader.fetch(), &target.root_hash, ObjectKind::Catalog, &path)?;
        let database = Database::open_for_editing(&path, format!("the copy of catalog {}", target.root_hash))?;
        database.set_property("revision", &(base.revision + 1).to_string())?;
        database.set_property("previous_revision", &base.root_hash.to_string())?;
        database.set_property("last_modified", &time.to_string())?;
        database.close()?;
        let ttl = Catalog::open(&path, &target.root_hash)?.ttl()?;
        let root = add_file(&mut change.staging, ObjectKind::Catalog, &path)?;

        let mut removed = Vec::new();
        let mut edit_tags = |history: &History, manifest: &Manifest| {
            removed = edit_history(history, manifest, &target, options)?;
            history.compact()
        };
        let mut edit_manifest = |manifest: &mut Manifest| manifest.ttl = ttl.unwrap_or(manifest.ttl);
        let next = Next {
            root: Some(root),
            tags: Some(&mut edit_tags),
            manifest: Some(&mut edit_manifest),
            ..Next::default()
        };
        let manifest = change.commit(next, now, passing)?;
        Ok(RolledBack { manifest, target: target.revision, removed_tags: removed })
    }
}

fn edit_history(
    history: &History,
    manifest: &Manifest,
    target: &Tag,
    options: RollbackOptions<'_>,
) -> Result<Vec<String>, Error> {
    let head = Tag {
        name: options.tag.name.to_owned(),
        root_hash: manifest.root_hash,
        size: manifest.root_size,
        revision: manifest.revision,
        timestamp: manifest.published_at,
        description: options.tag.description.to_owned(),
    };
    let mut removed = Vec::new();
    if !options.keep_tags {
        let evidence_from = manifest.published_at - tags::EVIDENCE_SECONDS;
        for name in history.tags_after(target.revision)? {
            let recent = history.tag(&name)?.is_some_and(|tag| tag.timestamp >= evidence_from);
            if !(tags::is_batch(&name) && recent) {
                history.remove(&name)?;
                removed.push(name);
            }
        }
        removed.retain(|name| name != TRUNK && name != TRUNK_PREVIOUS);
        let is_named = !target.name.is_empty() && target.name != TRUNK_PREVIOUS && !tags::is_batch(&target.name);
        if is_named {
            history.remove(&target.name)?;
            history.insert(&Tag {
                name: target.name.clone(),
                description: target.description.clone(),
                ..head.clone()
            })?;
        }
        // Nothing to undo to: that would undo the rollback. The real tools leave none either.
        history.remove(TRUNK_PREVIOUS)?;
        history.remove(TRUNK)?;
    }
    history.insert(&head)?;
    history.advance_trunk(&head)?;
    Ok(removed)
}
