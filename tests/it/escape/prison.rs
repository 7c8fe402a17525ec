//! A server, its worker, and something to steal.

use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use conveyor::domain::ids::JobId;
use conveyor::domain::job::spec::{JobSpec, Payload, Source};

use super::attacks::{Attack, CALLS};
use crate::harness::{Api, Place, REPOSITORY, Server, Worker, job, missing};

/// The account of an ordinary user's worker.
pub(super) const NOBODY: u32 = 65534;

/// Makes a program that account's, where root starts it.
pub(super) const ORDINARY: [&str; 4] = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];

/// Whose worker it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Warden {
    Root,
    Ordinary,
}

impl Warden {
    /// Says whether the test must return early, since it cannot be tried here.
    pub(super) fn cannot_be_tried(self) -> bool {
        let is_root = nix::unistd::geteuid().is_root();
        let with = |command: &[&str]| {
            let run = Command::new(command[0])
                .args(&command[1..])
                .args(["--mount", "--pid", "--ipc", "--fork", "true"])
                .output();
            match run {
                Ok(run) if run.status.success() => None,
                Ok(run) => Some(format!("no namespaces here: {}", String::from_utf8_lossy(&run.stderr).trim())),
                Err(error) => Some(format!("cannot try namespaces with {}: {error}", command[0])),
            }
        };
        let why = match (self, is_root) {
            (Self::Root, false) => Some("a worker of root needs root".into()),
            (Self::Root, true) => with(&["unshare"]),
            (Self::Ordinary, false) => with(&["unshare", "--user", "--map-current-user"]),
            (Self::Ordinary, true) => with(&[&ORDINARY[..], &["unshare", "--user", "--map-current-user"]].concat()),
        };
        missing("isolation", why)
    }
}

pub(super) struct Prison {
    // Dropped in this order: processes before their directories.
    worker: Worker,
    warden: Warden,
    server: Server,
    bait: String,
    _bait: [tempfile::NamedTempFile; 2],
}

impl Prison {
    /// Where an ordinary user has a worker of its own, scripts of that account are tried there.
    pub(super) fn build(warden: Warden) -> Option<Self> {
        if warden.cannot_be_tried() {
            return None;
        }
        let is_root = nix::unistd::geteuid().is_root();
        // Not below /tmp, which is hidden in any case.
        let place = if is_root { Place::below(Path::new("/run")) } else { Place::new() };
        let server = Server::start_at(place, "isolation = \"required\"");
        let base = server.base().to_owned();
        let name = base.file_name().unwrap().to_str().unwrap().to_owned();
        let bait = ["/tmp", "/var/tmp"]
            .map(|place| tempfile::Builder::new().prefix(&name).rand_bytes(0).tempfile_in(place).unwrap());
        if warden == Warden::Ordinary && is_root {
            hand_over(&server);
        }
        let worker = start(warden, &server);
        let prison = Self { worker, warden, server, bait: name, _bait: bait };
        // Something outside of the lease that could be changed.
        prison.publish("/outside", "echo old >outside/file");
        Some(prison)
    }

    pub(super) fn server(&self) -> &Server {
        &self.server
    }

    /// Publishes what a good script makes.
    #[track_caller]
    pub(super) fn publish(&self, lease_path: &str, text: &str) {
        self.server.publish(job(REPOSITORY, lease_path, self.server.script(text)));
    }

    /// Runs the attacks in one job and returns its log.
    pub(super) fn run(&self, attacks: &[&Attack]) -> String {
        let mut text = String::from("#!/bin/sh\nmkdir -p \"$TMPDIR/bin\"\ncat >\"$TMPDIR/call.pl\" <<'END'\n");
        text += CALLS;
        text += "END\nPATH=$PATH:/usr/sbin:/sbin\nunshare --user --map-root-user --mount true && echo nested\n";
        for attack in attacks {
            let (name, command) = (attack.name, self.filled(attack.command));
            text += &format!(
                "( {command} ) >\"$TMPDIR/said\" 2>&1 </dev/null && {{ echo \"escaped: {name}\"; cat \"$TMPDIR/said\"; }}\n\
                 sed 's/^/    /' \"$TMPDIR/said\"; echo \"tried {name}\"\n"
            );
        }
        text += "exit 0\n";
        let log = self.ended_log(&text);
        // For whoever wants to see by what each was stopped.
        println!("{log}");
        log
    }

    /// Runs a script to its end, however that is.
    pub(super) fn ended_log(&self, text: &str) -> String {
        let id = self.submit(text);
        self.server.ended(id);
        // The server has a log of its own.
        let api: &Api = &self.server;
        api.log(id)
    }

    /// Submits a script, first line and all.
    pub(super) fn submit(&self, text: &str) -> JobId {
        let source: Source = self.server.blob(text.to_owned());
        let spec = job(REPOSITORY, "/escape", Payload::Script { source, args: Vec::new() });
        self.server.submit(JobSpec { timeout_s: 120, ..spec })
    }

    pub(super) fn cancel(&self, id: JobId) {
        self.server.run(&["cancel", &id.to_string()]);
    }

    pub(super) fn kill_worker(&mut self) {
        self.worker.kill9();
    }

    pub(super) fn start_worker(&mut self) {
        self.worker = start(self.warden, &self.server);
    }

    fn filled(&self, command: &str) -> String {
        let base = self.server.base();
        let path = |name: &str| base.join(name).into_os_string().into_string().unwrap();
        let nested = "unshare --user --map-root-user --mount ";
        [
            ("REPOSITORIES", path("repositories")),
            ("KEYS", path("keys")),
            ("TOKEN", path("token")),
            ("CONFIG", path("config.toml")),
            ("STATE", path("worker-n1")),
            ("SERVER", path("server")),
            ("TEMP", path("tmp-n1")),
            ("PROGRAM", env!("CARGO_BIN_EXE_conveyor").to_owned()),
            ("BAIT", self.bait.clone()),
            ("WORKER", self.worker.id().to_string()),
            ("CALL", "perl \"$TMPDIR/call.pl\"".to_owned()),
            ("NESTED --pid --fork ", format!("{nested}--pid --fork sh -c ")),
            ("NESTED ", format!("{nested}sh -c ")),
        ]
        .into_iter()
        .fold(command.to_owned(), |text, (word, is)| text.replace(word, &is))
    }

    /// The worker lives, serves the next job, and nothing was changed.
    #[track_caller]
    pub(super) fn stands(&self) {
        self.publish("/good", "echo good >good/file");
        let files = |directory: &str| self.server.files(directory);
        assert!(files("good").contains("file"));
        assert_eq!(files("outside").into_iter().collect::<Vec<_>>(), ["file"]);
        let allowed = ["escape", "good", "outside"];
        assert!(files("").iter().all(|name| allowed.contains(&name.as_str())), "{:?}", files(""));
        for path in ["/etc/conveyor-was-here", "/var/conveyor-was-here"] {
            assert!(!Path::new(path).exists(), "{path}");
        }
    }
}

fn start(warden: Warden, server: &Server) -> Worker {
    match warden {
        Warden::Ordinary if nix::unistd::geteuid().is_root() => server.worker_under(&ORDINARY, "n1"),
        _ => server.worker("n1"),
    }
}

/// Gives what a worker needs to the ordinary account.
pub(super) fn hand_over(server: &Server) {
    for name in ["worker-n1", "tmp-n1"] {
        std::fs::create_dir(server.base().join(name)).unwrap();
    }
    for name in ["repositories", "keys", "token", "config.toml", "worker-n1", "tmp-n1"] {
        give(&server.base().join(name));
    }
}

fn give(tree: &Path) {
    for entry in walkdir::WalkDir::new(tree) {
        chown(entry.unwrap().path(), Some(NOBODY), Some(NOBODY)).unwrap();
    }
}

/// A directory with a mode, whatever the umask.
pub(super) fn directory(path: PathBuf, mode: u32) -> PathBuf {
    std::fs::create_dir_all(&path).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    path
}
