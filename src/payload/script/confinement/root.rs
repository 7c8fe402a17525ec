//! A new root that is made of everything but the mounts that a script must not hold.
//!
//! In a user namespace the mounts that were there before are locked: none can be unmounted by itself. But a root that is
//! made of other parts can be had, and the old one can be let go of as a whole.

use std::ffi::CString;
use std::io;
use std::path::{Path, PathBuf};

use super::plan::{Needed, c_path, make_way};
use super::steps::Step;
use crate::mountinfo;

/// Where the new root is put together. Nobody misses what is there, since scripts have one of their own.
const STAGE: &str = "/tmp";

/// Tells whether anything is mounted that a script in `root` must let go of.
pub(super) fn is_needed(mounts: &[PathBuf], root: &Path) -> io::Result<bool> {
    use std::os::unix::ffi::OsStrExt;
    let text = std::fs::read("/proc/self/mountinfo")?;
    let root = root.as_os_str().as_bytes();
    let mut buffer = [0; 4096];
    Ok(mountinfo::mounts(&text).any(|mount| {
        mountinfo::unescape(mount.point, &mut buffer).is_none_or(|point| {
            mounts.iter().any(|directory| mountinfo::is_within(point, directory.as_os_str().as_bytes()))
                && !mountinfo::is_within(point, root)
                && !mountinfo::is_within(root, point)
        })
    }))
}

/// The steps to a root in which of `mounts` there is only what is needed.
pub(super) fn steps(mounts: &[PathBuf], needed: &[Needed]) -> io::Result<Vec<Step>> {
    let stage = Path::new(STAGE).canonicalize()?;
    let mut steps = Vec::new();
    let covered = |place: &&(usize, &Needed)| place.1.path.starts_with(&stage);
    let places: Vec<_> = needed.iter().enumerate().collect();
    for (slot, place) in places.iter().filter(covered) {
        steps.push(Step::Hold { slot: *slot, path: c_path(&place.path)? });
    }
    steps.push(Step::Cover { at: c_path(&stage)?, options: CString::new("mode=0755,size=16m")? });
    let mut left_out = mounts.to_vec();
    left_out.push(stage.clone());
    show(&mut steps, &stage, Path::new("/"), &mut left_out)?;
    for (slot, place) in places {
        let above = left_out.iter().filter(|directory| place.path.starts_with(directory));
        let Some(hidden) = above.min_by_key(|directory| directory.as_os_str().len()) else { continue };
        let there = |path: &Path| staged(&stage, path);
        let is_there = |outer: &Needed| !outer.is_file && place.path.starts_with(&outer.path);
        if needed[..slot].iter().any(is_there) {
            continue;
        }
        make_way(&mut steps, &there(hidden), &Needed { path: there(&place.path), ..*place })?;
        let at = c_path(&there(&place.path))?;
        steps.push(match place.path.starts_with(&stage) {
            // What is read-only becomes so with everything else.
            true => Step::Uncover { slot, at, writable: true },
            false => Step::Graft { from: c_path(&place.path)?, at },
        });
    }
    steps.push(Step::Root(c_path(&stage)?));
    Ok(steps)
}

fn staged(stage: &Path, path: &Path) -> PathBuf {
    stage.join(path.strip_prefix("/").unwrap_or(path))
}

/// Shows what is in a directory: whole, but for what leads to something that is left out. One that this account may not
/// look into is left out, too.
fn show(steps: &mut Vec<Step>, stage: &Path, directory: &Path, left_out: &mut Vec<PathBuf>) -> io::Result<()> {
    let entries = match std::fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            left_out.push(directory.to_owned());
            return Ok(());
        }
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        let (from, kind) = (entry.path(), entry.file_type()?);
        let at = staged(stage, &from);
        if kind.is_symlink() {
            let Ok(target) = std::fs::read_link(&from) else { continue };
            steps.push(Step::Link { target: c_path(&target)?, at: c_path(&at)? });
        } else if left_out.contains(&from) {
            steps.push(Step::Directory(c_path(&at)?));
        } else if left_out.iter().any(|path| path.starts_with(&from)) {
            steps.push(Step::Directory(c_path(&at)?));
            show(steps, stage, &from, left_out)?;
        } else {
            let place = c_path(&at)?;
            steps.push(if kind.is_dir() { Step::Directory(place) } else { Step::File(place) });
            steps.push(Step::Graft { from: c_path(&from)?, at: c_path(&at)? });
        }
    }
    Ok(())
}
