//! The socket named `notify`: served by a server beside those named `http`, or by the service of notifications alone; a restart
//! refuses nobody.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use nix::sys::socket::{Backlog, listen};

use super::Held;
use crate::announce::Foreign;
use crate::harness::{Daemon, Http, Program, REPOSITORY, activated, private};

/// How often it is restarted.
const RESTARTS: usize = 5;
/// Those who subscribe again and again.
const SUBSCRIBERS: usize = 20;
/// Nothing here takes so long that works.
const PATIENCE: Duration = Duration::from_secs(120);
/// Least time to wait for a read.
const TICK: Duration = Duration::from_millis(1);

#[test]
fn a_server_has_the_socket_named_notify_for_notifications_alone() {
    let Some(mut held) = Held::open() else { return };
    let [(_, four), (_, six), _] = held.sockets.named("");
    let process = held.program(&["server"], &[("http", four), ("notify", six)]);
    held.server.replace(process);
    let token = held.server.token();
    let notify = Http::new(&format!("http://{}", held.sockets.six()), token);
    let main = Http::new(&format!("http://{}", held.sockets.four()), token);
    // Both wait until the server is there.
    for http in [&main, &notify] {
        assert_eq!((http.get("/healthz").status, http.get("/readyz").status), (200, 200));
        let figures = String::from_utf8(http.get("/metrics").body).unwrap();
        assert!(figures.contains("conveyor_notify_subscribers{dialect=\"events\"} 0\n"), "{figures}");
    }
    assert_eq!((main.get("/api/v1/jobs").status, notify.get("/api/v1/jobs").status), (200, 404));
    // The service alone takes no other.
    for (name, says) in [("http", "conveyor notify server takes notify"), ("other", "name \"other\"")] {
        let [(_, four), ..] = held.sockets.named("");
        let mut refused = held.program(&["notify", "server"], &[(name, four)]);
        assert_eq!(refused.wait().code(), Some(78), "{name}");
        refused.until_quiet();
        assert!(refused.stderr().contains(says), "{}", refused.stderr());
    }
}

/// Subscribes as the C++ client does, again and again, until it was told this revision; fails at once where it is refused.
fn until_told(address: SocketAddr, revision: u64, deadline: Instant) -> std::io::Result<()> {
    let body = format!("{{\"version\":1,\"repository\":\"{REPOSITORY}\"}}");
    let length = body.len();
    let head = format!("GET /api/v1/notifications/subscribe HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n");
    let (mut said, mut buffer) = (Vec::new(), [0; 4096]);
    while Instant::now() < deadline {
        said.clear();
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(deadline.saturating_duration_since(Instant::now()).max(TICK)))?;
        // What was connected may be cut at any time.
        let mut cut = stream.write_all(format!("{head}{body}").as_bytes()).is_err();
        while !cut {
            match stream.read(&mut buffer) {
                Ok(read) if read > 0 => said.extend_from_slice(&buffer[..read]),
                _ => cut = true,
            }
            if revisions(&said).contains(&revision) {
                return Ok(());
            }
        }
    }
    Err(std::io::Error::other(format!("not told of revision {revision}")))
}

/// The revisions in the events of a stream.
fn revisions(said: &[u8]) -> Vec<u64> {
    use base64::Engine as _;
    let text = String::from_utf8_lossy(said);
    let manifests = text.split("\"manifest\":").skip(1).filter_map(|rest| rest.split('"').nth(1));
    let decoded = manifests.filter_map(|text| base64::engine::general_purpose::STANDARD.decode(text).ok());
    decoded
        .filter_map(|bytes| {
            String::from_utf8_lossy(&bytes).lines().find_map(|line| line.strip_prefix('S')?.parse().ok())
        })
        .collect()
}

#[test]
fn restarts_of_the_service_alone_refuse_no_subscriber_and_all_hear_the_newest() {
    let foreign = Foreign::new();
    let base = tempfile::tempdir().unwrap();
    private(&base.path().join("config.toml"), &foreign.notify_table());
    let program = Program::new(&base.path().join("config.toml"), base.path());
    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    // As conveyor-notify.socket has it.
    listen(&socket, Backlog::new(4096).unwrap()).unwrap();
    let address = socket.local_addr().unwrap();
    let state = base.path().join("state");
    let start = || {
        let given: [(&str, BorrowedFd<'_>); 1] = [("notify", socket.as_fd())];
        let command = program.command(&["notify", "server", "--state-dir", state.to_str().unwrap()]);
        Daemon::start(&mut activated(&command, &given))
    };
    let url = format!("http://{address}");
    let publish = || {
        let revision = foreign.publish();
        program.good(&["--url", &url, "notify", "publish", foreign.root().join(REPOSITORY).to_str().unwrap()]);
        revision
    };
    let mut service = start();
    let last = publish() + RESTARTS as u64;
    let deadline = Instant::now() + PATIENCE;
    let faults: Vec<_> = std::thread::scope(|scope| {
        let subscribers: Vec<_> =
            (0..SUBSCRIBERS).map(|_| scope.spawn(|| until_told(address, last, deadline))).collect();
        for _ in 0..RESTARTS {
            assert!(service.terminate().success(), "{}", service.stderr());
            service = start();
            publish();
        }
        subscribers.into_iter().filter_map(|subscriber| subscriber.join().unwrap().err()).collect()
    });
    assert!(faults.is_empty(), "{faults:?}");
    assert!(service.terminate().success());
}
