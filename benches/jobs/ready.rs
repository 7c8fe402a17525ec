//! How long a restart is felt: a server is started on a socket that a client has asked at already, as systemd does.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use super::Scale;
use super::activation::activated;
use super::memory;
use super::report::{figure, median, quantile};
use super::server::{REPOSITORIES, job, repository};

const TOKEN: &str = "benchmark";

pub(crate) fn run(scale: Scale) {
    let (full, empty) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    memory::in_process(memory::FILL, full.path(), scale);
    let places = [full.path(), empty.path()].map(Place::new);
    let mut times = [Vec::new(), Vec::new()];
    let mut stops = Vec::new();
    for _ in 0..scale.pick(20, 2) {
        for (place, times) in places.iter().zip(&mut times) {
            let (answered, stopped) = place.start_and_stop();
            times.push(answered.as_secs_f64() * 1e3);
            stops.push(stopped.as_secs_f64() * 1e3);
        }
    }
    let [full, empty] = times;
    let more = json!({
        "finished": scale.stored,
        "queued": memory::queued(scale),
        "p90": quantile(&full, 0.9),
        "max": quantile(&full, 1.0),
    });
    figure(
        "exec to the answer of a submit on an inherited socket, jobs stored, p50",
        median(&full),
        "ms",
        Some(("the same without jobs", median(&empty))),
        more,
    );
    figure(
        "SIGTERM to exit, one idle connection, p50",
        median(&stops),
        "ms",
        None,
        json!({"max": quantile(&stops, 1.0)}),
    );
}

/// A server's state and settings, and its socket, which stays.
struct Place {
    config: PathBuf,
    socket: TcpListener,
}

impl Place {
    fn new(state: &Path) -> Self {
        let (config, token) = (state.join("config.toml"), state.join("token"));
        private(&token, TOKEN);
        let mut text = format!("[server]\nstate_dir = {state:?}\ntoken_file = {token:?}\n");
        for number in 0..REPOSITORIES {
            text += &format!("[repositories.\"{}\"]\n", repository(number));
        }
        private(&config, &text);
        Self { config, socket: TcpListener::bind("127.0.0.1:0").unwrap() }
    }

    /// From the start of the process to the answer, and from the signal to the end.
    fn start_and_stop(&self) -> (Duration, Duration) {
        // Asked before there is a process, so that the answer's time is that of readiness.
        let mut asked = TcpStream::connect(self.socket.local_addr().unwrap()).unwrap();
        let body = serde_json::to_string(&[job(0)]).unwrap();
        let length = body.len();
        write!(
            asked,
            "POST /api/v1/jobs HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {TOKEN}\r\ncontent-type: application/json\r\n\
             content-length: {length}\r\n\r\n{body}"
        )
        .unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_conveyor"));
        command.arg("-c").arg(&self.config).arg("server");
        let mut command = activated(&command, &[("http", self.socket.as_fd())]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let began = Instant::now();
        let mut server = command.spawn().unwrap();
        let mut answer = [0; 4096];
        let n = asked.read(&mut answer).unwrap();
        let answered = began.elapsed();
        assert!(answer[..n].starts_with(b"HTTP/1.1 201"), "{}", String::from_utf8_lossy(&answer[..n]));
        let told = Instant::now();
        kill(Pid::from_raw(i32::try_from(server.id()).unwrap()), Signal::SIGTERM).unwrap();
        assert!(server.wait().unwrap().success());
        (answered, told.elapsed())
    }
}

fn private(path: &Path, text: &str) {
    use std::os::unix::fs::OpenOptionsExt;
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}
