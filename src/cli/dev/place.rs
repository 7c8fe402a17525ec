//! The state directory of `conveyor dev`: made where absent, taken up where it is.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::app::clock::{Entropy, SystemEntropy};
use crate::cli::serving::make_private;
use crate::cvmfs::Error;
use crate::cvmfs::reader::Expiry;
use crate::cvmfs::stratum0::{CreateOptions, Stratum0};
use crate::domain::names::RepositoryName;

/// The repository that is made when none is named and none is there.
const DEFAULT_REPOSITORY: &str = "software.example.org";

/// Paths and secrets of one development server.
pub(super) struct Place {
    pub(super) state: PathBuf,
    pub(super) repositories: Vec<RepositoryName>,
    pub(super) token: String,
    temporary: Temporary,
}

/// Where payloads are unpacked and run.
enum Temporary {
    /// Beside the rest.
    Inside(PathBuf),
    /// Elsewhere, since scripts of another account cannot pass through root's directories; removed at the end.
    Outside(tempfile::TempDir),
}

impl Place {
    pub(super) fn prepare(state: Option<PathBuf>, mut repositories: Vec<RepositoryName>) -> anyhow::Result<Self> {
        let state = match state {
            Some(state) => state,
            None => default_state()?,
        };
        make_private(&state)?;
        let state = state.canonicalize().with_context(|| format!("cannot use {}", state.display()))?;
        let temporary = if nix::unistd::geteuid().is_root() {
            let folder = tempfile::Builder::new()
                .prefix("conveyor-dev-")
                .permissions(fs::Permissions::from_mode(0o711))
                .tempdir();
            Temporary::Outside(folder.context("cannot make a temporary directory")?)
        } else {
            Temporary::Inside(state.join("tmp"))
        };
        let mut place = Self { token: token(&state.join("token"))?, state, repositories: Vec::new(), temporary };
        make_private(&place.keys_dir())?;
        fs::create_dir_all(place.repositories_dir())?;
        let there = place.existing()?;
        if repositories.is_empty() && there.is_empty() {
            repositories.push(RepositoryName::new(DEFAULT_REPOSITORY)?);
        }
        repositories.extend(there);
        repositories.sort();
        repositories.dedup();
        for name in &repositories {
            place.make_repository(name)?;
        }
        place.repositories = repositories;
        Ok(place)
    }

    pub(super) fn repositories_dir(&self) -> PathBuf {
        self.state.join("repositories")
    }

    pub(super) fn keys_dir(&self) -> PathBuf {
        self.state.join("keys")
    }

    pub(super) fn client_config(&self) -> PathBuf {
        self.state.join("client.toml")
    }

    pub(super) fn public_key(&self, repository: &RepositoryName) -> PathBuf {
        self.state.join(format!("{repository}.pub"))
    }

    pub(super) fn temporary(&self) -> PathBuf {
        match &self.temporary {
            Temporary::Inside(path) => path.clone(),
            Temporary::Outside(folder) => folder.path().join("worker"),
        }
    }

    pub(super) fn stratum0(&self, repository: &RepositoryName) -> Stratum0 {
        Stratum0::at(self.repositories_dir().join(repository.as_str()), repository.as_str(), self.keys_dir())
    }

    /// Writes the file with which `conveyor -c` finds this server.
    pub(super) fn write_client_config(&self, url: &str) -> anyhow::Result<()> {
        let text = format!(
            "# Written by conveyor dev at each start.\n[client]\nurl = \"{url}\"\ntoken = \"{}\"\n",
            self.token
        );
        write_private(&self.client_config(), &text)
    }

    fn existing(&self) -> anyhow::Result<Vec<RepositoryName>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(self.repositories_dir())? {
            if let Some(name) = entry?.file_name().to_str().and_then(|name| RepositoryName::new(name).ok())
                && self.stratum0(&name).exists()
            {
                names.push(name);
            }
        }
        Ok(names)
    }

    /// Makes a repository that is not there; one whose whitelist is about to expire gets a new one.
    fn make_repository(&self, name: &RepositoryName) -> anyhow::Result<()> {
        let stratum0 = self.stratum0(name);
        let now = jiff::Timestamp::now().as_second();
        let options = CreateOptions::default();
        if stratum0.exists() {
            let days_left = || Ok::<_, Error>((stratum0.reader(Expiry::Ignore)?.whitelist().expires_at - now) / 86_400);
            // Only then: what a killed predecessor started may hold the repository's lock for a moment longer.
            if days_left().with_context(|| format!("cannot read {name}"))? < i64::from(options.whitelist_days) / 2 {
                let signed = stratum0.resign(options.whitelist_days, now);
                signed.with_context(|| format!("cannot sign the whitelist of {name}"))?;
            }
        } else {
            Stratum0::create(stratum0.directory(), name.as_str(), self.keys_dir(), &options, now)
                .with_context(|| format!("cannot make repository {name}"))?;
        }
        let public = self.keys_dir().join(format!("{name}.pub"));
        fs::copy(&public, self.public_key(name)).with_context(|| format!("cannot copy {}", public.display()))?;
        Ok(())
    }
}

fn default_state() -> anyhow::Result<PathBuf> {
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".local/state"));
    let base = std::env::var_os("XDG_STATE_HOME").filter(|dir| !dir.is_empty()).map(PathBuf::from).or_else(home);
    Ok(base.context("neither XDG_STATE_HOME nor HOME is set; say --state DIR")?.join("conveyor/dev"))
}

/// The token of this place, made at its first use.
fn token(path: &Path) -> anyhow::Result<String> {
    match fs::read_to_string(path) {
        Ok(text) if !text.trim().is_empty() => return Ok(text.trim().to_owned()),
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("cannot read {}", path.display()));
        }
        _ => {}
    }
    let token = SystemEntropy.secret();
    write_private(path, &token)?;
    Ok(token)
}

/// Writes a file that only its owner can read, whole or not at all.
fn write_private(path: &Path, text: &str) -> anyhow::Result<()> {
    let next = path.with_extension("next");
    let write = || {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&next)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&next, path)
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}
