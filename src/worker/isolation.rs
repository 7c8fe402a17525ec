//! How scripts are isolated: the account that one runs as, what it sees, and whether this host has the means.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{Account, WorkerError, WorkerSettings};
use crate::domain::names::{LeasePath, RepositoryName};
use crate::payload::script::{self, Confinement, Ending, ScriptError, ScriptRun};
use crate::publisher::{Owner, Workspace};

/// Where `cvmfs_server` mounts what is below its repositories in `/cvmfs`.
const CVMFS_SPOOL: &str = "/var/spool/cvmfs";
/// A script that does nothing may take so long: the machine may be busy.
const TRIAL: Duration = Duration::from_secs(60);

impl WorkerSettings {
    /// What a script in this workspace may see and write in.
    pub(super) fn confinement(&self, workspace: &Workspace) -> Confinement {
        // Of the worker's own directories the script sees its part only: the scratch of other batches is in there, too.
        let own = [self.state_dir.clone(), self.temp_dir.clone()];
        let mut mounts = workspace.mounts.clone();
        if Path::new(CVMFS_SPOOL).is_dir() {
            // Whatever publishes for us, on this machine cvmfs_server publishes as well, and waits for whoever holds its mounts.
            mounts.extend([CVMFS_SPOOL, "/cvmfs"].map(PathBuf::from));
        }
        Confinement {
            writable: workspace.writable.clone(),
            hidden: workspace.secret.iter().chain(&self.hidden).cloned().chain(own).collect(),
            mounts,
        }
    }

    /// What of a workspace must be given to the account that writes there: a copy. What everybody sees belongs to somebody
    /// already, and a new owner would copy each file of the repository up.
    pub(super) fn to_give(workspace: &Workspace) -> Option<&Path> {
        Some(workspace.root.as_path()).filter(|_| workspace.live.is_none())
    }

    /// Whom a script in this workspace runs as; the worker's own account where there is none. What everybody on this machine
    /// sees belongs to somebody, and the script is that one, but never root.
    pub(super) fn account(&self, workspace: &Workspace) -> Option<Account> {
        match workspace.live {
            Some(Owner { uid, gid }) if uid != 0 => Some(Account { uid, gid }),
            _ => self.run_as,
        }
    }
}

/// Tells at a worker's start whether scripts can be isolated here, and complains where they cannot.
pub(super) async fn available(settings: &WorkerSettings) -> Result<bool, WorkerError> {
    match try_isolation(&settings.temp_dir, settings.run_as).await {
        Err(error @ ScriptError::Isolation { .. }) if settings.isolation_required => Err(WorkerError::Isolation(error)),
        Err(error @ ScriptError::Isolation { .. }) => {
            let why = super::failure::chain(&error);
            tracing::warn!(
                reason = why,
                "this host cannot isolate scripts: they see the whole machine and may do to the worker what their account may; \
                 what is missing: conveyor worker check"
            );
            Ok(false)
        }
        // Whatever else is wrong is each script's to tell, and no reason to run one without isolation.
        Ok(()) | Err(_) => Ok(true),
    }
}

/// Isolates a script that does nothing, in a directory below `temp_dir`, which must exist.
pub async fn try_isolation(temp_dir: &Path, run_as: Option<Account>) -> Result<(), ScriptError> {
    let place = tempfile::Builder::new()
        .prefix("trial-")
        .permissions(PermissionsExt::from_mode(0o711))
        .tempdir_in(temp_dir)
        .map_err(io_of(temp_dir, "make a directory in"))?;
    let make = || {
        for name in ["root", "tmp"] {
            std::fs::create_dir(place.path().join(name))?;
            std::fs::set_permissions(place.path().join(name), PermissionsExt::from_mode(0o777))?;
        }
        let script =
            "#!/bin/sh\n: >made && : >\"$TMPDIR/made\" && : >/tmp/made || exit 1\n(: >\"$0.x\") 2>/dev/null\nexit 0\n";
        std::fs::write(place.path().join("script"), script)
    };
    make().map_err(io_of(&place.path().join("script"), "write"))?;
    let (repository, lease_path) = (RepositoryName::new("trial.example.org"), LeasePath::new("/trial"));
    let (Ok(repository), Ok(lease_path)) = (repository, lease_path) else { return Ok(()) };
    let root = place.path().join("root");
    let script = ScriptRun {
        run_id: uuid::Uuid::now_v7(),
        program: place.path().join("script"),
        repository,
        lease_path,
        args: Vec::new(),
        directory: root.clone(),
        temporary: place.path().join("tmp"),
        environment: Default::default(),
        time_limit: TRIAL,
        grace: Duration::ZERO,
        output_limit: 4096,
        run_as: run_as.map(|account| (account.uid.into(), account.gid.into())),
        allow_root: false,
        confinement: Some(Confinement { writable: root, hidden: vec![temp_dir.to_owned()], mounts: Vec::new() }),
    };
    let program = script.program.clone();
    let (output, _) = mpsc::channel(1);
    let report = script::run(script, &CancellationToken::new(), output).await?;
    // It may have had a private place of that name, as below /tmp.
    let got_out = place.path().join("script.x").exists();
    match report.ending {
        Ending::Exited { code: 0 } if !got_out => Ok(()),
        ending => {
            let said = String::from_utf8_lossy(&report.tail).trim().to_owned();
            let source = std::io::Error::other(format!("a script that only tries it out {ending}; it said {said:?}"));
            Err(ScriptError::Io { what: "isolate", program, source })
        }
    }
}

fn io_of(program: &Path, what: &'static str) -> impl FnOnce(std::io::Error) -> ScriptError {
    let program = program.to_owned();
    move |source| ScriptError::Io { what, program, source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::payload::fetch::FetchLimits;
    use crate::worker::Adjustable;

    const NOBODY: Account = Account { uid: 65534, gid: 65533 };

    fn settings() -> WorkerSettings {
        WorkerSettings {
            node: "n".into(),
            fleet: "f".into(),
            adjustable: Adjustable {
                slots: 1,
                repositories: None,
                drain_timeout: Duration::ZERO,
                whitelist_warning_days: 1,
            },
            state_dir: "/state".into(),
            temp_dir: "/temp".into(),
            run_as: Some(NOBODY),
            isolation_required: false,
            hidden: vec!["/etc/token".into()],
            fetch: FetchLimits::default(),
            broker: None,
            once: None,
        }
    }

    fn workspace(live: Option<Owner>) -> Workspace {
        Workspace {
            root: "/cvmfs/a".into(),
            writable: "/cvmfs/a/apps".into(),
            secret: vec!["/spool".into()],
            mounts: vec!["/mounts".into()],
            live,
        }
    }

    #[test]
    fn a_script_in_a_live_repository_runs_as_its_owner_and_never_as_root() {
        let of = |live| settings().account(&workspace(live));
        assert_eq!(of(None), Some(NOBODY));
        assert_eq!(of(Some(Owner { uid: 7, gid: 8 })), Some(Account { uid: 7, gid: 8 }));
        assert_eq!(of(Some(Owner { uid: 0, gid: 0 })), Some(NOBODY));
    }

    #[test]
    fn only_a_copy_is_given_away() {
        assert_eq!(WorkerSettings::to_give(&workspace(None)), Some(Path::new("/cvmfs/a")));
        assert_eq!(WorkerSettings::to_give(&workspace(Some(Owner { uid: 7, gid: 8 }))), None);
    }

    #[test]
    fn the_worker_s_own_directories_are_hidden_with_the_publisher_s() {
        let confinement = settings().confinement(&workspace(None));
        let hidden: Vec<_> = ["/spool", "/etc/token", "/state", "/temp"].map(PathBuf::from).into();
        assert_eq!((confinement.hidden, confinement.writable), (hidden, PathBuf::from("/cvmfs/a/apps")));
        assert!(confinement.mounts.contains(&PathBuf::from("/mounts")));
    }
}
