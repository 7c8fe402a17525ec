//! What `server.conf` says of a repository on a publisher node: where it is mounted, spooled and sent to.

use std::path::PathBuf;

use super::super::Error;
use super::shell::Assignments;

/// The names that count here.
const NAMES: &[&str] = &[
    "CVMFS_REPOSITORY_NAME",
    "CVMFS_REPOSITORY_TYPE",
    "CVMFS_UPSTREAM_STORAGE",
    "CVMFS_SPOOL_DIR",
    "CVMFS_UNION_DIR",
    "CVMFS_STRATUM0",
    "CVMFS_USER",
    "CVMFS_INCLUDE_XATTRS",
    "CVMFS_IGNORE_SPECIAL_FILES",
    "CVMFS_ENFORCE_LIMITS",
    "CVMFS_FILE_MBYTE_LIMIT",
];

/// Where a publish goes (`CVMFS_UPSTREAM_STORAGE`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Upstream {
    /// A directory of this machine, which holds `.cvmfspublished`.
    Local {
        /// The directory.
        storage: PathBuf,
    },
    /// The API of a gateway, such as `http://gateway.example.org:4929/api/v1`.
    Gateway {
        /// Its address.
        url: String,
    },
    /// An object store, by the file that describes it.
    S3,
}

/// A repository as `cvmfs_server` has it on a publisher node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// `CVMFS_SPOOL_DIR`: locks, the scratch area of a transaction, the mount of the present revision.
    pub spool: PathBuf,
    /// `CVMFS_UNION_DIR`: where the repository is mounted, and written to during a transaction.
    pub union: PathBuf,
    /// `CVMFS_STRATUM0`: where clients and replicas get it.
    pub url: String,
    /// Where a publish goes.
    pub upstream: Upstream,
    /// `CVMFS_USER`: who owns it all.
    pub user: String,
    /// `CVMFS_INCLUDE_XATTRS`: whether extended attributes are published.
    pub xattrs: bool,
    /// `CVMFS_IGNORE_SPECIAL_FILES`: whether devices, FIFOs and sockets are left out of a publish.
    pub ignore_special_files: bool,
    /// Bytes of a file that are refused (`CVMFS_FILE_MBYTE_LIMIT` where `CVMFS_ENFORCE_LIMITS` is on).
    pub max_file_bytes: Option<u64>,
}

impl Node {
    /// Reads a `server.conf`; `what` names the file in errors. `None` for a repository that is not published here, which is
    /// a replica.
    pub fn parse(what: &str, text: &str, repository: &str) -> Result<Option<Self>, Error> {
        let file = Assignments::parse(what, text, NAMES)?;
        if file.text("CVMFS_REPOSITORY_TYPE")? == Some("stratum1") {
            return Ok(None);
        }
        if let Some(name) = file.text("CVMFS_REPOSITORY_NAME")?.filter(|name| *name != repository) {
            let why = format!("it is {name:?}, and the repository is {repository:?}");
            return Err(file.bad("CVMFS_REPOSITORY_NAME", &why));
        }
        let needed = |name: &str| file.text(name)?.ok_or_else(|| file.bad(name, "it is not set"));
        let absolute = |name: &str| match needed(name).map(PathBuf::from)? {
            path if path.is_absolute() => Ok(path),
            _ => Err(file.bad(name, "no absolute path")),
        };
        let parts: Vec<_> = needed("CVMFS_UPSTREAM_STORAGE")?.split(',').collect();
        let upstream = match parts[..] {
            ["local", _, storage] if storage.starts_with('/') => Upstream::Local { storage: storage.into() },
            ["gw", _, url] => Upstream::Gateway { url: url.trim_end_matches('/').to_owned() },
            ["S3", ..] => Upstream::S3,
            _ => return Err(file.bad("CVMFS_UPSTREAM_STORAGE", "neither local,TMP,DIR nor gw,TMP,URL nor S3,TMP,FILE")),
        };
        let limit = file.number("CVMFS_FILE_MBYTE_LIMIT")?.unwrap_or(1024).checked_mul(1 << 20);
        Ok(Some(Self {
            spool: absolute("CVMFS_SPOOL_DIR")?,
            union: absolute("CVMFS_UNION_DIR")?,
            url: needed("CVMFS_STRATUM0")?.to_owned(),
            upstream,
            user: file.text("CVMFS_USER")?.unwrap_or("root").to_owned(),
            xattrs: file.is_true("CVMFS_INCLUDE_XATTRS")?,
            ignore_special_files: file.is_true("CVMFS_IGNORE_SPECIAL_FILES")?,
            max_file_bytes: if file.is_true("CVMFS_ENFORCE_LIMITS")? { limit.filter(|limit| *limit > 0) } else { None },
        }))
    }
}
