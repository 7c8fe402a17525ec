//! An open transaction: payloads are written into the union mount, within the lease path.

use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::Hold;
use super::inspect::Checks;
use super::journal::{Entry, Journal, Phase};
use super::settle;
use super::site::Site;
use super::union::Union;
use super::upper::{Change, Kind, Layers};
use super::words::Word;
use crate::cvmfs::settings::Upstream;
use crate::domain::names::LeasePath;
use crate::domain::progress::Counters;
use crate::domain::tree::{ChangedPath, EntryKind, EntryMeta, EntryPath};
use crate::publisher::{Owner, Published, PublisherError, Revision, Transaction, Workspace};

/// A transaction of ours.
pub(super) struct OpenTransaction {
    pub(super) hold: Hold,
    pub(super) site: Site,
    pub(super) journal: Journal,
    pub(super) entry: Entry,
    pub(super) key: Word,
    /// The batch's lease path.
    pub(super) reserved: EntryPath,
    /// What the job at hand may write within.
    scope: EntryPath,
    pub(super) base: Revision,
    /// None once the repository must be free of us.
    pub(super) union: Option<Union>,
    progress: Arc<Counters>,
    began: Timestamp,
    /// How long opening took.
    pub(super) opening: Duration,
    /// Set where this has no more to end.
    pub(super) is_over: bool,
}

impl OpenTransaction {
    #[allow(clippy::too_many_arguments)]
    pub(super) fn new(
        hold: Hold,
        site: Site,
        journal: Journal,
        entry: Entry,
        key: Word,
        reserved: EntryPath,
        base: Revision,
        union: Union,
        opening: Duration,
    ) -> Self {
        let (scope, progress) = (reserved.clone(), union.progress());
        let union = Some(union);
        Self {
            hold,
            site,
            journal,
            entry,
            key,
            reserved,
            scope,
            base,
            union,
            progress,
            began: Timestamp::now(),
            opening,
            is_over: false,
        }
    }

    /// Whom scripts run as: the repository's owner, where that is not root.
    fn script_account(&self) -> Owner {
        match self.hold.node.settings.run_as {
            Some(account) if self.site.owner.uid == 0 => account,
            _ => self.site.owner,
        }
    }

    pub(super) fn layers(&self) -> Layers {
        Layers { merged: self.site.node.union.clone(), lower: self.site.lower(), upper: self.site.upper() }
    }

    fn union(&mut self, path: &EntryPath) -> Result<&mut Union, PublisherError> {
        if !path.is_within(&self.scope) {
            let why = format!("it lies outside the lease path /{}", self.scope);
            return Err(PublisherError::Conflict { path: path.clone(), why });
        }
        self.open_union()
    }

    pub(super) fn open_union(&mut self) -> Result<&mut Union, PublisherError> {
        let repository = &self.site.name;
        self.union.as_mut().ok_or_else(|| PublisherError::Unusable {
            repository: repository.clone(),
            why: "its transaction is over".into(),
        })
    }

    /// Calls with each change that anybody asked for.
    pub(super) fn each_change(
        &self,
        visit: &mut dyn FnMut(Change) -> Result<(), PublisherError>,
    ) -> Result<(), PublisherError> {
        super::upper::changes(&self.layers(), &mut |change| {
            // Its time alone is what any change in it left.
            if change.only_mtime { Ok(()) } else { visit(change) }
        })
    }

    /// What is looked at before the publish.
    pub(super) fn checks(&self) -> Checks {
        let mut checks = self.hold.node.settings.checks.clone();
        checks.max_file_bytes = checks.max_file_bytes.or(self.site.node.max_file_bytes);
        checks
    }

    /// Refuses a change outside of what was reserved, but for directories on the way there.
    fn check_place(&self, change: &Change) -> Result<(), PublisherError> {
        let is_on_the_way = change.kind == Kind::Added && self.reserved.is_within(&change.path);
        if change.path.is_within(&self.reserved) || is_on_the_way {
            return Ok(());
        }
        let why = format!("it was changed, and lies outside the lease path /{}", self.reserved);
        Err(PublisherError::Conflict { path: change.path.clone(), why })
    }

    /// Fences and cleans up, where it must be over.
    fn end(&mut self) -> Result<(), PublisherError> {
        if std::mem::replace(&mut self.is_over, true) {
            return Ok(());
        }
        self.union = None;
        let settings = &self.hold.node.settings;
        // Nothing was published with the lease: `abort` drops it.
        settle::end_processes(&self.site, &self.entry.key)?;
        settle::clean(settings, &self.site, &self.journal)
    }
}

impl Drop for OpenTransaction {
    fn drop(&mut self) {
        let ended = self.end();
        self.hold.node.note(&self.site.name, ended);
    }
}

impl Transaction for OpenTransaction {
    fn base(&self) -> &Revision {
        &self.base
    }

    fn time_left(&mut self) -> Option<Duration> {
        let settings = &self.hold.node.settings;
        let (Phase::Open { lease: Some(lease), .. } | Phase::Publishing { lease: Some(lease), .. }) =
            &mut self.entry.phase
        else {
            return None;
        };
        if let Some(expires) = self.site.refresh(settings, lease, self.began) {
            lease.expires = Some(expires);
            if let Err(error) = self.journal.write(&self.entry) {
                tracing::warn!(repository = %self.site.name, %error, "the new end of a lease could not be noted");
            }
        }
        let (Phase::Open { lease: Some(lease), .. } | Phase::Publishing { lease: Some(lease), .. }) = &self.entry.phase
        else {
            return None;
        };
        lease.expires.map(|expires| super::lease::time_left(expires, settings.lease_reserve))
    }

    fn progress(&self) -> Arc<Counters> {
        Arc::clone(&self.progress)
    }

    fn enter(&mut self, lease_path: &LeasePath) -> Result<(), PublisherError> {
        let conflict = |why| PublisherError::Conflict { path: EntryPath::base(), why };
        let scope = EntryPath::new(lease_path.relative().as_bytes()).map_err(|error| conflict(error.to_string()))?;
        if !scope.is_within(&self.reserved) {
            return Err(conflict(format!("the lease path {lease_path} lies outside the batch's, /{}", self.reserved)));
        }
        self.scope = scope;
        Ok(())
    }

    fn put(
        &mut self,
        path: &EntryPath,
        meta: &EntryMeta,
        kind: &EntryKind,
        content: &mut dyn Read,
    ) -> Result<(), PublisherError> {
        self.union(path)?.put(path, meta, kind, content)
    }

    fn link(&mut self, path: &EntryPath, target: &EntryPath) -> Result<(), PublisherError> {
        self.union(target)?;
        self.union(path)?.link(path, target)
    }

    fn remove(&mut self, path: &EntryPath) -> Result<bool, PublisherError> {
        self.union(path)?.remove(path)
    }

    fn check_out(&mut self) -> Result<Workspace, PublisherError> {
        let scope = self.scope.clone();
        let account = self.script_account();
        let union = self.open_union()?;
        union.make_directories(&scope)?;
        union.settle()?;
        if account != self.site.owner {
            self.open_union()?.give(&scope, account)?;
        }
        let node = &self.site.node;
        let settings = &self.hold.node.settings;
        let mut secret = vec![node.spool.clone(), self.site.keys.clone(), settings.state_dir.clone()];
        if let Upstream::Local { storage } = &node.upstream {
            secret.push(storage.clone());
        }
        let mounts = [node.union.parent(), node.spool.parent()].into_iter().flatten().map(PathBuf::from).collect();
        let scope = String::from_utf8_lossy(scope.as_bytes()).into_owned();
        Ok(Workspace {
            root: node.union.clone(),
            writable: node.union.join(scope),
            secret,
            mounts,
            live: Some(account),
        })
    }

    fn check_in(&mut self) -> Result<(), PublisherError> {
        // It was written in place. What it made for an account of its own is the repository's owner's from now on.
        let (account, owner) = (self.script_account(), self.site.owner);
        if account == owner {
            return Ok(());
        }
        let mut theirs = vec![self.scope.clone()];
        super::upper::changes(&self.layers(), &mut |change| {
            if change.now.as_ref().is_some_and(|now| now.uid == account.uid) {
                theirs.push(change.path);
            }
            Ok(())
        })?;
        let union = self.open_union()?;
        theirs.iter().try_for_each(|path| union.give(path, owner))
    }

    fn settle(&mut self) -> Result<(), PublisherError> {
        self.open_union()?.settle()
    }

    fn changes(&self, visit: &mut dyn FnMut(ChangedPath)) -> Result<(), PublisherError> {
        let checks = self.checks();
        let mut inspection = checks.begin(&self.site.node.union);
        self.each_change(&mut |change| {
            self.check_place(&change)?;
            inspection.see(&change)?;
            visit(match change.kind {
                Kind::Added => ChangedPath::Added(change.path),
                Kind::Modified => ChangedPath::Modified(change.path),
                Kind::Removed => ChangedPath::Removed(change.path),
            });
            Ok(())
        })
    }

    fn publish(mut self: Box<Self>, _message: &str) -> Result<Published, PublisherError> {
        super::publish::publish(&mut self)
    }

    fn abort(mut self: Box<Self>) -> Result<(), PublisherError> {
        self.end()
    }
}
