//! What `cvmfs_server` says when it does not do what was asked: the one table from exit codes and texts to what they mean.
//!
//! Measured on 2.12 (`transaction` and `abort` are C++, whose exit code often is an errno; `publish` is shell: 1 = die,
//! 2 = a file that could not be read or written, 3 = usage). It is advice for people and for when to try again. What became of a publish is never taken
//! from here: the repository's history tells.

use std::time::Duration;

/// A command of `cvmfs_server`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subcommand {
    /// `transaction`.
    Transaction,
    /// `publish`.
    Publish,
    /// `abort`.
    Abort,
}

impl Subcommand {
    /// Its name on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Transaction => "transaction",
            Self::Publish => "publish",
            Self::Abort => "abort",
        }
    }
}

/// Why a command did not do what was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Somebody has a transaction open.
    #[error("another transaction is open")]
    TransactionOpen,
    /// Somebody has a lease on the path, or on one above or below it.
    #[error("the lease path is busy{}", remaining.as_ref().map(|time| format!(" for another {time}")).unwrap_or_default())]
    PathBusy {
        /// How long that lease lasts, as the gateway says it.
        remaining: Option<String>,
    },
    /// A publish runs.
    #[error("a publish is running")]
    Publishing,
    /// A transaction is open and the repository is not mounted for writing, as after a publish that was killed.
    #[error("a transaction is open, and the repository is not mounted for writing")]
    NotWritable,
    /// There is no transaction.
    #[error("no transaction is open")]
    NoTransaction,
    /// The node does not know the repository.
    #[error("the repository is not configured on this node")]
    UnknownRepository,
    /// The worker's account is not the repository's owner.
    #[error("this account may not publish into the repository")]
    NotOwner,
    /// Clients, and so the publisher, refuse the repository.
    #[error("the repository's whitelist has expired")]
    WhitelistExpired,
    /// The stratum 0 does not answer over HTTP.
    #[error("the repository's web server does not answer")]
    WebServerDown,
    /// The gateway does not answer.
    #[error("the gateway does not answer")]
    GatewayDown,
    /// The gateway gives no leases for it, as before a restart.
    #[error("the gateway has the repository disabled")]
    Disabled,
    /// The gateway does not know the key, or its secret is another.
    #[error("the gateway refuses the repository's key")]
    GatewayKeyRefused,
    /// There is no key for the gateway.
    #[error("there is no key for the gateway on this node")]
    GatewayKeyMissing,
    /// The lease was over before the publish.
    #[error("the lease is over, or the gateway does not know it any more")]
    LeaseOver,
    /// The directory above the lease path went away.
    #[error("the directory above the lease path does not exist")]
    ParentMissing,
    /// What is above the lease path is no directory.
    #[error("what is above the lease path is not a directory")]
    ParentNotDirectory,
    /// Somebody works in the mounted repository.
    #[error("the repository is in use on this node: {report}")]
    InUse {
        /// What was said about it.
        report: String,
    },
    /// The tag was used before: that publish was made.
    #[error("the tag is in use")]
    TagUsed,
    /// The archive of changes could not be processed, stored or sent.
    #[error("the changes could not be published: {report}")]
    NotProcessed {
        /// The end of what was said.
        report: String,
    },
    /// No room on one of the disks.
    #[error("a disk is full: {report}")]
    DiskFull {
        /// What was said about it.
        report: String,
    },
    /// It took longer than it may.
    #[error("it took longer than {} s and was ended", limit.as_secs())]
    TimedOut {
        /// The limit.
        limit: Duration,
    },
    /// It was killed, by us or by somebody else.
    #[error("it was killed by signal {signal}")]
    Killed {
        /// Which signal.
        signal: i32,
    },
    /// Its call was not understood: another version, or a defect of ours.
    #[error("its call was not understood: {report}")]
    Usage {
        /// What was said about it.
        report: String,
    },
    /// Nothing that is in the table.
    #[error("exit code {code}: {report}")]
    Other {
        /// The exit code.
        code: i32,
        /// The end of what was said.
        report: String,
    },
}

/// How a command ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// Its exit code; negative is the signal that killed it.
    pub code: i32,
    /// Standard output, or its end.
    pub stdout: String,
    /// Standard error, or its end.
    pub stderr: String,
}

/// Bytes of what a command said that go into an error.
const REPORT: usize = 600;

impl Refusal {
    /// What a command that ended with another code than 0 meant.
    pub fn of(command: Subcommand, said: &Said) -> Self {
        if said.code < 0 {
            return Self::Killed { signal: -said.code };
        }
        let all = format!("{}\n{}", said.stdout, said.stderr);
        let has = |text: &str| all.contains(text);
        // Texts first: most of them are said with exit code 1, some with several.
        let by_text: &[(&[&str], Self)] = &[
            (&["No space left on device", "disk full", "Errno 28"], Self::DiskFull { report: report(said) }),
            (&["lease path busy", "Path busy."], Self::PathBusy { remaining: remaining(&all) }),
            (&["another transaction is already open"], Self::TransactionOpen),
            (
                &["Another publish process is active", "is currently publishing", "Could not acquire lock"],
                Self::Publishing,
            ),
            (&["is already in use."], Self::TagUsed),
            (&["is expired", "expired whitelist"], Self::WhitelistExpired),
            (&["repo_disabled"], Self::Disabled),
            (&["gateway key missing"], Self::GatewayKeyMissing),
            (&["invalid_hmac", "invalid_key", "cannot parse session token"], Self::GatewayKeyRefused),
            (&["invalid lease", "invalid_token", "lease_expired"], Self::LeaseOver),
            (
                &[
                    "lease acquire request failed",
                    "lease drop request failed",
                    "curl_easy_perform failed",
                    "cannot acquire lease",
                    "cannot drop lease",
                ],
                Self::GatewayDown,
            ),
            (&["non-existing path"], Self::ParentMissing),
            (
                &["cannot load whitelist", "Repository unavailable under", "failed to fetch repository manifest"],
                Self::WebServerDown,
            ),
            (&["No write permission to repository", "is_publishing.lock: Permission denied"], Self::NotOwner),
            (&["does not exist.", "Unable to find the configuration file"], Self::UnknownRepository),
            (&["is not in a transaction"], Self::NoTransaction),
            (&["not mounted read/write", "cannot be repaired"], Self::NotWritable),
            (
                &["Open writable file descriptors", "Do you want to proceed anyway", "Current working directory is in"],
                Self::InUse { report: report(said) },
            ),
            (
                &["Illegal option", "unrecognized parameter", "Unrecognized command"],
                Self::Usage { report: report(said) },
            ),
            (
                &["Synchronization failed", "Tagging failed", "Signing failed", "fail!"],
                Self::NotProcessed { report: report(said) },
            ),
        ];
        if let Some((_, refusal)) = by_text.iter().find(|(texts, _)| texts.iter().any(|text| has(text))) {
            return refusal.clone();
        }
        match (command, said.code) {
            (Subcommand::Transaction, 2) => Self::ParentMissing,
            (Subcommand::Transaction, 16) => Self::PathBusy { remaining: None },
            (Subcommand::Transaction, 17) => Self::TransactionOpen,
            (Subcommand::Transaction, 20) => Self::ParentNotDirectory,
            (Subcommand::Transaction | Subcommand::Abort, 28) => Self::DiskFull { report: report(said) },
            (_, 3) => Self::Usage { report: report(said) },
            (_, code) => Self::Other { code, report: report(said) },
        }
    }

    /// Tells whether the same can succeed later without anybody's doing.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::TransactionOpen
            | Self::PathBusy { .. }
            | Self::Publishing
            | Self::NotWritable
            | Self::NoTransaction
            | Self::WebServerDown
            | Self::GatewayDown
            | Self::Disabled
            | Self::LeaseOver
            | Self::ParentMissing
            | Self::InUse { .. }
            | Self::NotProcessed { .. }
            | Self::DiskFull { .. }
            | Self::TimedOut { .. }
            | Self::Killed { .. }
            | Self::Other { .. } => true,
            Self::UnknownRepository
            | Self::NotOwner
            | Self::WhitelistExpired
            | Self::GatewayKeyRefused
            | Self::GatewayKeyMissing
            | Self::ParentNotDirectory
            | Self::TagUsed
            | Self::Usage { .. } => false,
        }
    }

    /// Tells whether somebody else's work is what we wait for, which is the fault of no job.
    pub fn is_busy(&self) -> bool {
        matches!(
            self,
            Self::TransactionOpen | Self::PathBusy { .. } | Self::Publishing | Self::InUse { .. } | Self::Disabled
        )
    }

    /// A word for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::TransactionOpen => "transaction_open",
            Self::PathBusy { .. } => "lease_busy",
            Self::Publishing => "publish_running",
            Self::NotWritable => "mount_not_writable",
            Self::NoTransaction => "no_transaction",
            Self::UnknownRepository => "unknown_repository",
            Self::NotOwner => "not_owner",
            Self::WhitelistExpired => "whitelist_expired",
            Self::WebServerDown => "web_server_down",
            Self::GatewayDown => "gateway_down",
            Self::Disabled => "gateway_disabled",
            Self::GatewayKeyRefused => "gateway_key_refused",
            Self::GatewayKeyMissing => "gateway_key_missing",
            Self::LeaseOver => "lease_over",
            Self::ParentMissing => "parent_missing",
            Self::ParentNotDirectory => "parent_not_directory",
            Self::InUse { .. } => "repository_in_use",
            Self::TagUsed => "tag_exists",
            Self::NotProcessed { .. } => "publish_failed",
            Self::DiskFull { .. } => "disk_full",
            Self::TimedOut { .. } => "cvmfs_server_timed_out",
            Self::Killed { .. } => "cvmfs_server_killed",
            Self::Usage { .. } => "cvmfs_server_usage",
            Self::Other { .. } => "cvmfs_server_failed",
        }
    }

    /// What a person does about it, where that is known.
    pub fn advice(&self) -> Option<&'static str> {
        Some(match self {
            Self::NotWritable => "abort what is left of the publish on the node: cvmfs_server abort -f REPOSITORY",
            Self::UnknownRepository => {
                "make or import it on the node, or list what the node serves in [worker] repositories"
            }
            Self::NotOwner => "run the worker as the repository's owner (CVMFS_USER in server.conf), or as root",
            Self::WhitelistExpired => "sign it anew: cvmfs_server resign REPOSITORY",
            Self::WebServerDown => "see that the web server of the stratum 0 answers: CVMFS_STRATUM0 in server.conf",
            Self::GatewayDown => "see that the gateway answers: conveyor leases",
            Self::Disabled => "enable it when the gateway is to serve again: conveyor gateway resume",
            Self::GatewayKeyRefused => "compare /etc/cvmfs/keys/REPOSITORY.gw with the gateway's key",
            Self::GatewayKeyMissing => "copy the gateway's key to /etc/cvmfs/keys/REPOSITORY.gw",
            Self::DiskFull { .. } => "make room for the spool directory and for the storage",
            Self::ParentNotDirectory => "choose another lease path",
            _ => return None,
        })
    }
}

/// What is left of the lease in the way, as the gateway says it.
fn remaining(text: &str) -> Option<String> {
    let (_, rest) = text.split_once("Time remaining = ")?;
    Some(rest.split_whitespace().next()?.to_owned())
}

/// The end of what a command said, errors last, without what is said whenever a repository is mounted.
fn report(said: &Said) -> String {
    const NOISE: &[&str] = &[
        "CernVM-FS: running with",
        "CernVM-FS: loading Fuse module",
        "CernVM-FS: mounted cvmfs on",
        "Failed to set requested number of open files",
        "[[: not found",
        "Gateway reply: ok",
    ];
    let is_worth_it = |line: &&str| !line.trim().is_empty() && !NOISE.iter().any(|noise| line.contains(noise));
    let lines: Vec<_> = said.stdout.lines().chain(said.stderr.lines()).filter(is_worth_it).map(str::trim).collect();
    let mut report = lines.join("; ");
    if report.len() > REPORT {
        let start = (report.len() - REPORT..report.len()).find(|start| report.is_char_boundary(*start));
        report = format!("…{}", &report[start.unwrap_or(report.len())..]);
    }
    if report.is_empty() { "it said nothing".into() } else { report }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::Subcommand::{Abort, Publish, Transaction};
    use super::*;

    /// What was measured: command, exit code, standard output, standard error, what it means, whether it passes by itself.
    const MEASURED: &[(Subcommand, i32, &str, &str, &str, bool)] = &[
        (
            Transaction,
            17,
            "",
            "CernVM-FS transaction error: another transaction is already open",
            "transaction_open",
            true,
        ),
        (
            Transaction,
            17,
            "repository busy, retrying",
            "CernVM-FS transaction error: another transaction is already open",
            "transaction_open",
            true,
        ),
        (
            Transaction,
            1,
            "",
            "REPO is in a transaction but /cvmfs/REPO is not mounted read/write\n(unexpected termination) cannot establish writable mountpoint",
            "mount_not_writable",
            true,
        ),
        (
            Transaction,
            1,
            "",
            "REPO is in a transaction but /cvmfs/REPO is not mounted read/write\nWARNING: The repository REPO is currently publishing and should not be touched",
            "publish_running",
            true,
        ),
        (
            Transaction,
            1,
            "",
            "CernVM-FS error: Unable to find the configuration file `server.conf` for the cvmfs publisher: REPO",
            "unknown_repository",
            false,
        ),
        (Transaction, 1, "", "Invocation error: transaction: unrecognized parameter '-Q'", "cvmfs_server_usage", false),
        (Transaction, 1, "", "Permission error: No write permission to repository", "not_owner", false),
        (Transaction, 5, "", "cannot load whitelist [failed to download whitelist]", "web_server_down", true),
        (Transaction, 5, "", "cannot load whitelist [expired whitelist]", "whitelist_expired", false),
        (Transaction, 22, "", "Repository whitelist for test.example.org is expired", "whitelist_expired", false),
        (
            Transaction,
            16,
            "Path busy. Time remaining = 59.52s",
            "CernVM-FS transaction error: lease path busy",
            "lease_busy",
            true,
        ),
        (
            Transaction,
            2,
            "Gateway reply: ok\nGateway reply: ok",
            "CernVM-FS transaction error: cannot open transaction on non-existing path /sub",
            "parent_missing",
            true,
        ),
        (Transaction, 20, "", "", "parent_not_directory", false),
        (
            Transaction,
            1,
            "",
            "Make lease acquire request failed: 7. Reply: \n(unexpected termination) cannot acquire lease",
            "gateway_down",
            true,
        ),
        (
            Transaction,
            1,
            "Error: 'invalid_hmac'",
            "(unexpected termination) cannot parse session token",
            "gateway_key_refused",
            false,
        ),
        (Transaction, 5, "", "gateway key missing: /etc/cvmfs/keys/REPO.gw", "gateway_key_missing", false),
        (Abort, 22, "", "Repository REPO is not in a transaction", "no_transaction", true),
        (Abort, 22, "", "Could not acquire lock /var/spool/cvmfs/REPO/is_publishing.lock", "publish_running", true),
        (
            Abort,
            1,
            "Current working directory is in /cvmfs/REPO.  Please release, e.g. by 'cd $HOME'.",
            "",
            "repository_in_use",
            true,
        ),
        (
            Abort,
            1,
            "",
            "(unexpected termination) cannot load whitelist [failed to download whitelist]",
            "web_server_down",
            true,
        ),
        (Abort, 5, "", "Make lease drop request failed: 7\ncannot drop lease", "gateway_down", true),
        (Publish, 1, "Repository REPO is not in a transaction", "", "no_transaction", true),
        (Publish, 1, "", "The repository REPO does not exist.", "unknown_repository", false),
        (Publish, 1, "", "Another publish process is active for REPO", "publish_running", true),
        (Publish, 3, "CernVM-FS Server Tool\nUsage: …", "Illegal option -Q", "cvmfs_server_usage", false),
        (Publish, 1, "Open writable file descriptors on REPO", "", "repository_in_use", true),
        (Publish, 1, "COMMAND PID\nDo you want to proceed anyway? (y/N) aborted.", "", "repository_in_use", true),
        (Publish, 1, "", "Tag name 'v1' is already in use.", "tag_exists", false),
        (Publish, 1, "Repository unavailable under http://localhost/cvmfs/REPO", "", "web_server_down", true),
        (
            Publish,
            2,
            "",
            "cannot create /var/spool/cvmfs/REPO/is_publishing.lock: Permission denied",
            "not_owner",
            false,
        ),
        (
            Publish,
            1,
            "",
            "REPO is in a transaction but /cvmfs/REPO is not mounted read/write\nRepository REPO is in a transaction and cannot be repaired.\n--> Run `cvmfs_server abort REPO`",
            "mount_not_writable",
            true,
        ),
        (
            Publish,
            1,
            "",
            "SessionContext::DoUpload - error reply: {\"reason\":\"invalid lease\",\"status\":\"error\"}\nterminate called\nPANIC\nKilled\nSynchronization failed",
            "lease_over",
            true,
        ),
        (
            Publish,
            1,
            "",
            "SessionContext::DoUpload - curl_easy_perform failed: 7\nKilled\nSynchronization failed",
            "gateway_down",
            true,
        ),
        (Publish, 1, "", "Synchronization failed", "publish_failed", true),
        (Publish, 1, "", "Tagging failed", "publish_failed", true),
        (Publish, 1, "", "failed to write: No space left on device\nSynchronization failed", "disk_full", true),
        (Publish, -9, "", "", "cvmfs_server_killed", true),
        (Publish, 77, "", "", "cvmfs_server_failed", true),
    ];

    #[test]
    fn every_row_that_was_measured_is_told_from_the_others() {
        for (command, code, stdout, stderr, meaning, transient) in MEASURED {
            let said = Said { code: *code, stdout: (*stdout).to_owned(), stderr: (*stderr).to_owned() };
            let refusal = Refusal::of(*command, &said);
            assert_eq!((refusal.code(), refusal.is_transient()), (*meaning, *transient), "{said:?}");
        }
    }

    #[test]
    fn the_gateways_word_on_how_long_a_path_is_busy_is_passed_on() {
        let stdout = "Path busy. Time remaining = 59.52s".to_owned();
        let refusal = Refusal::of(Transaction, &Said { code: 16, stdout, stderr: String::new() });
        assert_eq!(refusal.to_string(), "the lease path is busy for another 59.52s");
    }

    #[test]
    fn a_report_is_the_end_of_what_was_said_without_the_noise_of_mounting() {
        let stderr = format!("CernVM-FS: running with suid support\n{}\nlast ü", "x".repeat(2000));
        let report = report(&Said { code: 1, stdout: String::new(), stderr });
        assert!(report.starts_with('…') && report.ends_with("last ü") && report.len() < REPORT + 4, "{report}");
        assert!(!report.contains("suid"));
    }
}
