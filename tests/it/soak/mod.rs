//! Servers of notifications, their connections, their broker and their clients fail again and again: every subscriber that stays ends
//! with the newest revision, and none ever sees it go back.
//!
//! The suite does it some dozens of times. `CONVEYOR_NOTIFY_FAULTS=1000` is the long run; `CONVEYOR_NOTIFY_SEED=N` plans the same again, and
//! at which moments it meets the processes is up to the machine.

mod plan;
mod subscribers;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use base64::Engine as _;
use nix::sys::signal::Signal;

use crate::announce::{Foreign, Notifier};
use crate::broker::table;
use crate::harness::{REPOSITORY, Rabbit, Relay, no_rabbit, until};
use plan::{Fault, plan};
use subscribers::{Kind, Subscriber};

/// Of each kind and at each server.
const SUBSCRIBERS: usize = 2;
/// So often all is left alone until everybody has the newest.
const CALM_EVERY: usize = 20;
/// Within this time everybody has the newest once nothing fails any more, also on a machine that is busy: no pause of any of them is
/// longer than 30 s.
const BOUND: Duration = Duration::from_secs(120);

fn number<T: std::str::FromStr>(name: &str) -> Option<T> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

#[test]
fn subscribers_of_one_server_end_with_the_newest_revision_and_see_none_go_back() {
    Soak::new(1, None).run(30);
}

#[test]
fn subscribers_of_two_servers_end_with_the_newest_revision_and_see_none_go_back() {
    if !no_rabbit() {
        Soak::new(2, Some(Rabbit::start(None))).run(20);
    }
}

struct Soak {
    seed: u64,
    foreign: Foreign,
    rabbit: Option<(Rabbit, Relay)>,
    servers: Vec<(Notifier, Relay)>,
    subscribers: Vec<Subscriber>,
    newest: u64,
}

impl Soak {
    fn new(count: usize, rabbit: Option<Rabbit>) -> Self {
        let seed = number("CONVEYOR_NOTIFY_SEED").unwrap_or_else(rand::random);
        let foreign = Foreign::new();
        let rabbit = rabbit.map(|rabbit| {
            let (relay, vhost) = (Relay::to(rabbit.port()), rabbit.vhost());
            (rabbit, relay, vhost)
        });
        let start = || {
            let server = Notifier::start(&foreign, |base| match &rabbit {
                Some((_, relay, vhost)) => table(base, relay.port(), vhost),
                None => String::new(),
            });
            let relay = Relay::to(server.port());
            (server, relay)
        };
        let servers: Vec<_> = (0..count).map(|_| start()).collect();
        let mut subscribers = Vec::new();
        for (at, (server, relay)) in servers.iter().enumerate() {
            for kind in Kind::ALL {
                for number in 0..if kind == Kind::Program { 1 } else { SUBSCRIBERS } {
                    let (name, seed) = (format!("{kind:?} {number} of server {at}"), seed ^ subscribers.len() as u64);
                    subscribers.push(Subscriber::start(kind, name, relay.port(), || server.program(), seed));
                }
            }
        }
        let rabbit = rabbit.map(|(rabbit, relay, _)| (rabbit, relay));
        Self { seed, foreign, rabbit, servers, subscribers, newest: 0 }
    }

    fn run(mut self, short: usize) {
        let (began, count) = (Instant::now(), number("CONVEYOR_NOTIFY_FAULTS").unwrap_or(short));
        println!("CONVEYOR_NOTIFY_SEED={} CONVEYOR_NOTIFY_FAULTS={count}", self.seed);
        let (mut counts, mut longest) = (BTreeMap::<String, usize>::new(), Duration::ZERO);
        for (number, fault) in plan(self.seed, count, self.servers.len()).into_iter().enumerate() {
            let name = format!("{fault:?}");
            *counts.entry(name.split([' ', '(']).next().unwrap_or_default().to_owned()).or_default() += 1;
            self.publish(number % self.servers.len());
            self.suffer(fault);
            if number % CALM_EVERY == CALM_EVERY - 1 {
                longest = longest.max(self.calm());
            }
        }
        longest = longest.max(self.calm());
        let (connections, messages) =
            self.subscribers.iter().map(Subscriber::counts).fold((0, 0), |(a, b), (c, d)| (a + c, b + d));
        println!(
            "{count} faults in {:.0} s: {counts:?}; {} revisions, {} subscribers, {connections} connections without the programs', \
             {messages} messages; everybody had the newest {:.1} s after a fault at the latest",
            began.elapsed().as_secs_f64(),
            self.newest,
            self.subscribers.len(),
            longest.as_secs_f64(),
        );
    }

    /// Makes a revision and tells a server of it, and then somebody who is late tells another one of the revision before.
    fn publish(&mut self, server: usize) {
        let late = self.request();
        self.newest = self.foreign.publish();
        self.tell(server);
        if let Some(status) = self.post((server + 1) % self.servers.len(), &late) {
            assert!(
                matches!(status, 200 | 429),
                "what is older is accepted and told to nobody, unless there is too much: {status}"
            );
        }
    }

    /// Tells a server of the newest revision until it says that it knows.
    fn tell(&self, server: usize) {
        let request = self.request();
        until("a server takes a message", || self.post(server, &request).filter(|status| *status == 200));
    }

    /// The newest manifest in a message, as a request.
    fn request(&self) -> Vec<u8> {
        let manifest = base64::engine::general_purpose::STANDARD.encode(self.foreign.manifest());
        let body = serde_json::json!({
            "version": 1, "timestamp": "now", "type": "activity", "repository": REPOSITORY, "manifest": manifest,
        })
        .to_string();
        let length = body.len();
        format!("POST /api/v1/publish HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}")
            .into_bytes()
    }

    /// The status of the answer, where there is one.
    fn post(&self, server: usize, request: &[u8]) -> Option<u16> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.servers[server].0.port())).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        stream.write_all(request).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        answer.split(' ').nth(1)?.parse().ok()
    }

    fn suffer(&mut self, fault: Fault) {
        match fault {
            Fault::Kill(server) => {
                self.servers[server].0.kill9();
                self.servers[server].0.start_again(None);
            }
            Fault::Stop(server) => {
                self.servers[server].0.stop();
                self.servers[server].0.start_again(None);
            }
            Fault::Freeze(server, ms) => {
                self.servers[server].0.send(Signal::SIGSTOP);
                std::thread::sleep(Duration::from_millis(ms));
                self.servers[server].0.send(Signal::SIGCONT);
            }
            Fault::Cut(server) => self.servers[server].1.cut(),
            Fault::CutBroker => {
                if let Some((_, relay)) = &self.rabbit {
                    relay.cut();
                }
            }
            Fault::Broker { killed } => {
                let Some((rabbit, _)) = &self.rabbit else { return };
                if killed {
                    rabbit.kill9()
                } else {
                    rabbit.stop()
                }
                rabbit.up();
            }
            Fault::Subscribers => {
                self.subscribers.iter().for_each(|subscriber| subscriber.freeze(true));
                self.publish(0);
                self.subscribers.iter().for_each(|subscriber| subscriber.freeze(false));
            }
            Fault::Publisher(server) => {
                self.newest = self.foreign.publish();
                if let Ok(mut stream) = TcpStream::connect(("127.0.0.1", self.servers[server].0.port())) {
                    let _ = stream.write_all(&self.request());
                }
                // It tries again: accepted is accepted.
                self.tell(server);
            }
        }
    }

    /// Waits until everybody has the newest revision, and says for how long.
    fn calm(&self) -> Duration {
        let began = Instant::now();
        loop {
            let late: Vec<_> = self
                .subscribers
                .iter()
                .filter(|one| one.last() != self.newest)
                .map(|one| (&one.name, one.last()))
                .collect();
            if late.is_empty() {
                return began.elapsed();
            }
            assert!(
                began.elapsed() < BOUND,
                "after {BOUND:?} not everybody has revision {}, but {late:?}; CONVEYOR_NOTIFY_SEED={}",
                self.newest,
                self.seed
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}
