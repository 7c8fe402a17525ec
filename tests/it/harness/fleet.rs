//! Server and workers as processes of their own, from configuration files.

use std::collections::BTreeSet;
use std::ops::Deref;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use conveyor::cvmfs::reader::Expiry;
use conveyor::cvmfs::stratum0::Stratum0;

use super::dev::{Place, REPOSITORY};
use super::{Api, Daemon, Port, Program, copy_apart};

/// A second repository of the same server.
pub(crate) const OTHER: &str = "other.example.org";
const TOKEN: &str = "token-of-the-integration-tests";
/// A publish for each job.
const ONE_BY_ONE: &str = "\n[batches]\nmax_jobs = 1\n\n";

/// A server and the machine that its workers share: repositories and keys.
pub(crate) struct Server {
    process: Daemon,
    api: Api,
    program: Program,
    base: Place,
    /// Its own, also between two lives.
    _port: Port,
}

/// A worker of that server.
pub(crate) struct Worker {
    process: Daemon,
}

impl Deref for Server {
    type Target = Api;
    fn deref(&self) -> &Api {
        &self.api
    }
}

impl Deref for Worker {
    type Target = Daemon;
    fn deref(&self) -> &Daemon {
        &self.process
    }
}

impl std::ops::DerefMut for Worker {
    fn deref_mut(&mut self) -> &mut Daemon {
        &mut self.process
    }
}

impl Server {
    /// Makes the repository and starts a server without workers; claims expire after 5 seconds, and each job has a publish
    /// of its own.
    pub(crate) fn start() -> Self {
        Self::start_with("", |_| String::new())
    }

    /// The same with batches of many jobs.
    pub(crate) fn start_batching() -> Self {
        Self::start_batching_with(|_| String::new())
    }

    /// The same, with further tables.
    pub(crate) fn start_batching_with(tables: impl FnOnce(&Path) -> String) -> Self {
        Self::launch("", tables)
    }

    /// With further keys of the worker's table, and further tables; these may name files in the directory.
    pub(crate) fn start_with(worker: &str, tables: impl FnOnce(&Path) -> String) -> Self {
        Self::launch(worker, |base| format!("{ONE_BY_ONE}{}", tables(base)))
    }

    /// With further keys of the worker's table, in a directory of the test's choice.
    pub(crate) fn start_at(base: Place, worker: &str) -> Self {
        Self::launch_at(base, worker, |_| ONE_BY_ONE.to_owned())
    }

    fn launch(worker: &str, tables: impl FnOnce(&Path) -> String) -> Self {
        Self::launch_at(Place::new(), worker, tables)
    }

    fn launch_at(base: Place, worker: &str, tables: impl FnOnce(&Path) -> String) -> Self {
        let path = |name: &str| base.path().join(name);
        for directory in ["repositories", "keys"] {
            std::fs::create_dir(path(directory)).unwrap();
        }
        private(&path("token"), TOKEN);
        private(&path("tokens.toml"), "");
        let config = path("config.toml");
        private(&config, &(config_text(base.path(), worker) + &tables(base.path())));
        let program = Program::new(&config, base.path());
        program.good(&["repository", "create", REPOSITORY]);
        program.good(&["repository", "create", OTHER]);
        let port = Port::reserve();
        let (process, url) = launch(&program, &port.address(), None);
        Self { process, api: Api::new(&url, TOKEN), program, base, _port: port }
    }

    pub(crate) fn base(&self) -> &Path {
        self.base.path()
    }

    /// The command line tool, configured for this server by its address alone.
    pub(crate) fn run(&self, arguments: &[&str]) -> super::Run {
        self.program.run(&[&["--url", self.url()], arguments].concat())
    }

    pub(crate) fn token(&self) -> &'static str {
        TOKEN
    }

    /// Kills it.
    pub(crate) fn kill9(&mut self) {
        self.process.kill9();
    }

    /// Starts it on the same port so that it dies at a named point.
    pub(crate) fn start_dying_at(&mut self, point: &str) {
        let address = self.url().trim_start_matches("http://").to_owned();
        let mut command = self.program.command(&["server", "--listen", &address]);
        self.process = Daemon::start(command.env("CONVEYOR_CRASH_AT", point));
    }

    /// The server's token list, which is empty.
    pub(crate) fn token_list(&self) -> String {
        self.base.path().join("tokens.toml").into_os_string().into_string().unwrap()
    }

    /// All that the server has said.
    pub(crate) fn log(&self) -> String {
        self.process.stderr()
    }

    /// A command that goes on, configured for this server.
    pub(crate) fn daemon(&self, arguments: &[&str]) -> Daemon {
        Daemon::start(&mut self.program.command(&[&["--url", self.url()], arguments].concat()))
    }

    /// Its directory.
    pub(crate) fn state(&self) -> PathBuf {
        self.base.path().join("server")
    }

    /// The command line tool, with the server's configuration.
    pub(crate) fn program(&self) -> &Program {
        &self.program
    }

    /// Adds lines to the configuration, for its next start.
    pub(crate) fn configure(&self, more: &str) {
        private(&self.base.path().join("config.toml"), &(config_text(self.base.path(), "") + ONE_BY_ONE + more));
    }

    /// Adds a key to the table `[server]`, for its next start.
    pub(crate) fn configure_server(&self, key: &str) {
        let text = config_text(self.base.path(), "").replace("[server]\n", &format!("[server]\n{key}\n"));
        private(&self.base.path().join("config.toml"), &text);
    }

    pub(crate) fn process(&mut self) -> &mut Daemon {
        &mut self.process
    }

    /// Kills it and starts it on the same port.
    pub(crate) fn crash_and_restart(&mut self) {
        self.process.kill9();
        self.start_again(None);
    }

    /// Starts it on the same port once it has ended; it dies at the crash point, where one is named.
    pub(crate) fn start_again(&mut self, crash_at: Option<&str>) {
        let address = self.url().trim_start_matches("http://").to_owned();
        self.process = launch(&self.program, &address, crash_at).0;
    }

    /// A second server on the same state that listens on a port of its own, and its address.
    pub(crate) fn standby(&self) -> (Daemon, String) {
        launch(&self.program, "127.0.0.1:0", None)
    }

    /// From now on clients and workers reach the server by another address.
    pub(crate) fn reached_by(&mut self, url: &str) {
        self.api = Api::new(url, TOKEN);
    }

    /// The command that starts it on the same port.
    pub(crate) fn command(&self) -> Command {
        let address = self.url().trim_start_matches("http://").to_owned();
        self.program.command(&["server", "--listen", &address])
    }

    /// Takes another process for this server.
    pub(crate) fn replace(&mut self, process: Daemon) {
        self.process = process;
    }

    /// A worker with one slot that is ready, under a node's name and with that node's state directory.
    pub(crate) fn worker(&self, node: &str) -> Worker {
        let mut worker = self.try_worker(node, node);
        worker.process.said("the worker started", |_, log| log.contains("worker started").then_some(()));
        worker
    }

    /// A worker that another program starts, as somebody else, to whom its files must belong.
    pub(crate) fn worker_under(&self, prefix: &[&str], node: &str) -> Worker {
        let mut worker = Worker { process: Daemon::start(&mut self.command_under(prefix, node, &[])) };
        worker.process.said("the worker started", |_, log| log.contains("worker started").then_some(()));
        worker
    }

    /// The command of such a worker, with further arguments.
    pub(crate) fn command_under(&self, prefix: &[&str], node: &str, more: &[&str]) -> Command {
        // The way to the build may be closed to others.
        let program = self.base.path().join("conveyor");
        if !program.exists() {
            copy_apart(Path::new(env!("CARGO_BIN_EXE_conveyor")), &program);
        }
        let own = self.worker_command(node, node, &[]);
        let mut command = Command::new(prefix[0]);
        command.args(&prefix[1..]).arg(program).args(own.get_args()).args(more);
        for (name, value) in own.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        // The one for all belongs to us.
        command.env("TMPDIR", self.base.path().join(format!("worker-{node}")));
        command
    }

    /// A worker, also where it cannot start.
    pub(crate) fn try_worker(&self, node: &str, state: &str) -> Worker {
        self.worker_with(node, state, &[])
    }

    /// A worker with further arguments.
    pub(crate) fn worker_with(&self, node: &str, state: &str, more: &[&str]) -> Worker {
        Worker { process: Daemon::start(&mut self.worker_command(node, state, more)) }
    }

    /// A worker with more slots than one.
    pub(crate) fn worker_of_slots(&self, node: &str, slots: u32) -> Worker {
        let mut command = self.worker_command(node, node, &[]);
        command.args(["--slots", &slots.to_string()]);
        Worker { process: Daemon::start(&mut command) }
    }

    /// A worker for one batch.
    pub(crate) fn worker_once(&self, node: &str, more: &[&str]) -> Worker {
        let mut command = self.worker_command(node, node, &[]);
        Worker { process: Daemon::start(command.arg("--once").args(more)) }
    }

    /// A worker that dies at a named point.
    pub(crate) fn worker_dying_at(&self, node: &str, point: &str) -> Worker {
        Worker { process: Daemon::start(self.worker_command(node, node, &[]).env("CONVEYOR_CRASH_AT", point)) }
    }

    /// The command of a worker.
    pub(crate) fn worker_command(&self, node: &str, state: &str, more: &[&str]) -> Command {
        let path = |name: &str| self.base.path().join(name).into_os_string().into_string().unwrap();
        let (state, temporary) = (path(&format!("worker-{state}")), path(&format!("tmp-{state}")));
        let arguments =
            ["--url", self.url(), "worker", "--node", node, "--state-dir", &state, "--temp-dir", &temporary];
        self.program.command(&[more, &arguments].concat())
    }

    /// The names of what is published in a directory of the first repository.
    pub(crate) fn files(&self, directory: &str) -> BTreeSet<String> {
        let at = self.base.path().join("repositories").join(REPOSITORY);
        let reader = Stratum0::at(at, REPOSITORY, self.base.path().join("keys")).reader(Expiry::Ignore).unwrap();
        let entries = reader.tree().unwrap().list(directory.as_bytes()).unwrap();
        entries.into_iter().map(|entry| String::from_utf8(entry.name).unwrap()).collect()
    }

    /// How many revisions were published by jobs.
    pub(crate) fn publishes(&self) -> usize {
        let shown = self.program.good(&["repository", "show", REPOSITORY]).last();
        let tags = shown["tags"].as_array().unwrap().clone();
        tags.iter().filter(|tag| tag["name"].as_str().unwrap().starts_with("cj-")).count()
    }
}

fn launch(program: &Program, listen: &str, crash_at: Option<&str>) -> (Daemon, String) {
    let mut command = program.command(&["--debug", "server", "--listen", listen]);
    command.envs(crash_at.map(|point| ("CONVEYOR_CRASH_AT", point)));
    let mut process = Daemon::start(&mut command);
    let url = process.said("the server listens", |_, log| {
        let at = log.find("listening on http://")? + "listening on ".len();
        let url = log[at..].lines().next()?;
        Some(url.chars().take_while(|c| !c.is_whitespace() && *c != '\u{1b}').collect::<String>())
    });
    (process, url)
}

fn config_text(base: &Path, worker: &str) -> String {
    let path = |name: &str| -> PathBuf { base.join(name) };
    format!(
        "[client]\ntoken_file = {token:?}\n\n[server]\nstate_dir = {server:?}\ntoken_file = {token:?}\ntokens = [{tokens:?}]\nclaim_expiry_s = 5\n\n\
         [worker]\nrepositories_dir = {repositories:?}\nkeys_dir = {keys:?}\ntoken_file = {token:?}\nslots = 1\n{worker}\n\n[repositories.\"{REPOSITORY}\"]\n[repositories.\"{OTHER}\"]\n",
        token = path("token"),
        tokens = path("tokens.toml"),
        server = path("server"),
        repositories = path("repositories"),
        keys = path("keys"),
    )
}

/// The port in an address.
pub(crate) fn port_of(url: &str) -> u16 {
    url.rsplit(':').next().unwrap().parse().unwrap()
}

/// Writes a file that only this account can read.
pub(crate) fn private(path: &Path, text: &str) {
    use std::io::Write;
    let mut file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}
