//! What is left of a transaction of ours, after an error, a crash of the worker or one of the machine: first fenced, so that
//! nothing more can come of it, then cleaned up.

use std::fs;
use std::io;
use std::time::{Duration, Instant, UNIX_EPOCH};

use super::command::{self, Call};
use super::journal::{Entry, Journal, Lock, Phase};
use super::publishing::Publishing;
use super::refusal::{Refusal, Subcommand};
use super::settings::Settings;
use super::site::Site;
use super::words::Word;
use crate::crash;
use crate::publisher::{PublisherError, mounts};

/// How long a publish that is none of our processes may hold its lock until we say so.
const LOCK_PATIENCE: Duration = Duration::from_secs(30);
/// How often it is looked at.
const LOOK: Duration = Duration::from_millis(50);

/// The transaction that was not seen to end.
pub(super) fn entry(site: &Site, journal: &Journal) -> Result<Option<Entry>, PublisherError> {
    journal.read().map_err(failed(site, "read its journal"))
}

/// Fences and cleans up what is left of a transaction, where there is one.
pub(super) fn settle(settings: &Settings, site: &Site, journal: &Journal) -> Result<(), PublisherError> {
    let Some(entry) = entry(site, journal)? else { return Ok(()) };
    fence(settings, site, &entry)?;
    if reported_success(journal, &entry) && site.look(settings.mark, &entry.key)?.is_none() {
        refuse_contradiction(site, journal, &entry)?;
    }
    clean(settings, site, journal)
}

/// Refuses to conclude that a batch was not published when `cvmfs_server` has said that it was. Nothing is tried again then, and the
/// journal stays, until the history has it or a person has looked.
pub(super) fn refuse_contradiction(site: &Site, journal: &Journal, entry: &Entry) -> Result<(), PublisherError> {
    if !reported_success(journal, entry) {
        return Ok(());
    }
    let why = format!(
        "cvmfs_server reported that it had published {}, and the history at {} does not have it: look at the repository, settle \
         the jobs with conveyor resolve, then remove {}",
        entry.key,
        site.node.url,
        journal.directory().display()
    );
    Err(PublisherError::Unusable { repository: site.name.clone(), why })
}

/// Whether the publish of a transaction ended with exit code 0.
fn reported_success(journal: &Journal, entry: &Entry) -> bool {
    matches!(entry.phase, Phase::Publishing { .. })
        && command::noted_code(journal.directory(), Subcommand::Publish) == Some(0)
}

/// Makes sure that nothing more comes of a transaction: none of its processes is there, and, where there is a gateway, its lease
/// is dropped, which the gateway answers when no commit of it runs any more. What the history says then is final.
pub(super) fn fence(settings: &Settings, site: &Site, entry: &Entry) -> Result<(), PublisherError> {
    end_processes(site, &entry.key)?;
    crash::point("cvmfs-server.processes-ended");
    let Phase::Publishing { lease: Some(lease), .. } = &entry.phase else {
        // Nothing was sent with the lease: `abort` drops it, and until then it is only in somebody's way.
        return Ok(());
    };
    site.drop_lease(settings, lease)?;
    crash::point("cvmfs-server.lease-dropped");
    Ok(())
}

/// Ends the processes of a batch, and waits until nobody publishes. Without a gateway that is all there is to fence.
pub(super) fn end_processes(site: &Site, key: &str) -> Result<(), PublisherError> {
    command::end(key).map_err(failed(site, "end the processes of a batch"))?;
    let began = Instant::now();
    loop {
        let publishing = site.publishing().map_err(failed(site, "look who publishes"))?;
        match publishing {
            Publishing::Nobody => return Ok(()),
            // Kept by what our publish or our `abort` mounted before it was killed.
            Publishing::LeftBehind => {
                return site.forget_publishing().map_err(failed(site, "remove its is_publishing.lock"));
            }
            Publishing::Somebody(_) if began.elapsed() > LOCK_PATIENCE => {
                let holder = format!("a publish that is not Conveyor's runs: {publishing}");
                return Err(PublisherError::Busy { repository: site.name.clone(), holder });
            }
            Publishing::Somebody(_) => std::thread::sleep(LOOK),
        }
    }
}

/// Ends what is left of a transaction, if it is ours, and forgets it. It must be fenced, or never have come to a publish.
pub(super) fn clean(settings: &Settings, site: &Site, journal: &Journal) -> Result<(), PublisherError> {
    let Some(entry) = entry(site, journal)? else { return Ok(()) };
    if let Some(lock) = site.lock()?
        && is_ours(site, journal, &entry, &lock)?
    {
        abort(settings, site, journal, &entry.key)?;
        crash::point("cvmfs-server.aborted");
    }
    command::forget_code(journal.directory(), Subcommand::Transaction);
    journal.clear().map_err(failed(site, "clear its journal"))
}

/// Whether an open transaction is that of the journal. An error where nobody can tell.
fn is_ours(site: &Site, journal: &Journal, entry: &Entry, lock: &Lock) -> Result<bool, PublisherError> {
    match &entry.phase {
        Phase::Open { lock: ours, .. } | Phase::Publishing { lock: ours, .. } => return Ok(*ours == lock.id),
        Phase::Opening => {}
    }
    if lock.id.born < entry.began {
        return Ok(false);
    }
    match command::noted_code(journal.directory(), Subcommand::Transaction) {
        // It was opened by our command, unless it is from after that.
        Some(0) => Ok(lock.id.born <= noted_at(journal)),
        Some(_) => Ok(false),
        // Our command was ended by death. One in which nothing was written can be ended without harm to anybody.
        None if site.is_untouched().unwrap_or(false) && [site.owner.uid, 0].contains(&lock.uid) => Ok(true),
        None => {
            let holder = format!(
                "{}; it may also be one of Conveyor's of which nothing is known: look at {}, then publish it or end it with cvmfs_server abort",
                site.describe(lock),
                site.node.union.display()
            );
            Err(PublisherError::Busy { repository: site.name.clone(), holder })
        }
    }
}

/// When the exit code of our `transaction` was noted, in nanoseconds since 1970.
fn noted_at(journal: &Journal) -> u64 {
    let modified = fs::metadata(journal.directory().join("transaction.code")).and_then(|file| file.modified());
    let since = modified.ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok());
    since.map_or(0, |since| u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
}

/// Who holds the repository's mounts in another mount namespace: with them, mounting anew waits for ever.
pub(super) fn holders(site: &Site) -> Result<Vec<String>, PublisherError> {
    let found = mounts::holders(&[site.node.union.clone(), site.lower()]);
    let found = found.map_err(failed(site, "look who holds its mounts"))?;
    Ok(found.iter().map(ToString::to_string).collect())
}

/// Runs `abort -f`, which also mounts the repository anew. It never takes back a revision.
pub(super) fn abort(settings: &Settings, site: &Site, journal: &Journal, key: &str) -> Result<(), PublisherError> {
    let holders = holders(site)?;
    if !holders.is_empty() {
        let holder = format!("its mounts on this node are held by {}: end these processes", holders.join("; "));
        return Err(PublisherError::Busy { repository: site.name.clone(), holder });
    }
    let call = Call {
        program: &settings.command,
        command: Subcommand::Abort,
        words: &[Word::option('f'), Word::repository(&site.name)],
        key,
        directory: journal.directory(),
        limit: settings.short_limit,
    };
    let ran = call.run(&mut || false).map_err(failed(site, "run cvmfs_server abort"))?;
    if ran.said.code == 0 {
        return Ok(());
    }
    let refusal = match ran.ended {
        true => Refusal::TimedOut { limit: settings.short_limit },
        false => Refusal::of(Subcommand::Abort, &ran.said),
    };
    // Somebody was faster.
    if refusal == Refusal::NoTransaction && site.lock()?.is_none() {
        return Ok(());
    }
    Err(PublisherError::Refused { repository: site.name.clone(), command: Subcommand::Abort, refusal })
}

/// An error of the machine, about a repository.
pub(super) fn failed(site: &Site, what: &'static str) -> impl FnOnce(io::Error) -> PublisherError {
    let what = format!("{what} ({})", site.name);
    move |source| PublisherError::Io { what, source }
}
