//! A TCP relay that can fail in the ways of a network.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// Passes bytes between clients and one address, until it is told otherwise.
pub(crate) struct Relay {
    port: u16,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    /// Where new connections go.
    target: AtomicU16,
    /// What the other side says is swallowed.
    mute: AtomicBool,
    /// Only its publisher confirms are.
    unconfirmed: AtomicBool,
    /// Only what it says when it ends a consumer is.
    uncancelled: AtomicBool,
    closed: AtomicBool,
    /// Connections that were passed.
    connections: AtomicUsize,
    /// Bytes of the answers that were passed.
    bytes: AtomicU64,
    open: Mutex<Vec<TcpStream>>,
}

impl Relay {
    pub(crate) fn to(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let own = listener.local_addr().unwrap().port();
        let state = Arc::new(State { target: port.into(), ..State::default() });
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if shared.closed.load(Ordering::SeqCst) {
                    break;
                }
                // Locked, so that who cuts the connections cuts this one too, or comes before it.
                let mut open = shared.open.lock().unwrap();
                let target = shared.target.load(Ordering::SeqCst);
                let Ok(server) = TcpStream::connect(("127.0.0.1", target)) else { continue };
                shared.connections.fetch_add(1, Ordering::SeqCst);
                for (from, to, can_be_mute) in [(&client, &server, false), (&server, &client, true)] {
                    open.push(from.try_clone().unwrap());
                    let (from, to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                    let shared = Arc::clone(&shared);
                    std::thread::spawn(move || copy(from, to, can_be_mute, &shared));
                }
            }
        });
        Self { port: own, state }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Whether answers are swallowed from now on; connections that stand are meant, too.
    pub(crate) fn mute(&self, mute: bool) {
        self.state.mute.store(mute, Ordering::SeqCst);
    }

    /// How many connections were passed.
    pub(crate) fn connections(&self) -> usize {
        self.state.connections.load(Ordering::SeqCst)
    }

    /// How many bytes of answers were passed.
    pub(crate) fn bytes(&self) -> u64 {
        self.state.bytes.load(Ordering::SeqCst)
    }

    /// Whether a broker's confirms (AMQP `basic.ack`, `basic.nack`) are swallowed from now on, and nothing else.
    pub(crate) fn swallow_confirms(&self, swallow: bool) {
        self.state.unconfirmed.store(swallow, Ordering::SeqCst);
    }

    /// Whether a broker's word that a consumer has ended (AMQP `basic.cancel`) is swallowed from now on, and nothing else.
    pub(crate) fn swallow_cancels(&self, swallow: bool) {
        self.state.uncancelled.store(swallow, Ordering::SeqCst);
    }

    /// Cuts all connections; new ones go to another port.
    pub(crate) fn turn(&self, port: u16) {
        self.state.target.store(port, Ordering::SeqCst);
        self.cut();
    }

    /// Cuts all connections; new ones are passed.
    pub(crate) fn cut(&self) {
        for stream in self.state.open.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.state.closed.store(true, Ordering::SeqCst);
        self.cut();
        // Wakes the listener.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

impl State {
    /// The methods of AMQP's class 60 (basic) that are swallowed: 30 is cancel, 80 is ack, 120 is nack.
    fn swallowed(&self) -> Vec<u8> {
        let mut methods = Vec::new();
        if self.unconfirmed.load(Ordering::SeqCst) {
            methods.extend([80, 120]);
        }
        if self.uncancelled.load(Ordering::SeqCst) {
            methods.push(30);
        }
        methods
    }
}

fn copy(mut from: TcpStream, mut to: TcpStream, can_be_mute: bool, state: &State) {
    let mut buffer = [0; 16 * 1024];
    let mut frames = Frames::default();
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        if can_be_mute && state.mute.load(Ordering::SeqCst) {
            continue;
        }
        let bytes = match can_be_mute {
            true => frames.without(&buffer[..count], &state.swallowed()),
            false => buffer[..count].to_vec(),
        };
        if to.write_all(&bytes).is_err() {
            break;
        }
        if can_be_mute {
            state.bytes.fetch_add(count as u64, Ordering::SeqCst);
        }
    }
    let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
}

/// Cuts what a broker says into AMQP's frames: type, channel (2 bytes), size (4), the payload and an end.
#[derive(Default)]
struct Frames {
    rest: Vec<u8>,
    /// What is said is no AMQP, and is passed on as it is.
    other: bool,
}

impl Frames {
    /// The frames that are complete, also half ones where it is no AMQP.
    fn without(&mut self, bytes: &[u8], methods: &[u8]) -> Vec<u8> {
        self.rest.extend_from_slice(bytes);
        let mut passed = Vec::new();
        while !self.other && self.rest.len() >= 7 {
            let size = u32::from_be_bytes(self.rest[3..7].try_into().unwrap()) as usize;
            if !matches!(self.rest[0], 1..=3 | 8) || size > 1 << 20 {
                self.other = true;
                break;
            }
            if self.rest.len() < size + 8 {
                return passed;
            }
            let frame: Vec<u8> = self.rest.drain(..size + 8).collect();
            let is_swallowed = frame[0] == 1 && frame[7..10] == [0, 60, 0] && methods.contains(&frame[10]);
            if !is_swallowed {
                passed.extend(frame);
            }
        }
        if self.other {
            passed.append(&mut self.rest);
        }
        passed
    }
}
