//! Sockets that outlive the processes that serve them, handed over as systemd does.

use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sys::socket::{Backlog, listen};

/// A listener of each kind: IPv4, IPv6 and Unix.
pub(crate) struct Sockets {
    four: TcpListener,
    six: TcpListener,
    unix: UnixListener,
    path: PathBuf,
}

impl Sockets {
    /// The Unix socket is made in `directory`. Fails where the loopback device has no IPv6.
    pub(crate) fn open(directory: &Path) -> std::io::Result<Self> {
        let path = directory.join("server.sock");
        let six = TcpListener::bind("[::1]:0")?;
        let sockets = Self { four: TcpListener::bind("127.0.0.1:0")?, six, unix: UnixListener::bind(&path)?, path };
        for socket in [sockets.four.as_fd(), sockets.six.as_fd(), sockets.unix.as_fd()] {
            // As conveyor-server.socket has it.
            listen(&socket, Backlog::new(4096)?)?;
        }
        Ok(sockets)
    }

    pub(crate) fn four(&self) -> SocketAddr {
        self.four.local_addr().unwrap()
    }

    pub(crate) fn six(&self) -> SocketAddr {
        self.six.local_addr().unwrap()
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// All of them, under one name.
    pub(crate) fn named<'a>(&'a self, name: &'a str) -> [(&'a str, BorrowedFd<'a>); 3] {
        [self.four.as_fd(), self.six.as_fd(), self.unix.as_fd()].map(|socket| (name, socket))
    }
}

/// The same command, started with these descriptors from 3 on, under these names.
pub(crate) fn activated(command: &Command, given: &[(&str, BorrowedFd<'_>)]) -> Command {
    let mut activated = Command::new("sh");
    // The number of the process is that of the shell, which becomes the command.
    activated.args(["-c", "LISTEN_PID=$$ exec \"$0\" \"$@\""]).arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => activated.env(name, value),
            None => activated.env_remove(name),
        };
    }
    let names: Vec<_> = given.iter().map(|(name, _)| *name).collect();
    activated.env("LISTEN_FDS", given.len().to_string()).env("LISTEN_FDNAMES", names.join(":"));
    let mut from: Vec<RawFd> = given.iter().map(|(_, socket)| socket.as_raw_fd()).collect();
    let place = move || {
        // Out of the way first: one may have a number that another is to get.
        for socket in &mut from {
            *socket = copy(*socket, 200)?;
        }
        for (number, socket) in (3..).zip(&from) {
            place(*socket, number)?;
        }
        Ok(())
    };
    #[allow(unsafe_code)]
    // SAFETY: only system calls are made between fork and exec.
    unsafe {
        activated.pre_exec(place);
    }
    activated
}

#[allow(unsafe_code)]
fn copy(descriptor: RawFd, least: RawFd) -> std::io::Result<RawFd> {
    // SAFETY: numbers in, a number out.
    nix::errno::Errno::result(unsafe { nix::libc::fcntl(descriptor, nix::libc::F_DUPFD_CLOEXEC, least) })
        .map_err(Into::into)
}

#[allow(unsafe_code)]
fn place(descriptor: RawFd, number: RawFd) -> std::io::Result<()> {
    // SAFETY: what `number` was before belongs to the process that has just been forked, which is about to become another.
    nix::errno::Errno::result(unsafe { nix::libc::dup2(descriptor, number) }).map(drop).map_err(Into::into)
}
