//! The server on sockets that it is started with, and on Unix sockets of its own.

mod handover;
mod load;
mod notify;
mod restarts;
mod unix;

use std::os::fd::BorrowedFd;

use crate::harness::{Daemon, Server, Sockets, activated, missing};

/// A server's configuration and state, whose processes are started on the same sockets one after the other.
struct Held {
    server: Server,
    sockets: Sockets,
}

impl Held {
    /// Without a server; nothing where the machine has no IPv6.
    fn open() -> Option<Self> {
        let mut server = Server::start_batching();
        assert!(server.process().terminate().success());
        let sockets = Sockets::open(server.base());
        if missing("ipv6", sockets.as_ref().err().map(|error| format!("no sockets can be opened: {error}"))) {
            return None;
        }
        let sockets = sockets.unwrap();
        server.reached_by(&format!("http://{}", sockets.four()));
        Some(Self { server, sockets })
    }

    /// Starts the program with these descriptors.
    fn program(&self, arguments: &[&str], given: &[(&str, BorrowedFd<'_>)]) -> Daemon {
        Daemon::start(&mut activated(&self.server.program().command(arguments), given))
    }

    /// Starts a server on all of the sockets. Who connects waits until it answers.
    fn serve(&mut self) {
        let process = self.program(&["server"], &self.sockets.named("http"));
        self.server.replace(process);
    }
}
