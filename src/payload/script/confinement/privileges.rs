//! Rights: those that a script's view is made with, and the giving up of all.

use std::ffi::CStr;
use std::io;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::libc;
use nix::sched::{CloneFlags, unshare};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::stat::Mode;
use nix::unistd::{Gid, Uid};

/// Processes and threads that the script's account may have at a time, so that one bomb does not stop the machine. In a
/// user namespace only those in it count.
const MOST_PROCESSES: u64 = 4096;
/// Files that a process may open where it asks for more than the usual 1024.
const MOST_FILES: u64 = 65_536;

/// The account in a user namespace is the account outside, and there is no other.
#[derive(Debug)]
pub(super) struct Maps {
    uid: String,
    gid: String,
}

impl Maps {
    pub(super) fn new(uid: Uid, gid: Gid) -> Self {
        Self { uid: format!("{uid} {uid} 1"), gid: format!("{gid} {gid} 1") }
    }

    /// Moves this process into a user namespace, where it may mount. Must be readable (dumpable), or the files that say
    /// who is who are root's.
    pub(super) fn enter(&self) -> io::Result<()> {
        unshare(CloneFlags::CLONE_NEWUSER)?;
        // Without this an ordinary user may not say which groups there are: one more could take rights away.
        write(c"/proc/self/setgroups", b"deny")?;
        write(c"/proc/self/uid_map", self.uid.as_bytes())?;
        write(c"/proc/self/gid_map", self.gid.as_bytes())
    }
}

fn write(path: &CStr, text: &[u8]) -> io::Result<()> {
    let file = open(path, OFlag::O_WRONLY | OFlag::O_CLOEXEC, Mode::empty())?;
    nix::unistd::write(&file, text)?;
    Ok(())
}

/// Limits what a script may use up.
pub(super) fn limit() -> io::Result<()> {
    let at_most = |resource, soft: u64, hard: u64| {
        let (_, most) = getrlimit(resource)?;
        setrlimit(resource, soft.min(most), hard.min(most))
    };
    at_most(Resource::RLIMIT_NPROC, MOST_PROCESSES, MOST_PROCESSES)?;
    at_most(Resource::RLIMIT_NOFILE, 1024, MOST_FILES)?;
    Ok(())
}

/// Gives up all rights for good: no other account, no other group, no capability now or by any program. `account` is whom
/// to become, which only root can.
#[allow(unsafe_code)]
pub(super) fn drop_all(account: Option<(Uid, Gid)>) -> io::Result<()> {
    // The set out of which programs could be given some.
    for capability in 0..64 {
        // SAFETY: numbers only.
        match Errno::result(unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) }) {
            Err(Errno::EINVAL) if capability > 0 => break,
            result => result?,
        };
    }
    // SAFETY: numbers only. There are none on Linux before 4.3, and no need to clear them.
    let _ = unsafe { libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) };
    if let Some((uid, gid)) = account {
        nix::unistd::setgroups(&[])?;
        nix::unistd::setresgid(gid, gid, gid)?;
        nix::unistd::setresuid(uid, uid, uid)?;
    }
    /// As the kernel has them.
    #[repr(C)]
    struct Header {
        version: u32,
        pid: i32,
    }
    const VERSION_3: u32 = 0x2008_0522;
    let header = Header { version: VERSION_3, pid: 0 };
    // Effective, permitted, inheritable; twice 32 of each.
    let none = [0_u32; 6];
    // SAFETY: both are as the kernel expects them for this version.
    Errno::result(unsafe { libc::syscall(libc::SYS_capset, &raw const header, &raw const none) })?;
    // The worker's keys, where it has some. A kernel may be built without.
    // SAFETY: a number and no name.
    let _ = unsafe { libc::syscall(libc::SYS_keyctl, libc::KEYCTL_JOIN_SESSION_KEYRING, 0) };
    Ok(())
}
