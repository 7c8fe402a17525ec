//! The gateways that this node publishes through, as its `server.conf` files name them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::cvmfs::settings::{Node, Upstream};
use crate::publisher::gateway::{Gateway, GatewayKey, SessionToken, Timeouts};

/// A repository that this node publishes through a gateway.
#[derive(Debug, Clone)]
pub(super) struct Local {
    pub(super) repository: String,
    /// The gateway's address.
    pub(super) url: String,
    spool: PathBuf,
}

/// What this node's spool says of a repository's transaction.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Session {
    /// There is none.
    None,
    /// This is its lease's token.
    Token(SessionToken),
    /// We may not look.
    Hidden,
}

impl Local {
    /// Looks for the token of an open transaction.
    pub(super) fn session(&self) -> Session {
        match SessionToken::read(&self.spool.join("session_token")) {
            Ok(Some(token)) => Session::Token(token),
            Ok(None) => Session::None,
            Err(_) => Session::Hidden,
        }
    }
}

/// Where `cvmfs_server` keeps what it knows: `/etc/cvmfs`.
#[derive(Debug, Clone)]
pub(super) struct Places {
    config_dir: PathBuf,
}

impl Places {
    pub(super) fn new(config_dir: PathBuf) -> Self {
        Self { config_dir }
    }

    /// The repositories of this node that have a gateway, by name. One whose `server.conf` cannot be read is told of in
    /// `faults`, since the others are none the worse for it.
    pub(super) fn locals(&self, faults: &mut Vec<String>) -> anyhow::Result<Vec<Local>> {
        let folder = self.config_dir.join("repositories.d");
        let entries = match std::fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", folder.display())),
        };
        let mut locals = Vec::new();
        for entry in entries.flatten() {
            let Ok(name) = entry.file_name().into_string() else { continue };
            match local(&entry.path().join("server.conf"), &name) {
                Ok(found) => locals.extend(found),
                Err(error) => faults.push(format!("{error:#}")),
            }
        }
        locals.sort_by(|a, b| a.repository.cmp(&b.repository));
        Ok(locals)
    }

    /// The file that `cvmfs_server` has a repository's gateway key in.
    pub(super) fn key_file(&self, repository: &str) -> PathBuf {
        self.config_dir.join("keys").join(format!("{repository}.gw"))
    }
}

/// What a `server.conf` says; nothing where the repository has no gateway.
fn local(path: &Path, repository: &str) -> anyhow::Result<Option<Local>> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
    };
    let node = Node::parse(&path.display().to_string(), &text, repository)?;
    Ok(node.and_then(|node| match node.upstream {
        Upstream::Gateway { url } => Some(Local { repository: repository.to_owned(), url, spool: node.spool }),
        Upstream::Local { .. } | Upstream::S3 => None,
    }))
}

/// A gateway with the repositories that this node publishes through it.
pub(super) struct Place {
    pub(super) gateway: Gateway,
    pub(super) locals: Vec<Local>,
}

/// The gateways of these repositories, each once; or the one that is named.
pub(super) fn gateways(
    locals: Vec<Local>,
    named: Option<&str>,
    key: Option<&GatewayKey>,
    timeouts: Timeouts,
) -> anyhow::Result<Vec<Place>> {
    let mut by_url: BTreeMap<String, Vec<Local>> = BTreeMap::new();
    match named {
        Some(url) => {
            let same = |local: &Local| local.url.trim_end_matches('/') == url.trim_end_matches('/');
            by_url.insert(url.to_owned(), locals.into_iter().filter(same).collect());
        }
        None => locals.into_iter().for_each(|local| by_url.entry(local.url.clone()).or_default().push(local)),
    }
    let place = |(url, locals): (String, Vec<Local>)| {
        Ok(Place { gateway: Gateway::new(&url, key.cloned(), timeouts)?, locals })
    };
    by_url.into_iter().map(place).collect()
}
