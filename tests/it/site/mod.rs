//! A publisher node for tests: a repository that `cvmfs_server` publishes into, with its web server and, if wanted, its
//! gateway. One face for the stand-ins and for the real programs.

#[path = "../../bin/standin_cvmfs_server/apply.rs"]
mod apply;
mod gateway;
mod real;
#[path = "../../bin/standin_cvmfs_server/signature.rs"]
mod signature;
mod web;
mod wire;

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use conveyor::cvmfs::history::Tag;
use conveyor::cvmfs::http::HttpBase;
use conveyor::cvmfs::keys;
use conveyor::cvmfs::reader::{Expiry, Reader};
use conveyor::cvmfs::stratum0::Stratum0;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use reqwest::blocking::{RequestBuilder, Response};
use serde_json::{Value, json};

use crate::harness::{Place, Run, missing, script_apart, until, write_apart};

pub(crate) use real::find;
pub(crate) use web::Web;
pub(crate) use wire::{Fault, Wire};

/// What kind of node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Setup {
    /// The real `cvmfs_server`, and gateway.
    pub(crate) real: bool,
    /// Behind a gateway.
    pub(crate) gateway: bool,
}

/// The node. Its repository and all that runs for it end with it.
pub(crate) struct Site {
    pub(crate) setup: Setup,
    /// The repository.
    pub(crate) name: String,
    /// The program.
    pub(crate) command: PathBuf,
    /// `/etc/cvmfs`, or what takes its place.
    pub(crate) configuration: PathBuf,
    pub(crate) spool: PathBuf,
    pub(crate) union: PathBuf,
    pub(crate) storage: PathBuf,
    pub(crate) web: Web,
    gateway: Option<Gateway>,
    /// Where the tests keep things; the stand-in's lab.
    place: Place,
}

/// Another machine's `cvmfs_server` for the same repository, behind the same gateway; a stand-in.
pub(crate) struct OtherPublisher {
    pub(crate) command: PathBuf,
    pub(crate) configuration: PathBuf,
    name: String,
    _lab: Place,
}

impl Drop for OtherPublisher {
    fn drop(&mut self) {
        // Not the storage, which is the other's.
        let _ = Command::new(&self.command).args(["umount", &self.name]).current_dir("/").status();
    }
}

enum Gateway {
    StandIn(gateway::StandIn),
    Real(real::Gateway),
}

impl Site {
    /// `None` where the machine cannot have it: the test is listed as skipped then.
    pub(crate) fn new(setup: Setup) -> Option<Self> {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let why = if setup.real { real::impossible(setup) } else { impossible() };
        if missing(if setup.real { "cvmfs" } else { "overlay" }, why) {
            return None;
        }
        let place = Place::new();
        let root = if setup.real { PathBuf::from("/") } else { place.path().to_owned() };
        let name = format!("t{}-{}.example.org", std::process::id(), MADE.fetch_add(1, Ordering::Relaxed));
        let repositories = root.join("srv/cvmfs");
        fs::create_dir_all(&repositories).unwrap();
        let web = Web::start(&repositories);
        let command = if setup.real { real::command() } else { wrapper(&root) };
        let configuration = root.join("etc/cvmfs");
        let (spool, union) = (root.join("var/spool/cvmfs").join(&name), root.join("cvmfs").join(&name));
        let storage = repositories.join(&name);
        let mut site = Self { setup, name, command, configuration, spool, union, storage, web, gateway: None, place };
        let url = site.web.url(&site.name);
        let mut arguments = vec!["mkfs", "-w", &url, "-o", "root", "-f", "overlayfs"];
        arguments.extend(setup.real.then_some("-p"));
        let made = site.run(&[&arguments[..], &[&site.name]].concat());
        assert_eq!(made.code, 0, "{made:?}");
        if setup.gateway {
            site.put_behind_gateway();
        }
        Some(site)
    }

    fn put_behind_gateway(&mut self) {
        let keys = self.keys();
        fs::write(
            keys.join(format!("{}.gw", self.name)),
            format!("plain_text {} {}\n", gateway::KEY.0, gateway::KEY.1),
        )
        .unwrap();
        self.gateway = Some(if self.setup.real {
            Gateway::Real(real::Gateway::start(&self.name, self.place.path()))
        } else {
            Gateway::StandIn(gateway::StandIn::start(self.storage.parent().unwrap(), &keys))
        });
        self.reach_gateway_at(self.gateway_port());
        if self.setup.real {
            real::share_host(&self.name, &self.storage, &self.spool);
        }
    }

    /// Makes the publisher reach the gateway at another port.
    pub(crate) fn reach_gateway_at(&self, port: u16) {
        let file = self.server_conf();
        let text = fs::read_to_string(&file).unwrap();
        let line =
            format!("CVMFS_UPSTREAM_STORAGE=gw,{}/data/txn,http://127.0.0.1:{port}/api/v1", self.storage.display());
        let of = |old: &str| if old.starts_with("CVMFS_UPSTREAM_STORAGE=") { line.clone() } else { old.to_owned() };
        fs::write(&file, text.lines().map(of).collect::<Vec<_>>().join("\n") + "\n").unwrap();
    }

    pub(crate) fn server_conf(&self) -> PathBuf {
        self.configuration.join("repositories.d").join(&self.name).join("server.conf")
    }

    pub(crate) fn keys(&self) -> PathBuf {
        self.configuration.join("keys")
    }

    /// A directory of the test's own.
    pub(crate) fn place(&self) -> &Path {
        self.place.path()
    }

    /// `cvmfs_server`, with a repository's name at the end where it is wanted.
    pub(crate) fn run(&self, arguments: &[&str]) -> Run {
        self.run_as(arguments, |_| {})
    }

    /// The same, with the command prepared further. Output goes to files, since clients that are mounted meanwhile keep
    /// what they inherit.
    pub(crate) fn run_as(&self, arguments: &[&str], prepare: impl FnOnce(&mut Command)) -> Run {
        let output = tempfile::tempdir_in(self.place.path()).unwrap();
        let (stdout, stderr) = (output.path().join("stdout"), output.path().join("stderr"));
        let mut command = Command::new(&self.command);
        command.args(arguments).current_dir("/").env("LC_ALL", "C").stdin(Stdio::null()).process_group(0);
        for variable in ["http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"] {
            command.env_remove(variable);
        }
        command.stdout(File::create(&stdout).unwrap()).stderr(File::create(&stderr).unwrap());
        prepare(&mut command);
        let status = command.status().unwrap();
        let read = |path: &Path| String::from_utf8_lossy(&fs::read(path).unwrap()).into_owned();
        Run { code: status.code().unwrap_or(-1), stdout: read(&stdout), stderr: read(&stderr) }
    }

    /// A command that must succeed.
    #[track_caller]
    pub(crate) fn good(&self, arguments: &[&str]) -> Run {
        let run = self.run(arguments);
        assert_eq!(run.code, 0, "{arguments:?}: {run:?}");
        run
    }

    /// Writes a file in an open transaction, and keeps nothing open.
    pub(crate) fn write(&self, path: &str, content: &str) {
        write_apart(&self.union.join(path), content);
    }

    pub(crate) fn is_in_transaction(&self) -> bool {
        self.spool.join("in_transaction.lock").exists()
    }

    /// Switches the stand-in's faults of a command; none by an empty text.
    pub(crate) fn fault(&self, command: &str, words: &str) {
        assert!(!self.setup.real, "only the stand-in has faults");
        fs::write(self.place.path().join("faults").join(command), words).unwrap();
    }

    /// The repository as clients see it.
    pub(crate) fn reader(&self) -> Reader {
        let key = keys::load_public(&self.keys(), &self.name).unwrap();
        let base = HttpBase::new(&self.web.url(&self.name)).unwrap();
        Reader::open(Box::new(base), &self.name, &[key], Expiry::Ignore).unwrap()
    }

    pub(crate) fn stratum0(&self) -> Stratum0 {
        Stratum0::at(&self.storage, &self.name, self.keys())
    }

    /// The number of the present revision.
    pub(crate) fn revision(&self) -> u64 {
        self.reader().manifest().revision
    }

    /// The tags of batches, in the order of their revisions.
    pub(crate) fn batch_tags(&self) -> Vec<Tag> {
        let mut tags = self.reader().tags().unwrap();
        tags.retain(|tag| tag.name.starts_with("cj-"));
        tags.sort_by_key(|tag| tag.revision);
        tags
    }

    /// The content of a published file.
    pub(crate) fn published(&self, path: &str) -> Option<Vec<u8>> {
        let reader = self.reader();
        let mut tree = reader.tree().unwrap();
        tree.lookup(path.as_bytes()).unwrap()?;
        let mut content = Vec::new();
        std::io::Read::read_to_end(&mut tree.file(path.as_bytes()).unwrap(), &mut content).unwrap();
        Some(content)
    }

    /// Signs the whitelist so that it expired long ago, or for the days to come.
    pub(crate) fn expire_whitelist(&self, expired: bool) {
        let now = jiff::Timestamp::now().as_second();
        self.stratum0().resign(30, if expired { now - 100 * 86_400 } else { now }).unwrap();
    }

    /// Takes a lease as another publisher would; gives its token.
    pub(crate) fn take_lease(&self, path: &str) -> String {
        let body =
            json!({"path": format!("{}/{path}", self.name), "api_version": "3", "hostname": "other"}).to_string();
        let request = reqwest::blocking::Client::new().post(self.leases()).body(body.clone());
        let answer: Value = signed(request, body.as_bytes()).json().unwrap();
        answer["session_token"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned()
    }

    pub(crate) fn drop_lease(&self, token: &str) {
        let request = reqwest::blocking::Client::new().delete(format!("{}/{token}", self.leases()));
        signed(request, token.as_bytes());
    }

    /// Where the gateway's leases are.
    pub(crate) fn leases(&self) -> String {
        format!("http://127.0.0.1:{}/api/v1/leases", self.gateway_port())
    }

    fn gateway(&self) -> &Gateway {
        self.gateway.as_ref().expect("there is a gateway")
    }

    pub(crate) fn gateway_port(&self) -> u16 {
        match self.gateway() {
            Gateway::StandIn(gateway) => gateway.port(),
            Gateway::Real(gateway) => gateway.port(),
        }
    }

    pub(crate) fn gateway_down(&mut self) {
        match self.gateway.as_mut().expect("there is a gateway") {
            Gateway::StandIn(gateway) => gateway.down(),
            Gateway::Real(gateway) => gateway.down(),
        }
    }

    pub(crate) fn gateway_up(&mut self) {
        match self.gateway.as_mut().expect("there is a gateway") {
            Gateway::StandIn(gateway) => gateway.up(),
            Gateway::Real(gateway) => gateway.up(),
        }
    }

    /// How long leases last that are acquired from now on. A real gateway is started anew for it.
    pub(crate) fn set_lease_time(&mut self, time: Duration) {
        match self.gateway.as_mut().expect("there is a gateway") {
            Gateway::StandIn(gateway) => gateway.set_lease_time(time),
            Gateway::Real(gateway) => gateway.set_lease_time(time),
        }
    }

    /// Whether publishes stand still in the middle of a commit, until this is taken back: the receiver, or where there is no
    /// gateway, `cvmfs_swissknife`.
    pub(crate) fn stop_commits(&self, stop: bool) {
        match &self.gateway {
            Some(Gateway::StandIn(gateway)) => gateway.stop_commits(stop),
            Some(Gateway::Real(_)) if !stop => self.web.hold(None),
            None if !stop && self.setup.real => self.web.hold(None),
            None if !stop => self.fault("publish", ""),
            Some(Gateway::Real(gateway)) => {
                let parent = gateway.id();
                self.web.hold(Some(Box::new(move || real::has_receiver(parent))));
            }
            None if self.setup.real => {
                let name = self.name.clone();
                self.web.hold(Some(Box::new(move || real::is_synchronizing(&name))));
            }
            None => self.fault("publish", "hang-before-flip"),
        }
    }

    pub(crate) fn until_commit_is_stopped(&self) {
        until("a commit stands still", || {
            let stands = match &self.gateway {
                Some(Gateway::StandIn(gateway)) => gateway.is_in_commit(),
                None if !self.setup.real => self.place.path().join("faults/met").exists(),
                _ => self.web.held() > 0,
            };
            stands.then_some(())
        });
    }

    pub(crate) fn other_publisher(&self) -> OtherPublisher {
        assert!(!self.setup.real, "on one machine there is one real cvmfs_server");
        let lab = Place::new();
        let root = lab.path();
        let (spool, union) = (root.join("var/spool/cvmfs").join(&self.name), root.join("cvmfs").join(&self.name));
        for directory in ["rdonly", "scratch/current", "ofs_workdir", "tmp"] {
            fs::create_dir_all(spool.join(directory)).unwrap();
        }
        let configuration = root.join("etc/cvmfs");
        let directory = configuration.join("repositories.d").join(&self.name);
        for directory in [&union, &directory, &root.join("srv"), &root.join("faults")] {
            fs::create_dir_all(directory).unwrap();
        }
        symlink(self.storage.parent().unwrap(), root.join("srv/cvmfs")).unwrap();
        symlink(self.keys(), configuration.join("keys")).unwrap();
        let text = fs::read_to_string(self.server_conf()).unwrap();
        let text = text.replace(self.spool.to_str().unwrap(), spool.to_str().unwrap());
        let text = text.replace(self.union.to_str().unwrap(), union.to_str().unwrap());
        fs::write(directory.join("server.conf"), text).unwrap();
        let command = wrapper(root);
        let mounted = Command::new(&command).args(["mount", &self.name]).current_dir("/").status().unwrap();
        assert!(mounted.success());
        OtherPublisher { command, configuration, name: self.name.clone(), _lab: lab }
    }

    /// What tells this site from others of this process.
    pub(crate) fn number(&self) -> &str {
        self.name.split(['-', '.']).nth(1).unwrap()
    }

    /// Kills all processes that publish into the repository, with all they started.
    pub(crate) fn kill_publishers(&self) {
        let is_publisher = |words: &str| {
            let of_ours = words.contains(&self.name);
            of_ours && (words.contains("cvmfs_server") || words.contains("cvmfs_swissknife"))
        };
        until("the publishers are dead", || {
            let processes = fs::read_dir("/proc").unwrap().flatten();
            let mut left = 0;
            for process in processes {
                let Ok(id) = process.file_name().to_string_lossy().parse::<i32>() else { continue };
                let words = fs::read(process.path().join("cmdline")).unwrap_or_default();
                if is_publisher(&String::from_utf8_lossy(&words)) {
                    left += 1;
                    let _ = kill(Pid::from_raw(id), Signal::SIGKILL);
                }
            }
            (left == 0).then_some(())
        });
    }

    /// Whether the stand-in's gateway has a payload that is not committed yet.
    pub(crate) fn has_payload(&self) -> bool {
        matches!(self.gateway(), Gateway::StandIn(gateway) if gateway.has_payload())
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.gateway = None;
        self.web.up_again();
        if self.setup.real {
            self.run(&["abort", "-f", &self.name]);
        }
        self.run(&["rmfs", "-f", &self.name]);
        if self.setup.real && self.setup.gateway {
            // The publisher is not who owns it there.
            let _ = fs::remove_dir_all(&self.storage);
        }
    }
}

fn signed(request: RequestBuilder, message: &[u8]) -> Response {
    let header = signature::authorization(gateway::KEY.0, gateway::KEY.1, message);
    request.header("Authorization", header).send().unwrap()
}

/// What this machine lacks for the stand-in.
fn impossible() -> Option<String> {
    if !nix::unistd::geteuid().is_root() {
        return Some("the stand-in for cvmfs_server mounts an overlay, which needs root".into());
    }
    let Some(program) = option_env!("CARGO_BIN_EXE_standin-cvmfs-server") else {
        return Some("the stand-in for cvmfs_server is made with the feature crash-points".into());
    };
    (!Path::new(program).exists()).then(|| format!("there is no stand-in at {program}"))
}

/// The script by which the stand-in is called: nobody hands it an environment.
fn wrapper(lab: &Path) -> PathBuf {
    let directory = lab.join("bin");
    fs::create_dir_all(&directory).unwrap();
    let path = directory.join("cvmfs_server");
    let program = option_env!("CARGO_BIN_EXE_standin-cvmfs-server").unwrap_or_default();
    let text = format!("#!/bin/sh\nCONVEYOR_STANDIN_LAB={} exec {program} \"$@\"\n", lab.display());
    script_apart(&path, &text);
    path
}
