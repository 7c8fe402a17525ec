//! `conveyor repository tag NAME prune`: the tags of batches are evidence while their outcome is open, and only a burden
//! later: CernVM-FS is made for fewer than 50, and each keeps its revision from garbage collection.

use std::io::{Read, Seek};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};
use clap::Args;

use super::super::failure::tell;
use super::{lock, now};
use crate::cvmfs::fetch::{Fetch, LocalDir};
use crate::cvmfs::history::Tag;
use crate::cvmfs::http::HttpBase;
use crate::cvmfs::keys;
use crate::cvmfs::reader::{Expiry, Reader};
use crate::cvmfs::settings::{Node, Upstream};
use crate::cvmfs::stratum0::Stratum0;
use crate::publisher::gateway::{Gateway, GatewayError, Timeouts};

/// What the tags of batches begin with.
const OURS: &str = "cj-";
/// Tags that one call of `cvmfs_server` removes.
const AT_ONCE: usize = 50;
/// Bytes of what `cvmfs_server` says that are told.
const TOLD: u64 = 4096;

/// Which tags go.
#[derive(Debug, Args)]
pub(in crate::cli) struct PruneArgs {
    /// How many of the newest tags of batches stay
    #[arg(long, value_name = "NUMBER", default_value_t = 30)]
    keep: usize,
    /// Hours that a tag stays in any case: its outcome must be known to the server by then
    #[arg(long, value_name = "HOURS", default_value_t = 24)]
    older_than: u32,
    /// Only name them
    #[arg(long)]
    dry_run: bool,
    /// Where cvmfs_server keeps its configuration and keys
    #[arg(long, value_name = "DIR", default_value = "/etc/cvmfs")]
    config_dir: PathBuf,
    /// The gateway of this host, which must have given no lease of the repository; nothing need listen there
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:4929/api/v1")]
    gateway: String,
    /// The program for repositories that are not Conveyor's own
    #[arg(long, value_name = "FILE", default_value = "cvmfs_server")]
    command: PathBuf,
}

/// Removes what may go; the tags that went, or would go.
pub(super) fn run(args: &PruneArgs, stratum0: &Stratum0) -> anyhow::Result<Vec<Tag>> {
    let before = now() - i64::from(args.older_than) * 3600;
    let conf = args.config_dir.join("repositories.d").join(stratum0.name()).join("server.conf");
    let is_ours = stratum0.exists() && (!conf.exists() || stratum0.settings()?.server.is_some());
    if is_ours {
        let tags = stratum0.reader(Expiry::Ignore)?.tags()?;
        let old = prunable(tags, args.keep, before);
        if args.dry_run || old.is_empty() {
            return Ok(old);
        }
        let names: Vec<_> = old.iter().map(|tag| tag.name.as_str()).collect();
        return Ok(stratum0.remove_tags(lock(stratum0)?, &names, now())?);
    }
    if !conf.exists() {
        bail!("there is no repository in {}, and no {}", stratum0.directory().display(), conf.display());
    }
    foreign(args, stratum0.name(), &conf, before)
}

/// The tags of batches beyond the newest `keep` whose revisions were made until `before`, seconds since 1970.
fn prunable(tags: Vec<Tag>, keep: usize, before: i64) -> Vec<Tag> {
    let mut ours: Vec<Tag> = tags.into_iter().filter(|tag| tag.name.starts_with(OURS)).collect();
    ours.sort_by(|a, b| (b.revision, &b.name).cmp(&(a.revision, &a.name)));
    ours.into_iter().skip(keep).filter(|tag| tag.timestamp <= before && is_word(&tag.name)).collect()
}

/// `cvmfs_server` is a shell script: only what no shell could read as more than a word is given to it.
fn is_word(name: &str) -> bool {
    name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._:-".contains(&b))
}

/// Prunes a repository that `cvmfs_server` alone writes.
fn foreign(args: &PruneArgs, name: &str, conf: &Path, before: i64) -> anyhow::Result<Vec<Tag>> {
    let text = std::fs::read_to_string(conf).with_context(|| format!("cannot read {}", conf.display()))?;
    let Some(node) = Node::parse(&conf.display().to_string(), &text, name)? else {
        bail!("{name} is a replica here: its tags are those of its stratum 0");
    };
    let fetch: Box<dyn Fetch> = match &node.upstream {
        Upstream::Local { storage } => Box::new(LocalDir::new(storage)),
        Upstream::S3 => Box::new(HttpBase::new(&node.url)?),
        Upstream::Gateway { url } => bail!(
            "{name} is published through the gateway {url}, and cvmfs_server removes tags only where the storage is: run this on the gateway's host"
        ),
    };
    let key = keys::load_public(&args.config_dir.join("keys"), name)?;
    let tags = Reader::open(fetch, name, &[key], Expiry::Ignore)?.tags()?;
    let old = prunable(tags, args.keep, before);
    if args.dry_run || old.is_empty() {
        return Ok(old);
    }
    if node.spool.join("in_transaction.lock").exists() {
        bail!("a transaction of {name} is open here, and its publish would fail: wait for its end");
    }
    refuse_leases(&args.gateway, name)?;
    let mut removed = Vec::new();
    for part in old.chunks(AT_ONCE) {
        let result = remove(&args.command, name, part);
        if result.is_err() && !removed.is_empty() {
            tell(&format!("{} tags were removed before this failed", removed.len()));
        }
        result?;
        removed.extend_from_slice(part);
    }
    Ok(removed)
}

/// Refuses while the gateway of this host has given leases: removing tags makes a revision beside their commits.
fn refuse_leases(url: &str, name: &str) -> anyhow::Result<()> {
    let leases = match Gateway::new(url, None, Timeouts::default())?.leases() {
        Ok(leases) => leases,
        // There is none on this host.
        Err(GatewayError::Unreachable { .. }) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    match leases.values().find(|lease| lease.repository() == name) {
        Some(lease) => {
            bail!("the gateway has given a lease on {}; empty it first: conveyor gateway drain {name}", lease.path)
        }
        None => Ok(()),
    }
}

/// Has `cvmfs_server` remove tags. What it says goes to a file: a remount leaves a client behind that inherits it, and a
/// pipe would never end.
fn remove(program: &Path, name: &str, tags: &[Tag]) -> anyhow::Result<()> {
    let mut said = tempfile::tempfile().context("cannot make a temporary file")?;
    let mut command = Command::new(program);
    command.arg("tag");
    for tag in tags {
        command.args(["-r", &tag.name]);
    }
    command.args(["-f", name]).current_dir("/").env("LC_ALL", "C").stdin(Stdio::null());
    command.stdout(said.try_clone()?).stderr(said.try_clone()?);
    let status = command.status().with_context(|| format!("cannot run {}", program.display()))?;
    if status.success() {
        return Ok(());
    }
    let mut text = String::new();
    said.rewind()?;
    said.take(TOLD).read_to_string(&mut text)?;
    bail!("{} tag -r failed with {status}: {}", program.display(), text.trim())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::cvmfs::hash::ContentHash;

    fn tag(name: &str, revision: u64, timestamp: i64) -> Tag {
        let root_hash = ContentHash::sha1([0; 20]);
        Tag { name: name.into(), root_hash, size: 1, revision, timestamp, description: String::new() }
    }

    #[test]
    fn only_old_tags_of_batches_beyond_the_newest_go() {
        let tags = vec![
            tag("cj-1", 1, 10),
            tag("release-1", 2, 10),
            tag("cj-3", 3, 10),
            tag("cj-4", 4, 99),
            tag("cj-5", 5, 10),
            tag("cj-$(x)", 1, 10),
            tag("trunk", 6, 10),
        ];
        let names =
            |keep, before| -> Vec<_> { prunable(tags.clone(), keep, before).into_iter().map(|tag| tag.name).collect() };
        assert_eq!(names(1, 50), ["cj-3", "cj-1"], "cj-4 is too young, and no shell is given anything to read");
        assert_eq!(names(1, 99), ["cj-4", "cj-3", "cj-1"]);
        assert!(names(9, 99).is_empty());
    }

    #[test]
    fn cvmfs_server_is_given_words_only_and_what_it_says_is_told_when_it_fails() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let (program, record) = (dir.path().join("program"), dir.path().join("record"));
        let script = format!(
            "#!/bin/sh\necho \"$PWD $LC_ALL $*\" >{}\necho no such tag >&2\n[ \"$3\" = cj-1 ]\n",
            record.display()
        );
        std::fs::write(&program, script).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        remove(&program, "a.b", &[tag("cj-1", 1, 1), tag("cj-2", 2, 2)]).unwrap();
        assert_eq!(std::fs::read_to_string(&record).unwrap(), "/ C tag -r cj-1 -r cj-2 -f a.b\n");
        let error = remove(&program, "a.b", &[tag("cj-2", 2, 2)]).unwrap_err();
        assert!(error.to_string().contains("no such tag"), "{error}");
    }
}
