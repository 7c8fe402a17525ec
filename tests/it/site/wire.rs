//! The way to a gateway, which can fail at a request of the test's choice.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};

/// What happens to the first request that begins with certain bytes. The way is good for all others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The connection is cut, and the request does not arrive.
    CutBefore,
    /// The request arrives; the connection is cut when it is answered.
    LoseAnswer,
    /// It is kept until the test lets it go.
    Hold,
}

/// Passes bytes to a port.
pub(crate) struct Wire {
    port: u16,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    plan: Mutex<Plan>,
    changed: Condvar,
}

#[derive(Default)]
struct Plan {
    fault: Option<(&'static str, Fault)>,
    happened: bool,
    held: bool,
    closed: bool,
}

impl Wire {
    pub(crate) fn to(target: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(State::default());
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if shared.plan.lock().unwrap().closed {
                    break;
                }
                let shared = Arc::clone(&shared);
                std::thread::spawn(move || pass(client, target, &shared));
            }
        });
        Self { port, state }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// The next request that begins so.
    pub(crate) fn fail_at(&self, request: &'static str, fault: Fault) {
        let mut plan = self.state.plan.lock().unwrap();
        (plan.fault, plan.happened, plan.held) = (Some((request, fault)), false, fault == Fault::Hold);
    }

    /// Waits until it came.
    pub(crate) fn until_happened(&self) {
        let plan = self.state.plan.lock().unwrap();
        drop(self.state.changed.wait_while(plan, |plan| !plan.happened).unwrap());
    }

    /// Lets go what is held.
    pub(crate) fn let_go(&self) {
        self.state.plan.lock().unwrap().held = false;
        self.state.changed.notify_all();
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.state.plan.lock().unwrap().closed = true;
        self.let_go();
        // Wakes the listener.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

fn pass(mut client: TcpStream, target: u16, state: &State) {
    let lost = Arc::new(Mutex::new(false));
    let mut server: Option<TcpStream> = None;
    let mut answers = None;
    let mut buffer = [0; 16 * 1024];
    while let Ok(count @ 1..) = client.read(&mut buffer) {
        match state.meet(&buffer[..count]) {
            Some(Fault::CutBefore) => break,
            Some(Fault::LoseAnswer) => *lost.lock().unwrap() = true,
            Some(Fault::Hold) | None => {}
        }
        // Only now: whoever is there when a request is let go is who gets it.
        if server.is_none() {
            let Ok(to) = TcpStream::connect(("127.0.0.1", target)) else { break };
            let (from, back, lose) = (to.try_clone().unwrap(), client.try_clone().unwrap(), Arc::clone(&lost));
            answers = Some(std::thread::spawn(move || copy(from, back, &lose)));
            server = Some(to);
        }
        if server.as_mut().is_none_or(|to| to.write_all(&buffer[..count]).is_err()) {
            break;
        }
    }
    if let (true, Some(answers)) = (*lost.lock().unwrap(), answers) {
        let _ = answers.join();
    }
    for stream in [Some(client), server].into_iter().flatten() {
        let _ = stream.shutdown(Shutdown::Both);
    }
}

fn copy(mut from: TcpStream, mut to: TcpStream, lost: &Mutex<bool>) {
    let mut buffer = [0; 16 * 1024];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        if *lost.lock().unwrap() || to.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
}

impl State {
    /// What is to happen to a request, if these bytes begin it; what is held has been held when this returns.
    fn meet(&self, bytes: &[u8]) -> Option<Fault> {
        let mut plan = self.plan.lock().unwrap();
        let (_, fault) = plan.fault.filter(|(request, _)| bytes.starts_with(request.as_bytes()))?;
        plan.fault = None;
        plan.happened = true;
        self.changed.notify_all();
        drop(self.changed.wait_while(plan, |plan| plan.held).unwrap());
        Some(fault)
    }
}
