//! The real `cvmfs2`, mounted, and `cvmfs_swissknife notify` against our notifications, where they are installed. A client that is refused
//! connections gives up within milliseconds, so the socket is held across restarts as systemd does it.

mod tools;

use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsFd;

use crate::harness::{Daemon, Server, Worker, activated, private};
use tools::{Tools, impossible};

/// A repository whose clients look for a new revision by themselves after a day.
const LASTING: &str = "lasting.example.org";

/// A server, its worker, and the listener for notifications, which is there before and after it.
struct Held {
    server: Server,
    _worker: Worker,
    listener: TcpListener,
}

impl Held {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut server = Server::start_with("", |base| {
            let pattern = base.join("repositories/@fqrn@");
            format!("[repositories.\"{LASTING}\"]\n[notify]\nopen_publish = true\nrepository_url = {pattern:?}\n")
        });
        let config = server.base().join("config.toml");
        let keys = format!("[server]\nkeys_dir = {:?}\n", server.base().join("keys"));
        private(&config, &std::fs::read_to_string(&config).unwrap().replace("[server]\n", &keys));
        server.program().good(&["repository", "create", "--ttl", "86400", LASTING]);
        assert!(server.process().terminate().success());
        let _worker = server.worker("node");
        let mut held = Self { server, _worker, listener };
        held.serve();
        held
    }

    fn address(&self) -> SocketAddr {
        self.listener.local_addr().unwrap()
    }

    fn serve(&mut self) {
        let given = [("notify", self.listener.as_fd())];
        let mut process = Daemon::start(&mut activated(&self.server.command(), &given));
        process.said("the server listens", |_, log| log.contains("listening on").then_some(()));
        self.server.replace(process);
    }
}

mod real_cvmfs {
    use super::*;
    use crate::announce::{Foreign, Notifier};
    use crate::broker::table;
    use crate::harness::{REPOSITORY, Rabbit, Served, job, missing, no_rabbit, packed};

    #[test]
    fn a_mounted_client_and_the_tool_are_told_at_once_also_after_the_server_was_killed() {
        if missing("cvmfs", impossible()) {
            return;
        }
        let mut held = Held::start();
        let served = Served::new(&held.server.base().join("repositories"));
        let tools = Tools::new(LASTING, &served, &held.server.base().join("keys"), &held.address().to_string());
        let (client, mut told) = (tools.mount(), tools.subscribe());
        let publish = |held: &Held, path: &str| {
            held.server.publish(job(LASTING, path, held.server.tarball(packed(&[("x", "x")]))))
        };

        let first = publish(&held, "/a");
        client.shows(first);
        told.is_told(first);

        // In order, and as a power cut would.
        assert!(held.server.process().terminate().success());
        held.serve();
        let second = publish(&held, "/b");
        client.shows(second);
        told.is_told(second);
        held.server.kill9();

        // Told while nobody answers: it waits until somebody does.
        held.server.program().good(&["repository", "rollback", LASTING]);
        let third = second + 1;
        let mut telling = tools.publish();
        held.serve();
        assert!(telling.wait().success(), "{}", telling.stderr());
        client.shows(third);
        told.is_told(third);

        // Who comes later is told at once, and of nothing that it knows.
        let mut late = tools.subscribe_from(second);
        late.is_told(third);
        assert!(late.ended().success());
    }

    #[test]
    fn what_is_told_to_one_server_is_shown_by_a_client_of_another_also_after_rabbitmq_was_away() {
        if missing("cvmfs", impossible()) || no_rabbit() {
            return;
        }
        let (rabbit, foreign) = (Rabbit::start(None), Foreign::new());
        let vhost = rabbit.vhost();
        let start = || Notifier::start(&foreign, |base| table(base, rabbit.port(), &vhost));
        let (one, mut two) = (start(), start());
        let served = Served::new(&foreign.root());
        let of = |server: &Notifier| {
            let address = server.url();
            Tools::new(REPOSITORY, &served, &foreign.keys(), address.trim_start_matches("http://"))
        };
        let (teller, listener) = (of(&one), of(&two));
        let (client, mut told) = (listener.mount(), listener.subscribe());
        let tell = || {
            let revision = foreign.publish();
            assert!(teller.publish().wait().success());
            revision
        };

        let first = tell();
        client.shows(first);
        told.is_told(first);

        rabbit.kill9();
        let second = tell();
        rabbit.up();
        client.shows(second);
        told.is_told(second);

        rabbit.stop();
        let third = tell();
        rabbit.up();
        client.shows(third);
        told.is_told(third);
        two.stop();
    }
}
