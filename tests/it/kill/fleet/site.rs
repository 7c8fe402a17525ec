//! A server, three workers on nodes of their own and their connections, each of which can be hurt.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use conveyor::client::Client;
use conveyor::domain::token::Token;
use nix::sys::signal::Signal;

use crate::broker::table;
use crate::harness::{Daemon, Ledger, OTHER, Program, REPOSITORY, Relay, Server, private};

/// A third, so that each worker can be at work.
const THIRD: &str = "third.example.org";
pub(super) const REPOSITORIES: [&str; 3] = [REPOSITORY, OTHER, THIRD];
pub(super) const NODES: [&str; 3] = ["node-a", "node-b", "node-c"];

/// Somebody who can be hurt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Target {
    Server,
    /// On the node of this number.
    Worker(usize),
    Broker,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Server => "server",
            Self::Worker(_) => "worker",
            Self::Broker => "broker",
        })
    }
}

/// A connection that can be cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Link {
    ServerToBroker,
    WorkerToServer(usize),
    WorkerToBroker(usize),
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ServerToBroker => "server to broker",
            Self::WorkerToServer(_) => "worker to server",
            Self::WorkerToBroker(_) => "worker to broker",
        })
    }
}

/// All processes but the broker. They share one machine's repositories.
pub(super) struct Site {
    // Dropped in this order: the workers before the server, whose directory they use.
    workers: Vec<Daemon>,
    server: Server,
    programs: Vec<Program>,
    links: BTreeMap<Link, Relay>,
    records: PathBuf,
    ledger: Ledger,
    wrong: Vec<String>,
}

impl Site {
    /// Starts everything, on a broker's virtual host. What the processes say is kept below `records`, or with the rest.
    pub(super) fn start(broker: u16, vhost: &str, records: Option<PathBuf>) -> Self {
        let mut links = BTreeMap::from([(Link::ServerToBroker, Relay::to(broker))]);
        let own = links[&Link::ServerToBroker].port();
        let server =
            Server::start_batching_with(|base| format!("[repositories.\"{THIRD}\"]\n{}", table(base, own, vhost)));
        server.program().good(&["repository", "create", THIRD]);
        let port: u16 = server.url().rsplit(':').next().unwrap().parse().unwrap();
        let config = std::fs::read_to_string(server.base().join("config.toml")).unwrap();
        let mut programs = Vec::new();
        for (number, node) in NODES.iter().enumerate() {
            let to_broker = Relay::to(broker);
            let text = config.replace(&format!("127.0.0.1:{own}/"), &format!("127.0.0.1:{}/", to_broker.port()));
            assert_ne!(text, config);
            let path = server.base().join(format!("{node}.toml"));
            private(&path, &text);
            programs.push(Program::new(&path, server.base()));
            links.insert(Link::WorkerToBroker(number), to_broker);
            links.insert(Link::WorkerToServer(number), Relay::to(port));
        }
        let records = records.unwrap_or_else(|| server.base().join("records"));
        std::fs::create_dir_all(&records).unwrap();
        let mut site =
            Self { workers: Vec::new(), server, programs, links, records, ledger: Ledger::new(), wrong: Vec::new() };
        site.workers = (0..NODES.len()).map(|number| site.launch_worker(number, None)).collect();
        site
    }

    /// A client whose calls are repeated for so long.
    pub(super) fn client(&self, patience: Duration) -> Client {
        let token = Token::new(self.server.token()).unwrap();
        Client::new(self.server.url(), Some(token)).unwrap().with_retry_for(patience)
    }

    /// Where repositories and keys are.
    pub(super) fn state(&self) -> &Path {
        self.server.base()
    }

    /// Where every script that runs adds a line with its job's name.
    pub(super) fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    pub(super) fn records(&self) -> &Path {
        &self.records
    }

    /// What no process may do: panic, or end by itself.
    pub(super) fn wrong(&mut self) -> &mut Vec<String> {
        &mut self.wrong
    }

    /// `kill -9` of the process alone, as it is.
    pub(super) fn kill(&mut self, target: Target) {
        if let Some(status) = self.ended(target) {
            self.wrong.push(format!("{target:?} ended by itself, {status}"));
        }
        self.daemon(target).send(Signal::SIGKILL);
        self.daemon(target).wait();
        self.bury(target);
    }

    pub(super) fn signal(&mut self, target: Target, signal: Signal) {
        self.daemon(target).send(signal);
    }

    /// The end of a process, if it has come.
    pub(super) fn ended(&mut self, target: Target) -> Option<ExitStatus> {
        self.daemon(target).poll()
    }

    /// Waits until a process has died at its crash point.
    pub(super) fn died(&mut self, target: Target) -> Result<(), String> {
        let status = self.daemon(target).wait();
        self.bury(target);
        let was_killed = status.signal() == Some(Signal::SIGKILL as i32);
        if was_killed { Ok(()) } else { Err(format!("{target:?} ended with {status} instead of dying there")) }
    }

    /// Starts a process that has ended, to be killed at a named point where there is one.
    pub(super) fn start_again(&mut self, target: Target, crash_at: Option<&str>) {
        match (target, crash_at) {
            (Target::Worker(number), _) => self.workers[number] = self.launch_worker(number, crash_at),
            // It may die before it listens.
            (_, Some(point)) => self.server.start_dying_at(point),
            (_, None) => self.server.start_again(None),
        }
    }

    pub(super) fn cut(&self, link: Link) {
        self.links[&link].cut();
    }

    /// Swallows answers on a connection; once they are let through again, it is cut, since what is missing stays missing.
    pub(super) fn silence(&self, link: Link, silent: bool) {
        self.links[&link].mute(silent);
        if !silent {
            self.links[&link].cut();
        }
    }

    /// Takes down what a process said whose end has come.
    pub(super) fn bury(&mut self, target: Target) {
        let name = match target {
            Target::Worker(number) => NODES[number],
            _ => "server",
        };
        let daemon = self.daemon(target);
        daemon.until_quiet();
        let log = daemon.stderr();
        let path = self.records.join(format!("{name}.log"));
        let mut file = std::fs::OpenOptions::new().append(true).create(true).open(path).unwrap();
        file.write_all(log.as_bytes()).unwrap();
        self.wrong.extend(panic_in(&log).map(|text| format!("{name} {text}")));
    }

    /// Kills all that lives.
    pub(super) fn end(&mut self) {
        for target in (0..NODES.len()).map(Target::Worker).chain([Target::Server]) {
            self.kill(target);
        }
    }

    fn daemon(&mut self, target: Target) -> &mut Daemon {
        match target {
            Target::Server => self.server.process(),
            Target::Worker(number) => &mut self.workers[number],
            Target::Broker => unreachable!("it is none of our processes"),
        }
    }

    fn launch_worker(&self, number: usize, crash_at: Option<&str>) -> Daemon {
        let node = NODES[number];
        let path =
            |name: &str| self.server.base().join(format!("{name}-{node}")).into_os_string().into_string().unwrap();
        let url = format!("http://127.0.0.1:{}", self.links[&Link::WorkerToServer(number)].port());
        let (state, temporary) = (path("worker"), path("tmp"));
        let arguments = ["--debug", "--url", &url, "worker", "--slots", "2", "--node", node];
        let places = ["--state-dir", &state, "--temp-dir", &temporary];
        let mut command = self.programs[number].command(&[&arguments[..], &places].concat());
        Daemon::start(command.envs(crash_at.map(|point| ("CONVEYOR_CRASH_AT", point))))
    }
}

/// What a process said when it panicked, if it did.
pub(super) fn panic_in(log: &str) -> Option<String> {
    log.find("panicked at").map(|at| log[at..].chars().take(500).collect())
}
