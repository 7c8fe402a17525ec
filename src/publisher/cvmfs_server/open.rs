//! Opening a transaction.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use super::command::Call;
use super::journal::{Entry, Journal, Lease, Phase};
use super::publishing::Publishing;
use super::refusal::{Refusal, Subcommand};
use super::settle::{self, failed};
use super::site::Site;
use super::transaction::OpenTransaction;
use super::union::Union;
use super::words::Word;
use super::{Hold, effective};
use crate::causes::sentence;
use crate::crash;
use crate::cvmfs::reader::Expiry;
use crate::domain::names::LeasePath;
use crate::domain::tree::EntryPath;
use crate::publisher::{PublisherError, Revision};

/// Opens a transaction on a lease path for the batch of a key.
pub(super) fn open(hold: Hold, lease_path: &LeasePath, key: &str) -> Result<OpenTransaction, PublisherError> {
    let node = Arc::clone(&hold.node);
    let (settings, repository) = (&node.settings, hold.repository.clone());
    let site = Site::load(&settings.config_dir, &repository)?;
    let unusable = |why: String| PublisherError::Unusable { repository: repository.clone(), why };
    let key_word = Word::new(key).map_err(|error| unusable(error.to_string()))?;
    let reserved = EntryPath::new(lease_path.relative().as_bytes())
        .map_err(|error| PublisherError::Conflict { path: EntryPath::base(), why: error.to_string() })?;
    let journal = Journal::of(&settings.state_dir, &repository);
    // What an earlier batch left is the fault of the node, and of no job.
    if let Err(error) = settle::settle(settings, &site, &journal) {
        let holder = format!("what is left of an earlier transaction: {}", sentence(&error));
        node.note(&repository, Err(error));
        return Err(PublisherError::Busy { repository, holder });
    }
    node.note(&repository, Ok(()));
    check_idle(&site)?;
    settings.checks.free_space(&site.node.spool)?;

    let reader = site.reader(Expiry::Refuse { now: seconds() })?;
    if let Some(revision) = site.find(&reader, settings.mark, key)? {
        return Err(PublisherError::TagExists { tag: key.to_owned(), revision });
    }
    let lease = effective::lease(&reader, &reserved)?;
    drop(reader);
    let what = match site.has_gateway() && !lease.is_base() {
        true => Word::lease(&repository, &lease).map_err(|error| unusable(error.to_string()))?,
        // Without a gateway all of it is open.
        false => Word::repository(&repository),
    };

    let mut entry = Entry { key: key.to_owned(), began: nanoseconds(), phase: Phase::Opening };
    super::command::forget_code(journal.directory(), Subcommand::Transaction);
    journal.write(&entry).map_err(failed(&site, "write its journal"))?;
    crash::point("cvmfs-server.opening");
    let call = Call {
        program: &settings.command,
        command: Subcommand::Transaction,
        words: &[what],
        key,
        directory: journal.directory(),
        limit: settings.short_limit,
    };
    let ran = call.run(&mut || false).map_err(failed(&site, "run cvmfs_server transaction"))?;
    crash::point("cvmfs-server.opened");
    let lock = site.lock()?;
    let (0, Some(lock)) = (ran.said.code, lock) else {
        let refusal = match ran.ended {
            true => Refusal::TimedOut { limit: settings.short_limit },
            false => Refusal::of(Subcommand::Transaction, &ran.said),
        };
        // What is open now is somebody else's, unless it is what our command left when it failed.
        settle::end_processes(&site, key)?;
        settle::clean(settings, &site, &journal)?;
        return Err(refused(&site, refusal));
    };
    // Before the gateway is asked anything: that may take long.
    entry.phase = Phase::Open { lock: lock.id, lease: None };
    journal.write(&entry).map_err(failed(&site, "write its journal"))?;
    let begun = begin(&site, settings).and_then(|(base, union, lease)| {
        entry.phase = Phase::Open { lock: lock.id, lease };
        journal.write(&entry).map_err(failed(&site, "write its journal"))?;
        Ok((base, union))
    });
    crash::point("cvmfs-server.open");
    match begun {
        Ok((base, union)) => {
            Ok(OpenTransaction::new(hold, site, journal, entry, key_word, reserved, base, union, ran.took))
        }
        Err(error) => {
            settle::end_processes(&site, key)?;
            settle::clean(settings, &site, &journal)?;
            Err(error)
        }
    }
}

/// What is to be known of a transaction that has just been opened.
fn begin(site: &Site, settings: &super::Settings) -> Result<(Revision, Union, Option<Lease>), PublisherError> {
    let lease = site.lease(settings)?;
    // Read only now: a publish of others may have ended while we waited for the lease.
    let manifest = site.reader(Expiry::Ignore)?.manifest().clone();
    let base = Revision { number: manifest.revision, root_hash: manifest.root_hash.to_string() };
    let mut union = Union::open(&site.node.union, settings.ownership, site.owner)?;
    if !site.node.xattrs {
        union = union.without_attributes();
    }
    Ok((base, union, lease))
}

/// Refuses where somebody else has the repository.
fn check_idle(site: &Site) -> Result<(), PublisherError> {
    let busy = |holder| Err(PublisherError::Busy { repository: site.name.clone(), holder });
    if let Some(lock) = site.lock()? {
        return busy(site.describe(&lock));
    }
    match site.publishing().map_err(failed(site, "look who publishes"))? {
        Publishing::Nobody => Ok(()),
        publishing => busy(format!("a publish that is not Conveyor's runs: {publishing}")),
    }
}

/// What a refused `transaction` means for the batch.
fn refused(site: &Site, refusal: Refusal) -> PublisherError {
    let repository = site.name.clone();
    if refusal.is_busy() {
        // Whoever was faster: now there is more to be said of them.
        let holder = match site.lock() {
            Ok(Some(lock)) => site.describe(&lock),
            _ => refusal.to_string(),
        };
        return PublisherError::Busy { repository, holder };
    }
    PublisherError::Refused { repository, command: Subcommand::Transaction, refusal }
}

/// Seconds since 1970.
fn seconds() -> i64 {
    i64::try_from(nanoseconds() / 1_000_000_000).unwrap_or(i64::MAX)
}

/// Nanoseconds since 1970, by the clock that dates files. The kernel dates them by a clock that ticks some thousandths of a
/// second behind, so this one is set back as far.
fn nanoseconds() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX).saturating_sub(20_000_000)
}
