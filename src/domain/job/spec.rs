//! What a job asks for. These types are the wire format too: JSON in snake_case, unknown fields refused.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::domain::digest::{Checksum, Sha256Digest};
use crate::domain::ids::JobId;
use crate::domain::names::{LeasePath, RepositoryName};
use crate::domain::tree::EntryPath;
use crate::domain::visible;

/// What was asked, complete and unchangeable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct JobSpec {
    /// Chosen by the client, a UUID of version 7: submitting the same job again is no second job.
    pub id: JobId,
    /// A name for people, 1 to 200 characters.
    pub name: String,
    /// What to do.
    pub work: Work,
    /// Jobs that must have ended, as their condition says, before this one starts.
    #[serde(default)]
    pub dependencies: Vec<Dependency>,
    /// From -100 to 100; higher goes first.
    #[serde(default)]
    pub priority: i32,
    /// How often it may be tried in all, 1 to 100.
    #[serde(default = "default_attempts")]
    pub attempts: u32,
    /// Time limit of one attempt's payload in seconds, up to a week.
    #[serde(default = "default_timeout_s")]
    pub timeout_s: u32,
    /// Never shares a publish with other jobs, so that its script runs again only where its own attempt came to nothing.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub alone: bool,
    /// What is not permitted to publish by then has failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub deadline: Option<Timestamp>,
    /// It has succeeded only once all of these serve its revision, or a newer one: bases of the repository such as
    /// `http://stratum1.example.org/cvmfs/software.example.org`; at most 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<String>)]
    pub visible_at: Vec<url::Url>,
    /// For how long that is waited for, in seconds, up to a week; an hour where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub visible_within_s: Option<u32>,
    /// Free words to find jobs by; at most 32.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Who asks, for people and for fair share.
    #[serde(default)]
    pub submitter: String,
}

/// Attempts of a job that does not say.
pub const DEFAULT_ATTEMPTS: u32 = 4;
/// Time limit of a job that does not say, in seconds.
pub const DEFAULT_TIMEOUT_S: u32 = 7200;
/// How long a job that does not say waits for its URLs, in seconds.
pub const DEFAULT_VISIBLE_WITHIN_S: u32 = 3600;
/// Most URLs that a job waits for.
pub const MAX_VISIBLE_AT: usize = 16;
/// Most jobs in one submission.
pub const MAX_JOBS_PER_SUBMISSION: usize = 10_000;

fn default_attempts() -> u32 {
    DEFAULT_ATTEMPTS
}

fn default_timeout_s() -> u32 {
    DEFAULT_TIMEOUT_S
}

/// A job that another one waits for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Dependency {
    /// The job waited for.
    pub job_id: JobId,
    /// How it must end.
    #[serde(default)]
    pub condition: Condition,
}

/// How a dependency must end for the job behind it to run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Condition {
    /// It succeeded.
    #[default]
    Success,
    /// It failed.
    Failure,
    /// It ended, no matter how.
    Always,
}

/// The kinds of work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Work {
    /// Publish a payload into a repository.
    Publish(Publish),
}

/// One publication.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Publish {
    /// Fully qualified name.
    #[schema(value_type = String, example = "software.example.org")]
    pub repository: RepositoryName,
    /// Nothing outside this path is touched.
    #[serde(default = "LeasePath::root")]
    #[schema(value_type = String, example = "/releases/1.0")]
    pub lease_path: LeasePath,
    /// What is put there.
    pub payload: Payload,
    /// Makes a revision also where the payload changes nothing.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub publish_anyway: bool,
    /// Only shows what would change, and publishes nothing.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
}

impl Publish {
    /// A payload to be published, if it changes anything.
    pub fn new(repository: RepositoryName, lease_path: LeasePath, payload: Payload) -> Self {
        Self { repository, lease_path, payload, publish_anyway: false, dry_run: false }
    }

    /// Whether a revision is made of it although nothing changes: an empty payload asks for nothing else.
    pub fn publishes_anyway(&self) -> bool {
        self.publish_anyway || self.payload == Payload::Empty
    }
}

/// What a publication puts into its lease path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum Payload {
    /// Nothing: a new revision without a change.
    #[serde(deserialize_with = "no_fields")]
    Empty,
    /// A program, run as `script REPOSITORY LEASE_PATH ARG…` in the repository's root.
    Script {
        /// Where the program comes from.
        source: Source,
        /// Arguments after the lease path.
        #[serde(default)]
        args: Vec<String>,
    },
    /// An archive (tar, plain or compressed by gzip, zstd or xz), unpacked into the lease path.
    Tarball {
        /// Where the archive comes from.
        source: Source,
    },
    /// Paths to remove, from the repository's root, each within the lease path.
    Delete {
        /// `/a/b` or `a/b`.
        paths: Vec<String>,
    },
    /// What another job changed below the lease path is put back as it was before.
    Revert {
        /// The job.
        job: JobId,
        /// The tag of its publish.
        tag: String,
        /// Also what later revisions changed again.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        force: bool,
    },
}

/// A variant without fields; by itself serde would accept any.
fn no_fields<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<(), D::Error> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct NoFields {}
    NoFields::deserialize(deserializer).map(|NoFields {}| ())
}

/// Where the bytes of a payload come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "from", rename_all = "snake_case", deny_unknown_fields)]
pub enum Source {
    /// A blob uploaded before.
    Blob {
        /// Its name.
        #[schema(value_type = String, example = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")]
        digest: Sha256Digest,
    },
    /// Fetched by the worker.
    Url {
        /// `http` or `https`, without a user or password.
        #[schema(value_type = String)]
        url: url::Url,
        /// What the bytes must hash to. Without one, the first download decides for all attempts.
        #[serde(default)]
        #[schema(value_type = Option<String>)]
        checksum: Option<Checksum>,
    },
}

/// Why a spec was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("job {job_id} ({name:?}): {field} {why}")]
pub struct SpecError {
    /// The job.
    pub job_id: JobId,
    /// Its name, shortened.
    pub name: String,
    /// The field at fault.
    pub field: &'static str,
    /// The rule it breaks.
    pub why: String,
}

impl JobSpec {
    /// The publication, where the work is one.
    pub fn publish(&self) -> &Publish {
        let Work::Publish(publish) = &self.work;
        publish
    }

    /// Whether it never shares a publish: it asks for that, or there will be none to share.
    pub fn goes_alone(&self) -> bool {
        // A revert compares revisions: what others of its batch change is in none yet.
        self.alone || self.publish().dry_run || matches!(self.publish().payload, Payload::Revert { .. })
    }

    /// For how long it is waited for that its URLs serve its revision, in seconds.
    pub fn visible_within_s(&self) -> u32 {
        self.visible_within_s.unwrap_or(DEFAULT_VISIBLE_WITHIN_S)
    }

    fn validate_visible(&self) -> Result<(), (&'static str, String)> {
        let wrong = |field, why: &str| Err((field, why.to_owned()));
        if self.visible_at.is_empty() && self.visible_within_s.is_some() {
            return wrong("visible_within_s", "is about visible_at, which names no URL");
        }
        if !(1..=604_800).contains(&self.visible_within_s()) {
            return wrong("visible_within_s", "must be between 1 and 604800 (a week)");
        }
        if self.visible_at.len() > MAX_VISIBLE_AT {
            return Err(("visible_at", format!("must be at most {MAX_VISIBLE_AT} URLs")));
        }
        if !self.visible_at.is_empty() && self.publish().dry_run {
            return wrong("dry_run", "publishes nothing, so visible_at contradicts it");
        }
        let distinct: BTreeSet<_> = self.visible_at.iter().map(url::Url::as_str).collect();
        if distinct.len() < self.visible_at.len() {
            return wrong("visible_at", "names the same URL twice");
        }
        self.visible_at.iter().try_for_each(|url| visible::check_url(url).map_err(|why| ("visible_at", why)))
    }

    /// Checks what the types alone do not.
    pub fn validate(&self) -> Result<(), SpecError> {
        let check = |ok: bool, field: &'static str, why: &str| if ok { Ok(()) } else { Err((field, why.to_owned())) };
        let plain = |text: &str, most: usize| text.chars().count() <= most && !text.chars().any(char::is_control);

        let all = || -> Result<(), (&'static str, String)> {
            check(self.id.0.get_version_num() == 7, "id", "must be a UUID of version 7 that the client chooses")?;
            check(
                !self.name.trim().is_empty() && plain(&self.name, 200),
                "name",
                "must be 1 to 200 characters, none of them a control character",
            )?;
            check((-100..=100).contains(&self.priority), "priority", "must be between -100 and 100")?;
            check((1..=100).contains(&self.attempts), "attempts", "must be between 1 and 100")?;
            check((1..=604_800).contains(&self.timeout_s), "timeout_s", "must be between 1 and 604800 (a week)")?;
            check(
                plain(&self.submitter, 200),
                "submitter",
                "must be at most 200 characters without control characters",
            )?;
            check(self.labels.len() <= 32, "labels", "must be at most 32")?;
            for (key, value) in &self.labels {
                check(
                    !key.is_empty()
                        && key.len() <= 64
                        && key.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-/".contains(&b)),
                    "labels",
                    "must have keys of 1 to 64 characters out of a-z A-Z 0-9 . _ - /",
                )?;
                check(
                    plain(value, 256),
                    "labels",
                    "must have values of at most 256 characters without control characters",
                )?;
            }
            check(self.dependencies.len() <= 1000, "dependencies", "must be at most 1000")?;
            let distinct: BTreeSet<_> = self.dependencies.iter().map(|dependency| dependency.job_id).collect();
            check(distinct.len() == self.dependencies.len(), "dependencies", "name the same job twice")?;
            check(!distinct.contains(&self.id), "dependencies", "name the job itself")?;
            let publish = self.publish();
            check(
                !(publish.dry_run && publish.publish_anyway),
                "dry_run",
                "publishes nothing, so publish_anyway contradicts it",
            )?;
            self.validate_visible()?;
            publish.payload.validate(&publish.lease_path)
        };
        all().map_err(|(field, why)| SpecError {
            job_id: self.id,
            name: self.name.chars().take(60).collect(),
            field,
            why,
        })
    }
}

impl Payload {
    /// The source of its bytes, where it has one.
    pub fn source(&self) -> Option<&Source> {
        match self {
            Self::Script { source, .. } | Self::Tarball { source } => Some(source),
            Self::Empty | Self::Delete { .. } | Self::Revert { .. } => None,
        }
    }

    /// The paths to remove, from the repository's root: never the root, never outside the lease path.
    pub fn delete_paths(paths: &[String], lease_path: &LeasePath) -> Result<Vec<EntryPath>, String> {
        let lease = EntryPath::new(lease_path.relative().as_bytes()).map_err(|e| e.to_string())?;
        let parse = |path: &String| {
            let entry = EntryPath::new(path.trim_start_matches('/').as_bytes()).map_err(|e| e.to_string())?;
            if entry.is_base() {
                Err("would remove the whole repository; name a path below its root".to_owned())
            } else if !entry.is_within(&lease) {
                Err(format!("has {path:?}, which is outside the lease path {lease_path}"))
            } else {
                Ok(entry)
            }
        };
        paths.iter().map(parse).collect()
    }

    fn validate(&self, lease_path: &LeasePath) -> Result<(), (&'static str, String)> {
        if let Some(Source::Url { url, .. }) = self.source() {
            if !matches!(url.scheme(), "http" | "https") {
                return Err((
                    "payload.source.url",
                    format!("has the scheme {:?}; only http and https are fetched", url.scheme()),
                ));
            }
            if !url.username().is_empty() || url.password().is_some() {
                return Err((
                    "payload.source.url",
                    "contains a user or password, which everyone who reads the job would see".into(),
                ));
            }
        }
        match self {
            Self::Empty | Self::Tarball { .. } => Ok(()),
            Self::Script { args, .. } => {
                let fits = args.len() <= 256 && args.iter().all(|arg| arg.len() <= 4096 && !arg.contains('\0'));
                if fits {
                    Ok(())
                } else {
                    Err(("payload.args", "must be at most 256 of 4096 bytes each, without NUL".into()))
                }
            }
            Self::Revert { tag, .. } => {
                let is_word = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
                match (1..=200).contains(&tag.len()) && tag.bytes().all(is_word) {
                    true => Ok(()),
                    false => Err(("payload.tag", "must be 1 to 200 characters out of A-Z a-z 0-9 . _ -".into())),
                }
            }
            Self::Delete { paths } => {
                if paths.is_empty() || paths.len() > 10_000 {
                    return Err(("payload.paths", "must be 1 to 10000 paths".into()));
                }
                Self::delete_paths(paths, lease_path).map(drop).map_err(|why| ("payload.paths", why))
            }
        }
    }
}
