//! The publish: before it, whoever would hold it up is looked for; while it runs, whether its revision is there; after it, the
//! history is asked what became of it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::Mark;
use super::command::{Call, Ran};
use super::inspect::Inspection;
use super::journal::Phase;
use super::refusal::{Refusal, Subcommand};
use super::settle::{self, failed};
use super::site::Site;
use super::transaction::OpenTransaction;
use super::upper::Change;
use super::words::Word;
use super::{in_use, verify};
use crate::crash;
use crate::cvmfs::hash::ContentHash;
use crate::cvmfs::reader::Expiry;
use crate::publisher::{Mismatch, Published, PublisherError, Revision};

/// Who holds up a publish is named, as many as this.
const NAMED: usize = 5;
/// How often it is looked whether they have gone.
const LOOK: Duration = Duration::from_millis(200);
/// After this time a publish is watched for its revision: one that ends sooner needs no watching.
const WATCH_AFTER: Duration = Duration::from_secs(10);
/// How often the repository is asked for it.
const ASK: Duration = Duration::from_secs(5);
/// How long the history may lack the tag of a publish that reported success.
const LATE: Duration = Duration::from_secs(30);

/// Lines of `cvmfs_server publish` with which a stage begins, and its name.
const STAGES: &[(&str, &str)] = &[
    ("Processing changes", "sync"),
    ("Committing file catalogs", "catalogs"),
    ("Exporting repository manifest", "manifest"),
    ("Tagging ", "tag"),
    ("Flushing file system buffers", "flush"),
    ("Signing new manifest", "sign"),
    ("Remounting newly created", "remount"),
];

/// Publishes. After an error the batch must be recovered: its transaction stays as it is, for the history to be asked first.
pub(super) fn publish(transaction: &mut OpenTransaction) -> Result<Published, PublisherError> {
    let mut phases = Phases::new();
    let union = transaction.open_union()?;
    union.settle()?;
    let dropped_attributes = union.dropped_attributes();
    let checks = transaction.checks();
    checks.free_space(&transaction.site.node.spool)?;
    let (mut changes, mut inspection) = (Vec::new(), checks.begin(&transaction.site.node.union));
    transaction.each_change(&mut |change| {
        inspection.see(&change)?;
        changes.push(change);
        Ok(())
    })?;
    let mut notes = warnings(&transaction.site, inspection)?;
    // It holds a directory of the repository open.
    transaction.union = None;
    phases.end("checks");
    wait_until_free(transaction)?;
    phases.end("in_use");

    let (lock, lease) = match &transaction.entry.phase {
        Phase::Open { lock, lease } | Phase::Publishing { lock, lease } => (*lock, lease.clone()),
        Phase::Opening => return Err(no_transaction(&transaction.site)),
    };
    // Somebody ended it, and perhaps opened one of theirs.
    if transaction.site.lock()?.map(|there| there.id) != Some(lock) {
        return Err(no_transaction(&transaction.site));
    }
    transaction.entry.phase = Phase::Publishing { lock, lease };
    let (site, journal) = (&transaction.site, &transaction.journal);
    // That of the publish before is not this one's.
    super::command::forget_code(journal.directory(), Subcommand::Publish);
    journal.write(&transaction.entry).map_err(failed(site, "write its journal"))?;
    crash::point("cvmfs-server.publishing");

    let settings = &transaction.hold.node.settings;
    let (key, name) = (transaction.key.clone(), Word::repository(&site.name));
    let words = match settings.mark {
        Mark::Tag => [Word::option('a'), key, name],
        Mark::Description => [Word::option('m'), key, name],
    };
    let call = Call {
        program: &settings.command,
        command: Subcommand::Publish,
        words: &words,
        key: &transaction.entry.key,
        directory: journal.directory(),
        limit: settings.publish_limit,
    };
    phases.end("journal");
    let mut watch = Watch::new(site, settings.mark, &transaction.entry.key, settings.remount_limit);
    // From here on only the history tells what became of it.
    transaction.is_over = true;
    let ran = call.run(&mut || watch.is_enough()).map_err(failed(site, "run cvmfs_server publish"))?;
    crash::point("cvmfs-server.published");
    phases.end("cvmfs_server_publish");
    if ran.said.code != 0 && watch.seen.is_none() {
        let refusal = match ran.ended {
            true => Refusal::TimedOut { limit: settings.publish_limit },
            false => Refusal::of(Subcommand::Publish, &ran.said),
        };
        return Err(refused(site, refusal));
    }
    let revision = find(site, settings.mark, &transaction.entry.key)?;
    phases.end("look");
    if dropped_attributes > 0 {
        notes.push(format!("{dropped_attributes} extended attributes were left out: they cannot be published"));
    }
    if watch.seen.is_some() {
        let seconds = settings.remount_limit.as_secs();
        // It would hang in the same place; the node is repaired when nobody waits for it.
        let fault =
            format!("its publish was ended {seconds} s after its revision was there: the node could not mount it");
        notes.push(fault.clone());
        transaction
            .hold
            .node
            .note(&site.name, Err(PublisherError::Unusable { repository: site.name.clone(), why: fault }));
    } else {
        transaction.hold.node.note(&site.name, settle::clean(settings, site, journal));
    }
    phases.end("clean");
    let mismatches = mismatches(site, &revision, &changes)?;
    phases.end("verify");
    let mut figures = stages(&ran);
    figures.extend(phases.figures);
    figures.insert("paths_verified".into(), changes.len().to_string());
    figures.insert("transaction_ms".into(), transaction.opening.as_millis().to_string());
    Ok(Published { revision, figures, notes, mismatches })
}

fn no_transaction(site: &Site) -> PublisherError {
    let why = "its transaction was ended by somebody else; nothing was published".into();
    PublisherError::Busy { repository: site.name.clone(), holder: why }
}

/// What a refused `publish` means for the batch, if the history says that nothing was published.
fn refused(site: &Site, refusal: Refusal) -> PublisherError {
    let repository = site.name.clone();
    if refusal.is_busy() {
        return PublisherError::Busy { repository, holder: refusal.to_string() };
    }
    PublisherError::Refused { repository, command: Subcommand::Publish, refusal }
}

/// Waits until nobody has the mounted repository in use: `cvmfs_server` would refuse, or wait for ever.
fn wait_until_free(transaction: &OpenTransaction) -> Result<(), PublisherError> {
    let (site, settings) = (&transaction.site, &transaction.hold.node.settings);
    let began = Instant::now();
    loop {
        let mut users: Vec<String> = in_use::users(&site.node.union).iter().map(ToString::to_string).collect();
        users.extend(settle::holders(site)?);
        users.truncate(NAMED);
        if users.is_empty() {
            return Ok(());
        }
        if began.elapsed() > settings.in_use_patience {
            let holder = format!("it is in use on this node: {}", users.join("; "));
            return Err(PublisherError::Busy { repository: site.name.clone(), holder });
        }
        std::thread::sleep(LOOK);
    }
}

/// Looks, while a publish runs, whether its revision is there.
struct Watch<'a> {
    site: &'a Site,
    mark: Mark,
    key: &'a str,
    limit: Duration,
    next: Instant,
    /// The root catalog that was seen last.
    last: Option<ContentHash>,
    seen: Option<Instant>,
}

impl<'a> Watch<'a> {
    fn new(site: &'a Site, mark: Mark, key: &'a str, limit: Duration) -> Self {
        Self { site, mark, key, limit, next: Instant::now() + WATCH_AFTER, last: None, seen: None }
    }

    /// Whether it has gone on for long enough with its revision there.
    fn is_enough(&mut self) -> bool {
        if let Some(seen) = self.seen {
            return seen.elapsed() > self.limit;
        }
        if Instant::now() >= self.next {
            // Whatever is wrong with reading it now, it is asked again.
            if let Ok(true) = self.look() {
                self.seen = Some(Instant::now());
            }
            self.next = Instant::now() + ASK;
        }
        false
    }

    fn look(&mut self) -> Result<bool, PublisherError> {
        let reader = self.site.reader(Expiry::Ignore)?;
        let root = reader.manifest().root_hash;
        if self.last.replace(root) == Some(root) {
            return Ok(false);
        }
        Ok(self.site.find(&reader, self.mark, self.key)?.is_some())
    }
}

/// The revision of a publish that reported success.
fn find(site: &Site, mark: Mark, key: &str) -> Result<Revision, PublisherError> {
    let began = Instant::now();
    loop {
        let found = site.look(mark, key);
        match found {
            Ok(Some(revision)) => return Ok(revision),
            Ok(None) | Err(PublisherError::Format { .. } | PublisherError::Io { .. }) if began.elapsed() < LATE => {
                std::thread::sleep(LOOK)
            }
            Ok(None) => {
                let why = format!("cvmfs_server reported success, and {key} is not in the history");
                return Err(PublisherError::Unusable { repository: site.name.clone(), why });
            }
            Err(error) => return Err(error),
        }
    }
}

/// What people should know of the changes beforehand.
fn warnings(site: &Site, inspection: Inspection<'_>) -> Result<Vec<String>, PublisherError> {
    let reader = site.reader(Expiry::Ignore)?;
    let warnings = reader.tree().and_then(|mut tree| inspection.finish(&mut tree));
    warnings.map_err(|source| PublisherError::Format {
        repository: site.name.clone(),
        what: "look at the catalogs that change".into(),
        source: Box::new(source),
    })
}

/// Compares what was staged with the catalogs of the revision.
fn mismatches(site: &Site, revision: &Revision, changes: &[Change]) -> Result<Vec<Mismatch>, PublisherError> {
    let unreadable = |source: crate::cvmfs::Error| PublisherError::Format {
        repository: site.name.clone(),
        what: format!("verify revision {}", revision.number),
        source: Box::new(source),
    };
    let root = ContentHash::parse(&revision.root_hash).map_err(unreadable)?;
    let reader = site.reader(Expiry::Ignore)?;
    let found = verify::verify(&reader, &root, changes, site.node.ignore_special_files).map_err(unreadable)?;
    let left_out = found.count.saturating_sub(found.named.len() as u64);
    if left_out > 0 {
        tracing::warn!(repository = %site.name, revision = revision.number, left_out, "more paths were published otherwise than staged");
    }
    Ok(found.named)
}

/// How long each of our own steps took.
struct Phases {
    figures: BTreeMap<String, String>,
    began: Instant,
}

impl Phases {
    fn new() -> Self {
        Self { figures: BTreeMap::new(), began: Instant::now() }
    }

    fn end(&mut self, phase: &str) {
        self.figures.insert(format!("{phase}_ms"), self.began.elapsed().as_millis().to_string());
        self.began = Instant::now();
    }
}

/// How long each of its own stages took.
fn stages(ran: &Ran) -> BTreeMap<String, String> {
    let mut begun: Vec<(&str, Duration)> = Vec::new();
    for (line, at) in &ran.lines {
        if let Some((_, name)) = STAGES.iter().find(|(text, _)| line.contains(text)) {
            begun.push((name, *at));
        }
    }
    let ends = begun.iter().skip(1).map(|(_, at)| *at).chain([ran.took]);
    let took = |((name, from), to): (&(&str, Duration), Duration)| {
        (format!("{name}_ms"), to.saturating_sub(*from).as_millis().to_string())
    };
    begun.iter().zip(ends).map(took).collect()
}
