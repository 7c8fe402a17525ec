//! Taking over a repository that `cvmfs_server` made: from then on both can publish into it.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use super::super::hash::Algorithm;
use super::super::keys::SigningKeys;
use super::super::reader::{Expiry, check_listed};
use super::super::settings::{self, Server, Settings};
use super::super::{Error, durable};
use super::spool::Spool;
use super::{Held, RepositoryLock, Stratum0, change, same_directory};

/// What was taken over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Adopted {
    /// Where it is now, as ours.
    pub stratum0: Stratum0,
    /// How it is published.
    pub settings: Settings,
    /// Its storage, spool directory and owner.
    pub server: Server,
    /// The present revision.
    pub revision: u64,
    /// The algorithm of its root catalog.
    pub algorithm: Algorithm,
    /// From when on clients refuse it, seconds since 1970.
    pub whitelist_expires_at: i64,
    /// Tells whether anything had to be done; `false` if it was ours before.
    pub is_new: bool,
}

impl Stratum0 {
    /// Takes over the repository `name` that `server_conf` describes, as `directory`: a symbolic link if the storage lies
    /// elsewhere. Everything is looked at before anything is made; done twice it does nothing more.
    ///
    /// Refused are storage that is not on this machine, settings and features that a publish of ours would damage, keys
    /// that are missing or do not fit, an expired whitelist, and a transaction that is open.
    pub fn adopt(
        directory: impl Into<PathBuf>,
        name: impl Into<String>,
        keys: impl Into<PathBuf>,
        server_conf: &Path,
        now: i64,
    ) -> Result<Adopted, Error> {
        let ours = Self::at(directory, name, keys);
        let server_conf =
            fs::canonicalize(server_conf).map_err(Error::io(format!("find {}", server_conf.display())))?;
        let shown = server_conf.display().to_string();
        let text = fs::read_to_string(&server_conf).map_err(Error::io(format!("read {shown}")))?;
        let settings = Settings::parse(&shown, &text, &ours.name)?;
        let server = settings.server.clone().ok_or_else(|| {
            Error::malformed(&shown, "CVMFS_UPSTREAM_STORAGE is not set: it is no server.conf of a stratum 0")
        })?;
        let link_settings = check_link(&settings::file(&ours.directory, &ours.name), &server_conf)?;
        let link_storage =
            !same_directory(&server.storage, &ours.directory) && check_link(&ours.directory, &server.storage)?;

        let theirs = Self::at(&server.storage, &ours.name, &ours.keys);
        let reader = theirs.reader(Expiry::Refuse { now })?;
        check_listed(&SigningKeys::load(&ours.keys, &ours.name)?.certificate, reader.whitelist())?;
        change::check_publishable(reader.manifest())?;
        reader.catalog(&reader.manifest().root_hash)?;
        let spool = Spool(server.spool.clone());
        let _lock = RepositoryLock::acquire(&ours.directory, &ours.name, Some(spool))?.map_err(Held::into_error)?;

        // The settings first: without them it would be published by other rules, and past the locks.
        if link_settings {
            link(&server_conf, &settings::file(&ours.directory, &ours.name))?;
        }
        if link_storage {
            link(&server.storage, &ours.directory)?;
        }
        Ok(Adopted {
            settings,
            server,
            revision: reader.manifest().revision,
            algorithm: reader.manifest().root_hash.algorithm(),
            whitelist_expires_at: reader.whitelist().expires_at,
            is_new: link_settings || link_storage,
            stratum0: ours,
        })
    }
}

/// Tells whether a link is still to be made. Anything else in its place is refused.
fn check_link(path: &Path, target: &Path) -> Result<bool, Error> {
    match fs::read_link(path) {
        Ok(found) if found == target => Ok(false),
        Ok(found) => Err(Error::Exists(format!("{}, a link to {},", path.display(), found.display()))),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(true),
        Err(_) => Err(Error::Exists(path.display().to_string())),
    }
}

fn link(target: &Path, path: &Path) -> Result<(), Error> {
    symlink(target, path).map_err(Error::io(format!("link {} to {}", path.display(), target.display())))?;
    path.parent().map_or(Ok(()), durable::sync)
}
