//! The keeper: a process between the worker and a script, out of whose hands nothing that the script starts can get.
//!
//! ```text
//! worker ─fork─► keeper (subreaper) ─fork─► script ─► its children, daemons …
//! ```
//!
//! Whatever a process does to get away (a new session, a double fork, an empty environment), when its parent dies it
//! becomes a child of the nearest subreaper above it. For a script that is its keeper, which kills its children and
//! waits until it has none left before it ends, with the script's own exit code or signal.
//!
//! With a [`Plan`] the keeper has one child only, process 1 of the script's namespaces, which keeps the script in its place: see
//! [`super::confinement`].
//!
//! The keeper is a fork without exec, so between the forks and in the keeper only system calls are made: no memory is
//! allocated, no lock taken. It holds a copy of the worker's memory, and so is made unreadable for the script.
//!
//! It takes its orders as signals: SIGTERM is passed on to the script's process group, SIGHUP kills everything at once.
//! The kernel sends the latter when the worker dies.

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::libc::{self, c_int, pid_t};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{SigSet, Signal, kill, killpg};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{ForkResult, Pid, fork, getpid, getppid, setsid};

use super::confinement::Plan;
use super::image::Image;

/// Asks the keeper to end the script's process group kindly.
pub(super) const ORDER_TERMINATE: Signal = Signal::SIGTERM;
/// Asks the keeper to kill everything that is left.
pub(super) const ORDER_KILL: Signal = Signal::SIGHUP;

/// How long what a script left behind may go on by itself: enough for a `tee` to write its last lines.
const LINGER: Duration = Duration::from_millis(500);
/// How often children are killed anew while there are any.
const AGAIN: Duration = Duration::from_millis(10);

/// Makes a command run `image` under a keeper, in a session of its own. The child that is spawned is the keeper; of the
/// command itself only the outputs count, and without a plan the user and the working directory.
///
/// The thread that spawns it must live until it has ended: the kernel takes the thread's end for the worker's.
#[allow(unsafe_code)]
pub(super) fn contain(command: &mut Command, image: Image, plan: Option<Arc<Mutex<Plan>>>) {
    let worker = getpid();
    let become_script = move || {
        match plan.as_deref().map(Mutex::try_lock) {
            None => split(worker, None)?,
            Some(Ok(mut plan)) => split(worker, Some(&mut *plan))?,
            // Nobody has it while the command is spawned. In no case does a script run without its plan.
            Some(Err(_)) => return Err(Errno::EDEADLK.into()),
        }
        Err(image.exec())
    };
    // SAFETY: `split`, `exec` and all they call make system calls only. They neither allocate nor take locks, whose
    // state in the child of a process with several threads would be whatever it was at the fork.
    unsafe { command.pre_exec(become_script) };
}

/// Runs in the worker's child, which has its outputs already, and without a plan its user and directory. That one becomes
/// the keeper and never returns; its child, or that one's child, returns and is the script.
fn split(worker: Pid, plan: Option<&mut Plan>) -> io::Result<()> {
    setsid()?;
    umask(Mode::from_bits_truncate(0o022));
    setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
    // Without this, a set-user-id program could be neither killed by the keeper nor reached by the parent's death.
    prctl::set_no_new_privs()?;
    // The worker's signal handlers are still there, and talk to the worker: none may run.
    SigSet::all().thread_set_mask()?;
    if let Some(plan) = &plan {
        plan.prepare()?;
    }
    prctl::set_dumpable(false)?;
    // Set after the change of user, which clears it; then looked at, lest the worker died before.
    prctl::set_pdeathsig(ORDER_KILL)?;
    if getppid() != worker {
        return Err(Errno::ESRCH.into());
    }
    prctl::set_child_subreaper(true)?;
    match plan {
        None => start(None),
        Some(plan) => start_first(plan),
    }
}

/// Forks process 1 of the script's namespaces, and the script from that one.
#[allow(unsafe_code)]
fn start_first(plan: &mut Plan) -> io::Result<()> {
    // Of which the keeper keeps the one end: from another PID namespace its child cannot see otherwise that it is gone.
    let (keepers, others) = nix::unistd::pipe2(OFlag::O_CLOEXEC)?;
    // SAFETY: this process has one thread, and what follows in both makes system calls only.
    match unsafe { fork() }? {
        ForkResult::Parent { child } => {
            // SAFETY: nothing uses the standard descriptors of the keeper.
            unsafe { libc::dup2(keepers.as_raw_fd(), 0) };
            guard(child, plan)
        }
        ForkResult::Child => {
            drop(keepers);
            prctl::set_pdeathsig(Signal::SIGKILL)?;
            let mut look = [PollFd::new(others.as_fd(), PollFlags::empty())];
            poll(&mut look, PollTimeout::ZERO)?;
            if look[0].revents().is_some_and(|seen| seen.contains(PollFlags::POLLERR)) {
                return Err(Errno::ESRCH.into());
            }
            plan.make()?;
            start(Some(plan))
        }
    }
}

/// Forks the script and keeps it.
#[allow(unsafe_code)]
fn start(plan: Option<&Plan>) -> io::Result<()> {
    let keeper = getpid();
    // SAFETY: this process has one thread, and what follows in both makes system calls only.
    match unsafe { fork() }? {
        ForkResult::Parent { child } => keep(child, plan),
        ForkResult::Child => {
            setsid()?;
            if let Some(plan) = plan {
                plan.settle()?;
                // The change of user clears it; the worker's memory is still here.
                prctl::set_dumpable(false)?;
            }
            prctl::set_pdeathsig(Signal::SIGKILL)?;
            if getppid() != keeper {
                return Err(Errno::ESRCH.into());
            }
            SigSet::empty().thread_set_mask()?;
            close_from(3, true);
            Ok(())
        }
    }
}

/// Waits until process 1 has ended, and with it all that is in its namespace, and ends as the script did.
fn guard(first: Pid, plan: &Plan) -> ! {
    close_from(1, false);
    let _ = prctl::set_name(c"conveyor-keeper");
    loop {
        loop {
            match reap() {
                // It ends by itself or is killed, and then the kernel has killed the script.
                Reaped::Child(..) => {}
                Reaped::NoneYet => break,
                Reaped::NoneLeft => end_like(Some(plan.end())),
            }
        }
        match next_order(Duration::from_secs(60)) {
            Some(ORDER_KILL) => drop(kill(first, Signal::SIGKILL)),
            Some(ORDER_TERMINATE) => drop(kill(first, ORDER_TERMINATE)),
            _ => {}
        }
    }
}

/// Waits until there are no children left, sees to it that this comes to pass, and ends as the script did. Process 1 of a
/// namespace need not wait: its end is that of all.
fn keep(script: Pid, plan: Option<&Plan>) -> ! {
    // All of them: the pipe of the script's output must end with its last process, and the one on which the worker
    // waits for a failed exec must not be held open here.
    close_from(0, false);
    let _ = prctl::set_name(c"conveyor-keeper");
    let mut ended: Option<(c_int, Instant)> = None;
    let mut killing = false;
    loop {
        loop {
            match reap() {
                Reaped::Child(pid, status) if pid == script.as_raw() => {
                    ended = Some((status, Instant::now() + LINGER));
                    if let Some(plan) = plan {
                        plan.note_end(status);
                    }
                }
                Reaped::Child(..) => {}
                Reaped::NoneYet => break,
                Reaped::NoneLeft => end_like(ended.map(|(status, _)| status)),
            }
        }
        let left = ended.map(|(_, until)| until.saturating_duration_since(Instant::now()));
        killing |= left == Some(Duration::ZERO);
        if killing {
            if plan.is_some() {
                end_like(None);
            }
            if ended.is_none() {
                // Shells spawn shells: the group first, in one stroke. After the script's end its number could name
                // someone else's group, and what is left of its own is among our children.
                let _ = killpg(script, Signal::SIGKILL);
            }
            kill_children();
        }
        let patience = if killing { AGAIN } else { left.unwrap_or(Duration::from_secs(60)) };
        match next_order(patience) {
            Some(ORDER_KILL) => killing = true,
            Some(ORDER_TERMINATE) if ended.is_none() => drop(killpg(script, Signal::SIGTERM)),
            _ => {}
        }
    }
}

enum Reaped {
    Child(pid_t, c_int),
    NoneYet,
    NoneLeft,
}

/// Takes note of one ended child. Not by `nix`, which has no word for an end by a real-time signal.
#[allow(unsafe_code)]
fn reap() -> Reaped {
    let mut status = 0;
    // SAFETY: `status` is a valid place for the one thing that is written.
    match unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG) } {
        0 => Reaped::NoneYet,
        pid if pid > 0 => Reaped::Child(pid, status),
        _ if Errno::last() == Errno::EINTR => Reaped::NoneYet,
        _ => Reaped::NoneLeft,
    }
}

/// Waits for an order, a child's end or the end of patience.
#[allow(unsafe_code)]
fn next_order(patience: Duration) -> Option<Signal> {
    let mut awaited = SigSet::empty();
    awaited.add(ORDER_TERMINATE);
    awaited.add(ORDER_KILL);
    awaited.add(Signal::SIGCHLD);
    let timeout = nix::sys::time::TimeSpec::from_duration(patience);
    // SAFETY: both pointers are to live values, and no details are asked for.
    let signal = unsafe { libc::sigtimedwait(awaited.as_ref(), std::ptr::null_mut(), timeout.as_ref()) };
    Signal::try_from(signal).ok()
}

/// Kills the children there are now. Theirs become children here and are next.
fn kill_children() {
    use nix::fcntl::open;
    let Ok(list) = open(c"/proc/thread-self/children", OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty()) else {
        return;
    };
    let mut buffer = [0; 4096];
    let Ok(read) = nix::unistd::read(&list, &mut buffer) else { return };
    let mut pid: pid_t = 0;
    // A number that the buffer cuts off has no space behind it, and is left for the next time.
    for byte in &buffer[..read] {
        match byte {
            b'0'..=b'9' => pid = pid.saturating_mul(10).saturating_add(pid_t::from(byte - b'0')),
            _ if pid > 1 => {
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
                pid = 0;
            }
            _ => {}
        }
    }
}

/// Ends this process in the way that the script ended.
#[allow(unsafe_code)]
fn end_like(status: Option<c_int>) -> ! {
    let code = match status {
        Some(status) if libc::WIFEXITED(status) => libc::WEXITSTATUS(status),
        Some(status) if libc::WIFSIGNALED(status) => {
            let signal = libc::WTERMSIG(status);
            // SAFETY: system calls only; the default action has no handler that could run.
            unsafe {
                libc::signal(signal, libc::SIG_DFL);
                libc::raise(signal);
            }
            // Pending so far; this delivers it.
            let _ = SigSet::empty().thread_set_mask();
            128 + signal
        }
        _ => 255,
    };
    // SAFETY: ends the process without running what the worker has registered for its own exit.
    unsafe { libc::_exit(code) }
}

/// Closes all descriptors from `first` on, now or at the next exec.
#[allow(unsafe_code)]
fn close_from(first: c_int, at_exec: bool) {
    let flags = if at_exec { libc::CLOSE_RANGE_CLOEXEC } else { 0 };
    // SAFETY: nothing in this process uses the descriptors afterwards: it ends, or execs, without touching them.
    let done = unsafe { libc::syscall(libc::SYS_close_range, first, c_int::MAX, flags) };
    if done == 0 {
        return;
    }
    // Linux before 5.11.
    let limit = nix::sys::resource::getrlimit(Resource::RLIMIT_NOFILE).map_or(1024, |(soft, _)| soft.min(1 << 20));
    for descriptor in first..limit as c_int {
        // SAFETY: as above.
        unsafe {
            if at_exec {
                libc::fcntl(descriptor, libc::F_SETFD, libc::FD_CLOEXEC);
            } else {
                libc::close(descriptor);
            }
        }
    }
}
