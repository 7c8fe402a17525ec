//! Named places at which a test can kill the process, exactly there and without any clean-up.
//!
//! Without the feature `crash-points` a point is an empty inline function. With it, `CONVEYOR_CRASH_AT=name` makes the
//! first passage of that point a `SIGKILL` of the own process, `CONVEYOR_CRASH_AT=name:N` the N-th.

/// Every point there is, so that a test can kill at each of them in turn.
pub const ALL: &[&str] = &[
    "submit.before",
    "submit.after",
    "claim.before",
    "claim.after",
    "intent.before",
    "intent.after",
    "outcome.before",
    "outcome.after",
    "finding.before",
    "finding.after",
    "store.before-commit",
    "store.committed",
    "retention.jobs-pruned",
    "backup.blobs-copied",
    "backup.jobs-copied",
    "backup.before-name",
    "restore.before-done",
    "broker.before-send",
    "broker.sent",
    "broker.events-sent",
    "announce.before",
    "announce.told",
    "visible.before",
    "visible.after",
    "notify.before-send",
    "notify.sent",
    "broker.before-ack",
    "broker.acknowledged",
    "worker.received",
    "worker.claimed",
    "worker.staged",
    "worker.permitted",
    "worker.published",
    "worker.reported",
    "worker.recovering",
    "worker.found",
    "native.before-objects-sync",
    "native.objects-synced",
    "native.reflog-written",
    "native.before-flip",
    "native.flipped",
    "native.flip-synced",
    "cvmfs-server.opening",
    "cvmfs-server.opened",
    "cvmfs-server.open",
    "cvmfs-server.publishing",
    "cvmfs-server.published",
    "cvmfs-server.processes-ended",
    "cvmfs-server.lease-dropped",
    "cvmfs-server.aborted",
];

/// Passes a point: the process ends here if the environment says so.
#[cfg(not(feature = "crash-points"))]
#[inline(always)]
pub fn point(_name: &str) {}

/// Passes a point: the process ends here if the environment says so.
#[cfg(feature = "crash-points")]
pub fn point(name: &str) {
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    static WANTED: LazyLock<Option<(String, u64)>> =
        LazyLock::new(|| std::env::var("CONVEYOR_CRASH_AT").ok().map(|text| parse(&text)));
    static PASSAGES: AtomicU64 = AtomicU64::new(0);

    debug_assert!(ALL.contains(&name), "{name} is missing from crash::ALL");
    if let Some((wanted, passage)) = &*WANTED
        && wanted == name
        && PASSAGES.fetch_add(1, Ordering::SeqCst) + 1 == *passage
    {
        let _ = nix::sys::signal::kill(nix::unistd::Pid::this(), nix::sys::signal::Signal::SIGKILL);
        // The signal is delivered before kill(2) returns to its sender; nothing may run in case it was not.
        std::process::abort();
    }
}

/// `name` or `name:N`.
#[cfg(any(feature = "crash-points", test))]
fn parse(text: &str) -> (String, u64) {
    match text.rsplit_once(':') {
        Some((name, passage)) => match passage.parse() {
            Ok(passage) => (name.to_owned(), passage),
            Err(_) => (text.to_owned(), 1),
        },
        None => (text.to_owned(), 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_point_is_named_alone_or_with_its_passage() {
        assert_eq!(parse("claim.before"), ("claim.before".into(), 1));
        assert_eq!(parse("claim.before:3"), ("claim.before".into(), 3));
    }

    #[test]
    fn every_name_is_listed_once() {
        let mut names = ALL.to_vec();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ALL.len());
    }
}
