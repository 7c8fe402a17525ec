//! The steps that make a script's view of the machine, one system call or a few each. They are made ready before the fork
//! and carried out behind it, where no memory may be allocated.

use std::ffi::{CStr, CString, OsStr};
use std::fmt;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::libc;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::Mode;
use nix::sys::statvfs::statvfs;
use nix::unistd::{chdir, mkdir, symlinkat};

use crate::mountinfo;

/// How many directories can be held at a time.
pub(super) const SLOTS: usize = 4;
/// Longest path.
const PATH: usize = 4096;
/// Nothing in a script's view gives other rights than it has.
const HARMLESS: MsFlags = MsFlags::MS_NOSUID.union(MsFlags::MS_NODEV);

/// One step.
#[derive(Debug)]
pub(super) enum Step {
    /// Own mounts and message queues, none of which reaches the machine's.
    Separate,
    /// Lets go of all mounts below these directories, but of what lies in `except` or leads there.
    Release { below: Vec<CString>, except: CString },
    /// Keeps hold of a place that will be covered.
    Hold { slot: usize, path: CString },
    /// Makes everything read-only, and set-user-id bits mean nothing.
    ReadOnly,
    /// Puts an empty file system over a directory.
    Cover { at: CString, options: CString },
    /// Puts an empty file over a file.
    Mask(CString),
    /// Makes a directory that is no part of the machine.
    Directory(CString),
    /// Makes a file that is no part of the machine.
    File(CString),
    /// Makes a symbolic link that is no part of the machine.
    Link { target: CString, at: CString },
    /// Puts what is held where it was.
    Uncover { slot: usize, at: CString, writable: bool },
    /// Shows a part of the machine, with all that is mounted in it. One that is gone meanwhile is left out.
    Graft { from: CString, at: CString },
    /// Makes this directory the root, and lets go of all mounts of the old one.
    Root(CString),
    /// Makes a covering file system read-only.
    Seal(CString),
    /// Shows the message queues of the script's own.
    Queues,
    /// Shows the processes of the script's own.
    Processes,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = |path: &CString| Path::new(OsStr::from_bytes(path.as_bytes())).display().to_string();
        match self {
            Self::Separate => f.write_str("get a mount and an IPC namespace"),
            Self::Release { .. } => f.write_str("let go of the mounts of other repositories"),
            Self::Hold { path: at, .. } => write!(f, "open {}", path(at)),
            Self::ReadOnly => f.write_str("make the file systems read-only"),
            Self::Cover { at, .. } => write!(f, "mount an empty file system at {}", path(at)),
            Self::Mask(at) => write!(f, "hide {}", path(at)),
            Self::Directory(at) | Self::File(at) | Self::Link { at, .. } => write!(f, "make {}", path(at)),
            Self::Uncover { at, .. } | Self::Graft { at, .. } => write!(f, "bind {}", path(at)),
            Self::Root(_) => f.write_str("change the root"),
            Self::Seal(at) => write!(f, "make {} read-only", path(at)),
            Self::Queues => f.write_str("mount /dev/mqueue"),
            Self::Processes => f.write_str("mount /proc"),
        }
    }
}

/// What the steps work with.
pub(super) struct Bench<'a> {
    pub(super) held: [Option<OwnedFd>; SLOTS],
    /// For a list of mounts; all that is mounted must fit.
    pub(super) buffer: &'a mut [u8],
}

const NONE: Option<&CStr> = None;

impl Step {
    pub(super) fn run(&self, bench: &mut Bench<'_>) -> io::Result<()> {
        match self {
            Self::Separate => {
                unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWIPC)?;
                mount(NONE, c"/", NONE, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NONE)?;
            }
            Self::Release { below, except } => release(below, except.as_bytes(), bench.buffer)?,
            Self::Hold { slot, path } => {
                let place = open(path.as_c_str(), OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())?;
                bench.held[*slot] = Some(place);
            }
            Self::ReadOnly => everything_read_only(bench.buffer)?,
            Self::Cover { at, options } => {
                let options = Some(options.as_c_str());
                unless_absent(mount(Some(c"conveyor"), at.as_c_str(), Some(c"tmpfs"), HARMLESS, options))?;
            }
            // Reads as nothing.
            Self::Mask(at) => unless_absent(mount(Some(c"/dev/null"), at.as_c_str(), NONE, MsFlags::MS_BIND, NONE))?,
            Self::Directory(at) => match mkdir(at.as_c_str(), Mode::from_bits_truncate(0o755)) {
                Err(Errno::EEXIST) | Ok(()) => {}
                Err(error) => return Err(error.into()),
            },
            Self::File(at) => {
                let flags = OFlag::O_CREAT | OFlag::O_WRONLY | OFlag::O_CLOEXEC;
                drop(open(at.as_c_str(), flags, Mode::from_bits_truncate(0o444))?);
            }
            Self::Link { target, at } => symlinkat(target.as_c_str(), nix::fcntl::AT_FDCWD, at.as_c_str())?,
            Self::Uncover { slot, at, writable } => {
                let Some(place) = &bench.held[*slot] else { return Err(Errno::EBADF.into()) };
                let mut name = [0; 32];
                let from = descriptor_path(place.as_raw_fd(), &mut name)?;
                mount(Some(from), at.as_c_str(), NONE, MsFlags::MS_BIND | MsFlags::MS_REC, NONE)?;
                set_read_only(at, !writable)?;
            }
            Self::Graft { from, at } => {
                match mount(Some(from.as_c_str()), at.as_c_str(), NONE, MsFlags::MS_BIND | MsFlags::MS_REC, NONE) {
                    Err(Errno::ENOENT | Errno::EACCES) | Ok(()) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            Self::Root(at) => {
                chdir(at.as_c_str())?;
                pivot()?;
                umount2(c".", MntFlags::MNT_DETACH)?;
                chdir(c"/")?;
            }
            Self::Seal(at) => match set_read_only(at, true) {
                // What was not there was not covered.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                result => result?,
            },
            Self::Queues => {
                let flags = HARMLESS | MsFlags::MS_NOEXEC;
                mount(Some(c"mqueue"), c"/dev/mqueue", Some(c"mqueue"), flags, NONE)?;
            }
            Self::Processes => {
                let flags = HARMLESS | MsFlags::MS_NOEXEC;
                mount(Some(c"proc"), c"/proc", Some(c"proc"), flags, NONE)?;
            }
        }
        Ok(())
    }
}

/// What is not there, or not in a root of our own making, needs no cover.
fn unless_absent(result: Result<(), Errno>) -> Result<(), Errno> {
    match result {
        Err(Errno::ENOENT) => Ok(()),
        result => result,
    }
}

/// Makes the working directory, a mount, the root; the old root is mounted over it.
#[allow(unsafe_code)]
fn pivot() -> io::Result<()> {
    // SAFETY: both paths are strings that end with a zero byte.
    let done = unsafe { libc::syscall(libc::SYS_pivot_root, c".".as_ptr(), c".".as_ptr()) };
    Errno::result(done).map(drop).map_err(io::Error::from)
}

/// `/proc/self/fd/N`, the only name for a place of which another one is in the way.
fn descriptor_path(descriptor: i32, buffer: &mut [u8; 32]) -> io::Result<&CStr> {
    use std::io::Write;
    let mut rest = &mut buffer[..];
    write!(rest, "/proc/self/fd/{descriptor}\0")?;
    CStr::from_bytes_until_nul(buffer).map_err(|_| Errno::EINVAL.into())
}

/// Reads the mounts of this process.
fn own_mounts(buffer: &mut [u8]) -> io::Result<usize> {
    let file = open(c"/proc/self/mountinfo", OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())?;
    let mut length = 0;
    loop {
        match nix::unistd::read(&file, &mut buffer[length..]) {
            // Either is cut off or has more behind it than there is room.
            Ok(_) if length == buffer.len() => return Err(Errno::ENOBUFS.into()),
            Ok(0) => return Ok(length),
            Ok(read) => length += read,
            Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Calls with each mount point that is not left out; tells how many there were.
fn each_mount_point(buffer: &mut [u8], mut visit: impl FnMut(&[u8], &CStr) -> io::Result<bool>) -> io::Result<usize> {
    let length = own_mounts(buffer)?;
    let mut count = 0;
    for found in mountinfo::mounts(&buffer[..length]) {
        let mut path = [0; PATH];
        let Some(point) = mountinfo::unescape(found.point, &mut path[..PATH - 1]).map(<[u8]>::len) else {
            return Err(Errno::ENAMETOOLONG.into());
        };
        let name = CStr::from_bytes_until_nul(&path).map_err(|_| Errno::EINVAL)?;
        count += usize::from(visit(&path[..point], name)?);
    }
    Ok(count)
}

/// Lets go of mounts. One that is left would keep a publish of its repository waiting for the script.
fn release(below: &[CString], except: &[u8], buffer: &mut [u8]) -> io::Result<()> {
    let goes = |point: &[u8]| {
        below.iter().any(|directory| mountinfo::is_within(point, directory.as_bytes()))
            && !mountinfo::is_within(point, except)
            && !mountinfo::is_within(except, point)
    };
    each_mount_point(buffer, |point, name| {
        if goes(point) {
            // It may be gone with the one that it was mounted in.
            let _ = umount2(name, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW);
        }
        Ok(false)
    })?;
    match each_mount_point(buffer, |point, _| Ok(goes(point)))? {
        0 => Ok(()),
        _ => Err(Errno::EBUSY.into()),
    }
}

/// Makes all mounts read-only.
fn everything_read_only(buffer: &mut [u8]) -> io::Result<()> {
    match set_attributes(c"/", libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSUID, 0, libc::AT_RECURSIVE) {
        Err(Errno::ENOSYS) => {}
        result => return Ok(result?),
    }
    each_mount_point(buffer, |_, name| match remount(name, MsFlags::MS_RDONLY | MsFlags::MS_NOSUID, true) {
        // Gone, or under another one, which hides it.
        Err(Errno::ENOENT | Errno::EINVAL | Errno::EACCES | Errno::ENOTDIR) | Ok(()) => Ok(true),
        Err(error) => Err(error.into()),
    })?;
    Ok(())
}

/// Makes one mount read-only or writable, where the file system is.
fn set_read_only(at: &CStr, read_only: bool) -> io::Result<()> {
    let (set, clear) = if read_only { (libc::MOUNT_ATTR_RDONLY, 0) } else { (0, libc::MOUNT_ATTR_RDONLY) };
    match set_attributes(at, set, clear, 0) {
        Err(Errno::ENOSYS) => Ok(remount(at, MsFlags::MS_RDONLY, read_only)?),
        result => Ok(result?),
    }
}

#[allow(unsafe_code)]
fn set_attributes(at: &CStr, set: u64, clear: u64, flags: i32) -> Result<(), Errno> {
    let attributes = libc::mount_attr { attr_set: set, attr_clr: clear, propagation: 0, userns_fd: 0 };
    // SAFETY: the path ends with a zero byte, and the attributes are as large as is said.
    let done = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            libc::AT_FDCWD,
            at.as_ptr(),
            flags,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    Errno::result(done).map(drop)
}

/// The same on Linux before 5.12, where a mount's other flags must be repeated.
fn remount(at: &CStr, change: MsFlags, on: bool) -> Result<(), Errno> {
    use nix::sys::statvfs::FsFlags;
    let now = statvfs(at)?.flags();
    let pairs = [
        (FsFlags::ST_RDONLY, MsFlags::MS_RDONLY),
        (FsFlags::ST_NOSUID, MsFlags::MS_NOSUID),
        (FsFlags::ST_NODEV, MsFlags::MS_NODEV),
        (FsFlags::ST_NOEXEC, MsFlags::MS_NOEXEC),
        (FsFlags::ST_NOATIME, MsFlags::MS_NOATIME),
        (FsFlags::ST_NODIRATIME, MsFlags::MS_NODIRATIME),
        (FsFlags::ST_RELATIME, MsFlags::MS_RELATIME),
    ];
    let mut flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT;
    for (_, flag) in pairs.iter().filter(|(is, _)| now.contains(*is)) {
        flags |= *flag;
    }
    flags.set(change, on);
    mount(NONE, at, NONE, flags, NONE)
}
