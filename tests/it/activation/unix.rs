//! Unix sockets: the server's own, and clients that come by them.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::harness::{Daemon, Gate, REPOSITORY, Server, copy_apart, job, packed, private, until};

/// A server that listens on a Unix socket alone, at a path with a space.
struct Local {
    server: Server,
    path: PathBuf,
    url: String,
}

impl Local {
    fn prepare() -> Self {
        let mut server = Server::start();
        assert!(server.process().terminate().success());
        let path = server.base().join("the server.sock");
        let url = format!("unix:{}", path.display());
        let config = server.base().join("config.toml");
        let text = std::fs::read_to_string(&config).unwrap();
        private(&config, &text.replace("[server]\n", &format!("[server]\nlisten = [{url:?}]\n")));
        Self { server, path, url }
    }

    fn start(&mut self) {
        let process = Daemon::start(&mut self.server.program().command(&["server"]));
        self.server.replace(process);
        self.server.reached_by(&self.url);
        let said = format!("listening on {}", self.url);
        self.server.process().said("it listens", |_, log| log.contains(&said).then_some(()));
    }
}

#[test]
fn everything_goes_by_a_unix_socket() {
    let mut local = Local::prepare();
    local.start();
    let said = local.server.program().good(&["check-config", "--role", "server", "--output", "table"]).stdout;
    assert!(said.contains(&format!("listens on {}", local.url)), "{said}");
    assert_eq!(local.path.metadata().unwrap().permissions().mode() & 0o777, 0o660);
    let mut worker = local.server.worker("one");
    let archive = local.server.base().join("upload.tar");
    std::fs::write(&archive, packed(&[("file", "content")])).unwrap();
    let run =
        local.server.run(&["submit", "-r", REPOSITORY, "-l", "/x", "--tarball", archive.to_str().unwrap(), "--wait"]);
    assert_eq!(run.code, 0, "{run:?}");
    assert_eq!(local.server.files("x"), ["file".to_owned()].into());
    // Who waits, and who works, goes on with the next server, which listens under the same name.
    let gate = Gate::new();
    let id = local.server.submit(job(REPOSITORY, "/y", local.server.script(&gate.script()))).to_string();
    let mut waiting = local.server.daemon(&["check", "--wait", "--ids", &id]);
    gate.until_runs(1);
    assert!(local.server.process().terminate().success());
    assert!(!local.path.exists(), "the name went with the server");
    local.start();
    gate.open();
    assert!(waiting.wait().success(), "{}", waiting.stderr());
    assert!(worker.terminate().success());
}

#[test]
fn what_a_dead_server_left_is_replaced_and_what_lives_is_not() {
    let mut local = Local::prepare();
    drop(UnixListener::bind(&local.path).unwrap());
    assert!(UnixStream::connect(&local.path).is_err());
    local.start();
    assert!(UnixStream::connect(&local.path).is_ok());
    let program = local.server.program().clone();
    let refused = |says: &str, code: i32| {
        let run = program.run(&["server"]);
        assert!(run.code == code && run.stderr.contains(says), "{run:?}");
    };
    refused("another process listens there", 1);
    assert!(UnixStream::connect(&local.path).is_ok(), "the first one is still there");
    local.server.process().kill9();
    assert!(local.path.exists());
    local.start();
    assert!(local.server.process().terminate().success());
    std::fs::write(&local.path, "precious").unwrap();
    refused("is no socket", 78);
    assert_eq!(std::fs::read_to_string(&local.path).unwrap(), "precious");
}

#[test]
fn who_may_not_connect_is_told_which_group_may() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let mut local = Local::prepare();
    local.start();
    let base = local.server.base();
    // The way there must be open to see the socket itself.
    std::fs::set_permissions(base, std::fs::Permissions::from_mode(0o755)).unwrap();
    let program = base.join("conveyor");
    copy_apart(Path::new(env!("CARGO_BIN_EXE_conveyor")), &program);
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(&program);
    command.args(["--url", &local.url, "list"]).env_remove("CONVEYOR_CONFIG");
    let mut client = Daemon::start(&mut command);
    assert_eq!(client.wait().code(), Some(69));
    client.until_quiet();
    let said = client.stderr();
    let socket = format!("{} lets in its owner and the group root", local.path.display());
    assert!(
        said.contains("Permission denied") && said.contains(&socket) && said.contains("usermod -aG root"),
        "{said}"
    );
    until("it is still served", || UnixStream::connect(&local.path).ok());
}
