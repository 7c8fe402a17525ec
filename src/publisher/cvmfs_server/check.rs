//! Whether this node has what publishing by `cvmfs_server` needs, for the person who sets it up.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::unistd::{AccessFlags, access, geteuid};

use super::CvmfsServer;
use super::site::Site;
use crate::causes::sentence;
use crate::cvmfs::reader::Expiry;
use crate::cvmfs::settings::Upstream;
use crate::domain::names::RepositoryName;
use crate::publisher::{Finding, Publisher, mounts};

/// A whitelist that is good for less than this is worth a warning, in days.
const SOON: i64 = 7;

/// A file of a publish that is older was left by one that was killed.
const OLD: Duration = Duration::from_secs(24 * 3600);

/// All that is looked at.
pub(super) fn check(publisher: &CvmfsServer, served: Option<&[RepositoryName]>) -> Vec<Finding> {
    let settings = &publisher.node.settings;
    let mut findings = vec![program(&settings.command), namespace(), state(&settings.state_dir)];
    let mut repositories = publisher.repositories().unwrap_or_default();
    if repositories.is_empty() {
        let text = format!("none below {}", settings.config_dir.join("repositories.d").display());
        findings.push(Finding::missing("repositories", text, "make or import one: cvmfs_server mkfs"));
    }
    repositories.retain(|name| served.is_none_or(|served| served.contains(name)));
    for name in repositories {
        findings.push(repository(publisher, &name));
    }
    findings
}

fn program(command: &Path) -> Finding {
    let places: Vec<PathBuf> = match command.components().count() {
        1 => {
            std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()).map(|dir| dir.join(command)).collect()
        }
        _ => vec![command.to_owned()],
    };
    match places.iter().find(|place| access(*place, AccessFlags::X_OK).is_ok()) {
        Some(place) => Finding::good("cvmfs_server", place.display().to_string()),
        None => Finding::missing(
            "cvmfs_server",
            format!("no program {}", command.display()),
            "install cvmfs-server, or set command in [cvmfs_server]",
        ),
    }
}

fn namespace() -> Finding {
    let what = "mount namespace";
    match mounts::shares_mounts_with_init() {
        Ok(Some(true)) => Finding::good(what, "that of the machine"),
        Ok(Some(false)) => {
            Finding::missing(what, "one of the worker's own: a publish would hang in it", NAMESPACE_HINT)
        }
        Ok(None) => Finding::warning(what, "it cannot be told whether it is that of the machine", NAMESPACE_HINT),
        Err(error) => Finding::warning(what, format!("it cannot be looked at: {error}"), NAMESPACE_HINT),
    }
}

/// What takes a worker out of the machine's mount namespace.
pub(super) const NAMESPACE_HINT: &str = "run the worker outside of containers, and without directives such as ProtectSystem, PrivateTmp or ReadWritePaths in its unit";

fn state(directory: &Path) -> Finding {
    match access(directory, AccessFlags::W_OK) {
        Ok(()) => Finding::good("journal", directory.display().to_string()),
        Err(error) => {
            let text = format!("{} cannot be written: {error}", directory.display());
            Finding::missing("journal", text, "make it, owned by the worker's account, or set state_dir in [worker]")
        }
    }
}

fn repository(publisher: &CvmfsServer, name: &RepositoryName) -> Finding {
    let what = format!("repository {name}");
    let settings = &publisher.node.settings;
    let site = match Site::load(&settings.config_dir, name) {
        Ok(site) => site,
        Err(error) => return Finding::missing(what, sentence(&error), "mend its server.conf"),
    };
    let user = geteuid();
    if !user.is_root() && user.as_raw() != site.owner.uid {
        let text = format!("it belongs to {}, and this is uid {user}", site.node.user);
        return Finding::missing(what, text, "run the worker as its owner, or as root");
    }
    if let Some(fault) = publisher.fault(name) {
        return Finding::missing(what, fault, "the worker tries again and again; see its log");
    }
    match settle_holders(&site) {
        Ok(None) => {}
        Ok(Some(text)) => {
            return Finding::warning(what, text, "end these processes: no publish can end while they live");
        }
        Err(text) => return Finding::warning(what, text, "see whether /proc can be read"),
    }
    let reader = match site.reader(Expiry::Ignore) {
        Ok(reader) => reader,
        Err(error) => {
            let hint = "see that the web server answers, and that its public key is in the keys directory";
            return Finding::missing(what, sentence(&error), hint);
        }
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs().cast_signed());
    let days = (reader.whitelist().expires_at - now) / 86_400;
    if reader.whitelist().expires_at <= now {
        return Finding::missing(what, "its whitelist has expired", format!("cvmfs_server resign {name}"));
    }
    if days < SOON {
        let text = format!("its whitelist expires in {days} days");
        return Finding::warning(what, text, format!("cvmfs_server resign {name}"));
    }
    if let Some(orphans) = orphans(&site) {
        return orphans;
    }
    match site.gateway_answers(settings) {
        Err(error) => Finding::missing(what, sentence(&error), "see that the gateway answers: conveyor leases"),
        Ok(by_gateway) => {
            let revision = reader.manifest().revision;
            let way = if by_gateway { "through a gateway" } else { "on this machine" };
            Finding::good(what, format!("published {way}, revision {revision}"))
        }
    }
}

/// What publishes that were killed have left in the storage: nobody ever removes it.
fn orphans(site: &Site) -> Option<Finding> {
    let Upstream::Local { storage } = &site.node.upstream else { return None };
    let place = storage.join("data/txn");
    let old = SystemTime::now().checked_sub(OLD)?;
    let left = std::fs::read_dir(&place).ok()?.filter_map(|entry| entry.ok()?.metadata().ok());
    let left = left.filter(|file| file.is_file() && file.modified().is_ok_and(|at| at < old));
    let (files, bytes) = left.fold((0_u64, 0_u64), |(files, bytes), file| (files + 1, bytes + file.len()));
    (files > 0).then(|| {
        let text =
            format!("{files} files of {bytes} bytes in {} are left of publishes that were killed", place.display());
        let hint =
            format!("while nothing is published: find {} -maxdepth 1 -type f -mtime +1 -delete", place.display());
        Finding::warning(format!("repository {}", site.name), text, hint)
    })
}

fn settle_holders(site: &Site) -> Result<Option<String>, String> {
    let holders = super::settle::holders(site).map_err(|error| sentence(&error))?;
    Ok((!holders.is_empty()).then(|| format!("its mounts are held by {}", holders.join("; "))))
}
