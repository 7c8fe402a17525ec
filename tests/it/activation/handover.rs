//! Which descriptors are taken, and what becomes of them.

use std::net::{TcpStream, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};

use super::Held;
use crate::harness::{Daemon, Http, Port, REPOSITORY};

#[test]
fn all_sockets_named_http_are_served_and_no_other() {
    let Some(mut held) = Held::open() else { return };
    held.serve();
    let (four, six, path) = (held.sockets.four(), held.sockets.six(), held.sockets.path().display().to_string());
    for url in [format!("http://{four}"), format!("http://{six}"), format!("unix:{path}"), format!("unix://{path}")] {
        let run = held.server.program().run(&["--url", &url, "submit", "-r", REPOSITORY, "-p", ""]);
        assert_eq!(run.code, 0, "{url}: {run:?}");
    }
    let places = [format!("http://{four}"), format!("http://{six}"), format!("unix:{path}")];
    let log = held.server.process().said("it listens on all of them", |_, log| {
        places.iter().all(|place| log.contains(&format!("listening on {place}"))).then(|| log.to_owned())
    });
    assert!(log.contains("handed over") && !log.contains("127.0.0.1:8080"), "the settings are not looked at: {log}");
    let token = held.server.token();
    assert_eq!(Http::new(&format!("http://{four}"), token).get("/healthz").status, 200);
    // No child would have them.
    let pid = held.server.process().id();
    for number in 3..6 {
        let info = std::fs::read_to_string(format!("/proc/{pid}/fdinfo/{number}")).unwrap();
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).unwrap().trim();
        let close_on_exec = u32::from_str_radix(flags, 8).unwrap() & 0o2_000_000;
        assert_ne!(close_on_exec, 0, "{number}: {info}");
    }
    // The sockets are not the server's to remove.
    assert!(held.server.process().terminate().success());
    assert!(held.sockets.path().exists());
}

#[test]
fn a_command_with_children_gives_nothing_on_of_what_it_was_started_with() {
    let Some(mut held) = Held::open() else { return };
    held.serve();
    let url = held.server.url().to_owned();
    let what = "env; for fd in /proc/self/fd/*; do readlink $fd; done; true";
    let arguments = ["--url", &url, "repository", "hold", REPOSITORY, "--", "sh", "-c", what];
    let mut hold = held.program(&arguments, &held.sockets.named("http"));
    assert!(hold.wait().success());
    hold.until_quiet();
    let said = hold.stdout() + &hold.stderr();
    assert!(said.contains("PATH="), "{said}");
    assert!(!said.contains("LISTEN_"), "{said}");
    let inode = |socket: BorrowedFd<'_>| format!("socket:[{}]", nix::sys::stat::fstat(socket).unwrap().st_ino);
    for (_, socket) in held.sockets.named("http") {
        assert!(!said.contains(&inode(socket)), "{said}");
    }
}

#[test]
fn what_is_no_socket_for_requests_is_refused_by_name() {
    let Some(held) = Held::open() else { return };
    let [(_, four), _, (_, unix)] = held.sockets.named("");
    let connected = TcpStream::connect(held.sockets.four()).unwrap();
    let (datagrams, file) = (UdpSocket::bind("127.0.0.1:0").unwrap(), tempfile::tempfile().unwrap());
    let (pair, _other) = std::os::unix::net::UnixStream::pair().unwrap();
    let name = "FileDescriptorName=http";
    let kind = "ListenStream=";
    for (given, says) in [
        (vec![("http", four), ("metrics", unix)], ["descriptor 4 (name \"metrics\")", name]),
        (vec![("conveyor-server.socket", four)], ["descriptor 3 (name \"conveyor-server.socket\")", name]),
        (vec![("", four)], ["descriptor 3 (name \"\")", name]),
        (vec![("connection", connected.as_fd())], ["descriptor 3 (name \"connection\")", "Accept=no"]),
        (vec![("http", unix), ("http", connected.as_fd())], ["descriptor 4 (name \"http\")", kind]),
        (vec![("http", datagrams.as_fd())], ["descriptor 3 (name \"http\")", kind]),
        (vec![("http", pair.as_fd())], ["descriptor 3 (name \"http\")", kind]),
        (vec![("http", file.as_fd())], ["descriptor 3 (name \"http\")", kind]),
    ] {
        let mut server = held.program(&["server"], &given);
        assert_eq!(server.wait().code(), Some(78), "{says:?}");
        server.until_quiet();
        let said = server.stderr();
        assert!(says.iter().all(|says| said.contains(says)), "{says:?}: {said}");
    }
}

#[test]
fn what_was_meant_for_another_process_is_not_taken() {
    let Some(held) = Held::open() else { return };
    let free = Port::reserve();
    let mut command = held.server.program().command(&["server", "--listen", &free.address()]);
    command.envs([("LISTEN_PID", "1"), ("LISTEN_FDS", "1"), ("LISTEN_FDNAMES", "other")]);
    let mut server = Daemon::start(&mut command);
    let wanted = format!("listening on http://{}", free.address());
    server.said("it listens where its settings say", |_, log| log.contains(&wanted).then_some(()));
    assert!(TcpStream::connect(free.address()).is_ok());
    assert!(server.terminate().success());
}
