//! A development server: server, worker and one repository in a process of its own.

use std::ops::Deref;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use conveyor::cvmfs::reader::{Expiry, Reader};
use conveyor::cvmfs::stratum0::Stratum0;
use serde_json::Value;

use super::{Api, Daemon, Port, Program};

/// The repository that every test may publish into.
pub(crate) const REPOSITORY: &str = "test.example.org";

/// `conveyor dev` with its own state, on a port of its own.
pub(crate) struct Dev {
    // Dropped in this order: the process before its directory.
    process: Daemon,
    pub(crate) api: Api,
    state: PathBuf,
    base: Place,
    _port: Port,
}

/// A directory that scripts of another account can pass through.
pub(crate) struct Place(tempfile::TempDir);

impl Place {
    pub(crate) fn new() -> Self {
        let mode = std::fs::Permissions::from_mode(0o711);
        Self(tempfile::Builder::new().prefix("conveyor-it-").permissions(mode).tempdir().unwrap())
    }

    /// In a directory of the machine, which is removed all the same.
    pub(crate) fn below(directory: &Path) -> Self {
        let mode = std::fs::Permissions::from_mode(0o711);
        Self(tempfile::Builder::new().prefix("conveyor-it-").permissions(mode).tempdir_in(directory).unwrap())
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Deref for Dev {
    type Target = Api;
    fn deref(&self) -> &Api {
        &self.api
    }
}

impl Dev {
    pub(crate) fn start() -> Self {
        let base = Place::new();
        let state = base.path().join("state");
        Self::start_in(base, state, &[])
    }

    /// One that dies at a named point; started again, it lives.
    #[cfg(feature = "crash-points")]
    pub(crate) fn start_dying_at(point: &str) -> Self {
        let base = Place::new();
        let state = base.path().join("state");
        let port = Port::reserve();
        let mut command = command(&base, &state, &port.address(), &[]);
        let mut process = Daemon::start(command.env("CONVEYOR_CRASH_AT", point));
        let api = api(&ready(&mut process), &state);
        Self { process, api, state, base, _port: port }
    }

    /// Waits until it has died.
    #[cfg(feature = "crash-points")]
    pub(crate) fn died(&mut self) {
        self.process.wait();
    }

    /// With a state directory of the test's choice, and further arguments.
    pub(crate) fn start_in(base: Place, state: PathBuf, arguments: &[&str]) -> Self {
        let port = Port::reserve();
        let (process, api) = launch(&base, &state, &port.address(), arguments);
        Self { process, api, state, base, _port: port }
    }

    /// With its state on a file system of so many megabytes, which nobody else sees; `None` where that cannot be had.
    pub(crate) fn start_on_small_disk(megabytes: u32) -> Option<Self> {
        Self::start_mounted(Place::new(), &format!("mount -t tmpfs -o size={megabytes}m,mode=0700 test \"$0\""))
    }

    /// With its state on an ext4 of its own in `disk`, a file in its directory; `None` where that cannot be had.
    pub(crate) fn start_on_ext4(megabytes: u32) -> Option<Self> {
        let base = Place::new();
        let disk = base.path().join("disk");
        std::fs::File::create(&disk).unwrap().set_len(u64::from(megabytes) << 20).unwrap();
        let made = Command::new("mke2fs").args(["-q", "-t", "ext4"]).arg(&disk).output();
        if !made.is_ok_and(|run| run.status.success()) {
            return None;
        }
        let mount = format!("mount -o loop,errors=remount-ro {} \"$0\"", disk.display());
        Self::start_mounted(base, &mount)
    }

    /// Runs a command in the name space that its state is mounted in; `$0` is that directory.
    pub(crate) fn within(&self, script: &str) -> std::process::Output {
        let target = self.process.id().to_string();
        let state = self.base.path().join("state");
        let mut command = Command::new("nsenter");
        command.args(["--mount", "--target", &target, "sh", "-c", script]).arg(state).output().unwrap()
    }

    /// With a file system mounted at its state by a shell's command, in a name space of its own.
    fn start_mounted(base: Place, mount: &str) -> Option<Self> {
        let state = base.path().join("state");
        std::fs::create_dir(&state).unwrap();
        let mount = format!("{mount} && exec \"$@\"");
        let within = |then: &Command| {
            let mut command = Command::new("unshare");
            command.args(["--mount", "--propagation", "private", "sh", "-c", &mount]).arg(&state);
            command.arg(then.get_program()).args(then.get_args());
            for (name, value) in then.get_envs() {
                match value {
                    Some(value) => command.env(name, value),
                    None => command.env_remove(name),
                };
            }
            command
        };
        if !within(&Command::new("true")).output().is_ok_and(|run| run.status.success()) {
            return None;
        }
        let port = Port::reserve();
        let mut process = Daemon::start(&mut within(&command(&base, &state, &port.address(), &[])));
        let url = ready(&mut process);
        // The process is what the namespace was made for, so its root is the way in.
        let state = PathBuf::from(format!("/proc/{}/root{}", process.id(), state.display()));
        let api = api(&url, &state);
        Some(Self { process, api, state, base, _port: port })
    }

    /// All that it has said besides its data.
    pub(crate) fn said(&self) -> String {
        self.process.stderr()
    }

    /// A directory of the test's own, removed with the server.
    pub(crate) fn base(&self) -> &Path {
        self.base.path()
    }

    pub(crate) fn state(&self) -> &Path {
        &self.state
    }

    /// The command line tool, configured for this server.
    pub(crate) fn program(&self) -> Program {
        Program::new(&self.state.join("client.toml"), self.base.path())
    }

    pub(crate) fn address(&self) -> String {
        self.url().trim_start_matches("http://").to_owned()
    }

    /// Ends it as a service manager would and starts it on the same port.
    pub(crate) fn restart(&mut self) {
        let status = self.process.terminate();
        assert!(status.success(), "{status:?}\n{}", self.process.stderr());
        self.start_again();
    }

    pub(crate) fn kill9(&mut self) {
        self.process.kill9();
    }

    /// Starts it on the same port, after its end.
    pub(crate) fn start_again(&mut self) {
        let address = self.address();
        (self.process, self.api) = launch(&self.base, &self.state, &address, &[]);
    }

    /// The repository, read by the library and verified from the public key on.
    pub(crate) fn reader(&self) -> Reader {
        let directory = self.state.join("repositories").join(REPOSITORY);
        Stratum0::at(directory, REPOSITORY, self.state.join("keys")).reader(Expiry::Ignore).unwrap()
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

    /// How many revisions were published by jobs.
    pub(crate) fn publishes(&self) -> usize {
        self.reader().tags().unwrap().iter().filter(|tag| tag.name.starts_with("cj-")).count()
    }
}

fn launch(base: &Place, state: &Path, listen: &str, arguments: &[&str]) -> (Daemon, Api) {
    let mut process = Daemon::start(&mut command(base, state, listen, arguments));
    let url = ready(&mut process);
    (process, api(&url, state))
}

fn command(base: &Place, state: &Path, listen: &str, arguments: &[&str]) -> Command {
    let mut command = super::program::bare(base.path());
    command.args(["dev", "--listen", listen, "--repository", REPOSITORY, "--state"]).arg(state).args(arguments);
    command
}

fn ready(process: &mut Daemon) -> String {
    process.said("the development server is ready", |stdout, _| {
        let ready = |line: &str| serde_json::from_str::<Value>(line).ok().filter(|line| line["event"] == "ready");
        stdout.lines().find_map(ready).map(|line| line["url"].as_str().unwrap().to_owned())
    })
}

fn api(url: &str, state: &Path) -> Api {
    let token = std::fs::read_to_string(state.join("token")).unwrap();
    Api::new(url, token.trim())
}
