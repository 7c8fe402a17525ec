//! Who uses a mount, by what `/proc` says of each process.

use std::fs;
use std::path::{Path, PathBuf};

use nix::libc;

fn processes() -> Vec<PathBuf> {
    let is_process = |path: &PathBuf| path.file_name().unwrap().to_string_lossy().bytes().all(|b| b.is_ascii_digit());
    fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path()).filter(is_process).collect()
}

fn is_below(link: &Path, directory: &Path) -> bool {
    fs::read_link(link).is_ok_and(|target| target.starts_with(directory))
}

/// Descriptors below a directory: those that are writable, or all.
fn descriptors(directory: &Path, writable: bool) -> usize {
    let mut count = 0;
    for process in processes() {
        for entry in fs::read_dir(process.join("fd")).into_iter().flatten().flatten() {
            if !is_below(&entry.path(), directory) {
                continue;
            }
            let info = fs::read_to_string(process.join("fdinfo").join(entry.file_name())).unwrap_or_default();
            let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).unwrap_or("0");
            let flags = i32::from_str_radix(flags.trim(), 8).unwrap_or(0);
            count += usize::from(!writable || flags & libc::O_ACCMODE != libc::O_RDONLY);
        }
    }
    count
}

pub(crate) fn writers(directory: &Path) -> usize {
    descriptors(directory, true)
}

/// Whether anybody has a file open below the directory, or works there.
pub(crate) fn is_held(directory: &Path) -> bool {
    descriptors(directory, false) > 0 || processes().iter().any(|process| is_below(&process.join("cwd"), directory))
}

pub(crate) fn is_inside(directory: &Path) -> bool {
    is_below(Path::new("/proc/self/cwd"), directory)
}

/// Whether a process in another mount namespace still has the mount: the real client cannot be mounted anew then, as the
/// old one has its cache locked.
pub(crate) fn is_mounted_elsewhere(directory: &Path) -> bool {
    let ours = fs::read_link("/proc/self/ns/mnt").unwrap();
    processes().iter().any(|process| {
        let other = fs::read_link(process.join("ns/mnt")).is_ok_and(|theirs| theirs != ours);
        other && is_mount_point(&process.join("mountinfo"), directory)
    })
}

pub(crate) fn is_mount_point(mountinfo: &Path, directory: &Path) -> bool {
    let text = fs::read_to_string(mountinfo).unwrap_or_default();
    text.lines().any(|line| line.split(' ').nth(4) == directory.to_str())
}
