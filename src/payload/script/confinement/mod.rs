//! A script's view of the machine: what it may write in, what it does not see, and how that is made.
//!
//! ```text
//! worker ─fork─► keeper ─fork─► process 1 of the namespaces ─fork─► script ─► its children …
//! ```
//!
//! Process 1 makes the view (mount, PID and IPC namespace of its own) and then keeps its tasks as a keeper does; when it ends,
//! the kernel kills everything in its PID namespace, and with the last process go the mounts and message queues. The
//! keeper outside ends as the script did. Where the worker is not root, all of it happens in a user namespace.
//!
//! * Everything is read-only but `writable`, the script's `TMPDIR`, and `/tmp`, `/var/tmp` and `/dev/shm`, which are empty, in
//!   memory and the script's own. Devices can be used as ever.
//! * Hidden directories are covered by empty read-only file systems; what the script needs of them is put back. Who makes a
//!   user namespace in the script may not lift them: mounts that come from a namespace with more rights are locked.
//! * Mounts of other repositories are let go of. Root can unmount its copies; in a user namespace they are locked as well, so
//!   that a new root is made of everything but them.

mod means;
mod plan;
mod privileges;
mod root;
mod shared;
mod steps;

use std::ffi::CString;
use std::io;
use std::path::PathBuf;

use nix::libc;
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::Signal;
use nix::unistd::{Gid, Uid, chdir};

pub(super) use self::means::explain;
use self::privileges::Maps;
use self::shared::Shared;
use self::steps::{Bench, Step};

/// What a script's view of the machine is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Confinement {
    /// The directory that it may write in, in its working directory or that itself.
    pub writable: PathBuf,
    /// Files and directories that it must not see. What is not there is not hidden either.
    pub hidden: Vec<PathBuf>,
    /// Of all mounts below these directories only that of the working directory stays.
    pub mounts: Vec<PathBuf>,
}

/// Room for the list of all mounts, a line of about 250 bytes each. Only what is used of it takes memory.
const MOUNT_LIST: usize = 4 << 20;

/// A view, ready to be made behind a fork.
pub(super) struct Plan {
    maps: Option<Maps>,
    steps: Vec<Step>,
    account: Option<(Uid, Gid)>,
    directory: CString,
    buffer: Vec<u8>,
    shared: Shared,
}

/// Steps before and behind those of [`Plan::steps`], numbered after them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Extra {
    UserNamespace,
    PidNamespace,
    Limits,
    Privileges,
    Directory,
}

impl Extra {
    const ALL: [Self; 5] = [Self::UserNamespace, Self::PidNamespace, Self::Limits, Self::Privileges, Self::Directory];

    fn describe(self) -> &'static str {
        match self {
            Self::UserNamespace => "get a user namespace",
            Self::PidNamespace => "get a PID namespace",
            Self::Limits => "set its limits",
            Self::Privileges => "give up all rights",
            Self::Directory => "enter its working directory",
        }
    }
}

impl Plan {
    fn extra<T>(&self, extra: Extra, work: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        self.shared.set_step(Some(self.steps.len() + extra as usize));
        let result = work()?;
        self.shared.set_step(None);
        Ok(result)
    }

    /// In the keeper: what must be had before process 1 is forked.
    pub(super) fn prepare(&self) -> io::Result<()> {
        // Until one says otherwise.
        self.shared.set_status(Signal::SIGKILL as i32);
        if let Some(maps) = &self.maps {
            self.extra(Extra::UserNamespace, || maps.enter())?;
        }
        self.extra(Extra::PidNamespace, || Ok(unshare(CloneFlags::CLONE_NEWPID)?))
    }

    /// In process 1: makes the view.
    pub(super) fn make(&mut self) -> io::Result<()> {
        let mut bench = Bench { held: Default::default(), buffer: &mut self.buffer };
        for (number, step) in self.steps.iter().enumerate() {
            self.shared.set_step(Some(number));
            step.run(&mut bench)?;
        }
        self.shared.set_step(None);
        Ok(())
    }

    /// In the process that becomes the script: takes its place in the view, without any rights.
    pub(super) fn settle(&self) -> io::Result<()> {
        self.extra(Extra::Limits, privileges::limit)?;
        self.extra(Extra::Privileges, || privileges::drop_all(self.account))?;
        self.extra(Extra::Directory, || Ok(chdir(self.directory.as_c_str())?))
    }

    /// In process 1: how the script ended.
    pub(super) fn note_end(&self, status: libc::c_int) {
        self.shared.set_status(status);
    }

    /// In the keeper: how the script ended.
    pub(super) fn end(&self) -> libc::c_int {
        self.shared.status()
    }

    /// In the worker: the step that failed, if it was one.
    pub(super) fn failed_step(&self) -> Option<String> {
        let number = self.shared.step()?;
        match self.steps.get(number) {
            Some(step) => Some(step.to_string()),
            None => Extra::ALL.get(number - self.steps.len()).map(|extra| extra.describe().to_owned()),
        }
    }
}
