//! The two mounts of a repository: a copy of the present revision, and the overlay on it.

use std::fs::{self, DirBuilder, File, Permissions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, lchown, symlink};
use std::path::{Path, PathBuf};

use conveyor::cvmfs::catalog::Entry;
use nix::fcntl::AT_FDCWD;
use nix::sys::stat::{Mode, UtimensatFlags, utimensat};
use nix::sys::time::TimeSpec;
use nix::unistd::mkfifo;

use crate::holders;
use crate::lab::{Lab, Repository, pause, runs, text};

/// Mounts the present revision, with the overlay read-only.
pub(crate) fn mount(repository: &Repository) {
    let checkout = check_out(repository);
    let (rdonly, union) = (repository.rdonly(), &repository.node.union);
    assert!(runs(&["mount", "--bind", text(&checkout), text(&rdonly)]), "cannot bind {}", rdonly.display());
    assert!(runs(&["mount", "-o", "remount,bind,ro", text(&rdonly)]), "cannot make {} read-only", rdonly.display());
    let (upper, work) = (repository.upper(), repository.spool("ofs_workdir"));
    let options = format!(
        "ro,redirect_dir=off,lowerdir={},upperdir={},workdir={}",
        rdonly.display(),
        upper.display(),
        work.display()
    );
    let source = format!("overlay_{}", repository.name);
    assert!(
        runs(&["mount", "-t", "overlay", &source, "-o", &options, text(union)]),
        "cannot mount {}",
        union.display()
    );
    let root = repository.reader().manifest().root_hash;
    fs::write(repository.spool("client.local"), format!("CVMFS_ROOT_HASH={root}\n")).unwrap();
}

/// Unmounts both, where they are mounted, lazily where somebody still uses them. Waits for other mount namespaces.
pub(crate) fn unmount(repository: &Repository) {
    for directory in [&repository.node.union, &repository.rdonly()] {
        while is_mounted(directory) {
            assert!(
                runs(&["umount", text(directory)]) || runs(&["umount", "-l", text(directory)]),
                "cannot unmount {}",
                directory.display()
            );
        }
    }
    while holders::is_mounted_elsewhere(&repository.rdonly()) {
        pause();
    }
}

/// Unmounts, empties the scratch area, mounts the present revision.
pub(crate) fn renew(lab: &Lab, command: &str, repository: &Repository) {
    unmount(repository);
    lab.point(command, "after-umount");
    for directory in [repository.upper(), repository.spool("ofs_workdir")] {
        // One that was killed here has left none, and must not be the last that could do this.
        fs::create_dir_all(&directory).unwrap();
        fs::remove_dir_all(&directory).unwrap();
        fs::create_dir_all(&directory).unwrap();
    }
    mount(repository);
}

fn is_mounted(directory: &Path) -> bool {
    holders::is_mount_point(Path::new("/proc/self/mountinfo"), directory)
}

/// Makes the overlay writable, or read-only; tells whether it could.
pub(crate) fn set_writable(repository: &Repository, writable: bool) -> bool {
    let options = if writable { "remount,rw" } else { "remount,ro" };
    runs(&["mount", "-o", options, text(&repository.node.union)])
}

pub(crate) fn is_writable(repository: &Repository) -> bool {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    let of = |line: &str| {
        let words: Vec<_> = line.split(' ').collect();
        (Some(*words.get(1)?) == repository.node.union.to_str())
            .then(|| words[3].split(',').any(|option| option == "rw"))
    };
    mounts.lines().filter_map(of).next_back().unwrap_or(false)
}

/// Whether the mount shows what is published.
pub(crate) fn is_up_to_date(repository: &Repository) -> bool {
    let root = repository.reader().manifest().root_hash;
    let mounted = fs::read_to_string(repository.spool("client.local")).unwrap_or_default();
    mounted == format!("CVMFS_ROOT_HASH={root}\n") && is_mounted(&repository.node.union)
}

/// The present revision as files.
fn check_out(repository: &Repository) -> PathBuf {
    let reader = repository.reader();
    let directory = repository.checkouts().join(reader.manifest().root_hash.to_string());
    if directory.exists() {
        return directory;
    }
    let part = repository.checkouts().join("part");
    let _ = fs::remove_dir_all(&part);
    fs::create_dir_all(&part).unwrap();
    let mut entries = Vec::new();
    let mut tree = reader.tree().unwrap();
    tree.walk(b"", |path, entry| {
        entries.push((path.to_vec(), entry.clone()));
        Ok(())
    })
    .unwrap();
    let at = |path: &[u8]| part.join(std::ffi::OsStr::from_bytes(path));
    for (path, entry) in &entries {
        let place = at(path);
        if entry.is_directory() {
            let _ = DirBuilder::new().mode(0o755).create(&place);
        } else if entry.is_symlink() {
            symlink(std::ffi::OsStr::from_bytes(&entry.symlink), &place).unwrap();
        } else if entry.is_file() {
            let mut content = tree.file(path).unwrap();
            io::copy(&mut content, &mut File::create(&place).unwrap()).unwrap();
        } else {
            mkfifo(&place, Mode::empty()).unwrap();
        }
    }
    // Last and from the bottom, since what is made in a directory changes its time.
    entries.iter().rev().for_each(|(path, entry)| dress(&at(path), entry));
    fs::rename(&part, &directory).unwrap();
    directory
}

fn dress(place: &Path, entry: &Entry) {
    lchown(place, Some(entry.uid), Some(entry.gid)).unwrap();
    if !entry.is_symlink() {
        fs::set_permissions(place, Permissions::from_mode(entry.permissions())).unwrap();
    }
    let mtime = TimeSpec::new(entry.mtime, 0);
    utimensat(AT_FDCWD, place, &mtime, &mtime, UtimensatFlags::NoFollowSymlink).unwrap();
}
