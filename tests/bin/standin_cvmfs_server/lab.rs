//! Where everything lies: the lab's root takes the place of `/`.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use conveyor::cvmfs::reader::{Expiry, Reader};
use conveyor::cvmfs::settings::{Node, Upstream};
use conveyor::cvmfs::stratum0::Stratum0;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, Uid};

use crate::rows::{all, fill};

/// The directory that the wrapper names.
pub(crate) const VARIABLE: &str = "CONVEYOR_STANDIN_LAB";

pub(crate) struct Lab {
    pub(crate) root: PathBuf,
}

/// A repository of the lab.
pub(crate) struct Repository {
    pub(crate) name: String,
    pub(crate) node: Node,
    pub(crate) storage: PathBuf,
    lab: PathBuf,
}

impl Lab {
    pub(crate) fn here() -> Self {
        let root = std::env::var_os(VARIABLE).unwrap_or_else(|| panic!("this is the tests' stand-in: set {VARIABLE}"));
        Self { root: root.into() }
    }

    pub(crate) fn keys(&self) -> PathBuf {
        self.root.join("etc/cvmfs/keys")
    }

    pub(crate) fn configuration(&self, name: &str) -> PathBuf {
        self.root.join("etc/cvmfs/repositories.d").join(name)
    }

    pub(crate) fn repository(&self, name: &str) -> Option<Repository> {
        let path = self.configuration(name).join("server.conf");
        let text = fs::read_to_string(&path).ok()?;
        let node = Node::parse(&path.display().to_string(), &text, name).unwrap().unwrap();
        Some(Repository {
            name: name.to_owned(),
            node,
            storage: self.root.join("srv/cvmfs").join(name),
            lab: self.root.clone(),
        })
    }

    /// The faults that a test switched on for a command: the words of the file `faults/COMMAND`.
    pub(crate) fn faults(&self, command: &str) -> Vec<String> {
        let text = fs::read_to_string(self.root.join("faults").join(command)).unwrap_or_default();
        text.split_whitespace().map(str::to_owned).collect()
    }

    /// Passes a named point of a command: with a fault `kill-POINT`, `stop-POINT` or `hang-POINT` it comes true here.
    pub(crate) fn point(&self, command: &str, point: &str) {
        let is = |action: &str| self.faults(command).contains(&format!("{action}-{point}"));
        let me = Pid::this();
        if is("stop") {
            kill(me, Signal::SIGSTOP).unwrap();
        }
        if is("kill") {
            if command == "publish" && std::env::args().next().as_deref() == Some(crate::publish::SWISSKNIFE) {
                kill(Pid::parent(), Signal::SIGKILL).unwrap();
            }
            kill(me, Signal::SIGKILL).unwrap();
        }
        while is("hang") {
            // For a test that waits for this.
            fs::write(self.root.join("faults/met"), point).unwrap();
            pause();
        }
    }
}

impl Repository {
    pub(crate) fn spool(&self, file: &str) -> PathBuf {
        self.node.spool.join(file)
    }

    pub(crate) fn rdonly(&self) -> PathBuf {
        self.spool("rdonly")
    }

    pub(crate) fn upper(&self) -> PathBuf {
        self.spool("scratch/current")
    }

    pub(crate) fn gateway(&self) -> Option<&str> {
        match &self.node.upstream {
            Upstream::Gateway { url } => Some(url),
            _ => None,
        }
    }

    pub(crate) fn keys(&self) -> PathBuf {
        self.lab.join("etc/cvmfs/keys")
    }

    pub(crate) fn checkouts(&self) -> PathBuf {
        self.lab.join("checkouts").join(&self.name)
    }

    pub(crate) fn stratum0(&self) -> Stratum0 {
        Stratum0::at(&self.storage, &self.name, self.keys())
    }

    /// What is published now, as it lies on disk.
    pub(crate) fn reader(&self) -> Reader {
        self.stratum0().reader(Expiry::Ignore).unwrap()
    }

    pub(crate) fn has_server(&self) -> bool {
        let client = reqwest::blocking::Client::builder().no_proxy().build().unwrap();
        let get = |file: &str| client.get(format!("{}/{file}", self.node.url)).send();
        [".cvmfspublished", ".cvmfswhitelist"].iter().all(|file| get(file).is_ok_and(|it| it.status().is_success()))
    }

    pub(crate) fn is_expired(&self) -> bool {
        self.reader().whitelist().check_time(now()).is_err()
    }

    pub(crate) fn is_allowed(&self) -> bool {
        let user = Uid::effective();
        user.is_root() || fs::metadata(&self.node.spool).is_ok_and(|spool| spool.uid() == user.as_raw())
    }

    pub(crate) fn is_in_transaction(&self) -> bool {
        self.spool("in_transaction.lock").exists()
    }

    /// Ends as the table says, with the words of this repository and some more.
    pub(crate) fn end(&self, row: &str, more: &[(&str, &str)]) -> ! {
        let (spool, union) = (self.node.spool.display().to_string(), self.node.union.display().to_string());
        let mut words =
            vec![("repository", self.name.as_str()), ("spool", &spool), ("union", &union), ("url", &self.node.url)];
        words.extend(more);
        end(row, &words)
    }
}

/// Ends as the table says.
pub(crate) fn end(row: &str, words: &[(&str, &str)]) -> ! {
    let row = all().find(|it| it.name == row).unwrap_or_else(|| panic!("no row is called {row}"));
    row.stdout.iter().for_each(|line| println!("{}", fill(line, words)));
    row.stderr.iter().for_each(|line| eprintln!("{}", fill(line, words)));
    std::process::exit(row.code)
}

/// Seconds since 1970.
pub(crate) fn now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    i64::try_from(since.as_secs()).unwrap()
}

/// Between two looks at what has to change.
pub(crate) fn pause() {
    std::thread::sleep(std::time::Duration::from_millis(20));
}

/// Runs a command of the system; tells whether it succeeded.
pub(crate) fn runs(words: &[&str]) -> bool {
    Command::new(words[0])
        .args(&words[1..])
        .output()
        .unwrap_or_else(|error| panic!("{words:?}: {error}"))
        .status
        .success()
}

pub(crate) fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}
