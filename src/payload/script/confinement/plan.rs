//! Finds the steps that make a script's view.

use std::ffi::CString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::unistd::{getegid, geteuid};

use super::privileges::Maps;
use super::shared::Shared;
use super::steps::Step;
use super::{Confinement, MOUNT_LIST, Plan, root};
use crate::payload::script::ScriptRun;

/// Where programs put temporary files whatever `TMPDIR` says: the script's own ones, in memory, and how much of it at most.
const TEMPORARY: [(&str, &str); 3] =
    [("/tmp", "mode=1777,size=25%"), ("/var/tmp", "mode=1777,size=25%"), ("/dev/shm", "mode=1777,size=25%")];
/// Sockets of the account's own services, of which one starts programs for whoever asks.
const ALWAYS_HIDDEN: &str = "/run/user";
const EMPTY: &str = "mode=0755,size=64k";

/// A place that the script needs.
pub(super) struct Needed {
    pub(super) path: PathBuf,
    pub(super) is_file: bool,
    pub(super) writable: bool,
}

impl Plan {
    /// Looks at the machine as it is now.
    pub(in crate::payload::script) fn new(script: &ScriptRun, confinement: &Confinement) -> io::Result<Self> {
        let directory = script.directory.canonicalize()?;
        let needed = [
            Needed { path: directory.clone(), is_file: false, writable: false },
            Needed { path: script.program.canonicalize()?, is_file: true, writable: false },
            Needed { path: confinement.writable.canonicalize()?, is_file: false, writable: true },
            Needed { path: script.temporary.canonicalize()?, is_file: false, writable: true },
        ];
        refuse_overlap(confinement, &needed)?;
        let covers = covers(confinement)?;
        let mounts: Vec<PathBuf> = confinement.mounts.iter().filter_map(|path| path.canonicalize().ok()).collect();

        let is_root = geteuid().is_root();
        let mut steps = vec![Step::Separate];
        if !is_root && root::is_needed(&mounts, &directory)? {
            steps.extend(root::steps(&mounts, &needed)?);
        } else if is_root && !mounts.is_empty() {
            let below = mounts.iter().map(|path| c_path(path)).collect::<io::Result<_>>()?;
            steps.push(Step::Release { below, except: c_path(&directory)? });
        }
        // Before what is above them is covered; put back in this order, in which an inner one comes later.
        for (slot, place) in needed.iter().enumerate() {
            steps.push(Step::Hold { slot, path: c_path(&place.path)? });
        }
        steps.push(Step::ReadOnly);
        for cover in &covers {
            steps.push(cover.step()?);
        }
        for (slot, place) in needed.iter().enumerate() {
            let cover = covers.iter().find(|cover| place.path.starts_with(&cover.path));
            let is_there = |outer: &Needed| !outer.is_file && place.path.starts_with(&outer.path);
            if let Some(cover) = cover
                && !needed[..slot].iter().any(is_there)
            {
                make_way(&mut steps, &cover.path, place)?;
            }
            if cover.is_some() || place.writable {
                steps.push(Step::Uncover { slot, at: c_path(&place.path)?, writable: place.writable });
            }
        }
        for cover in covers.iter().filter(|cover| cover.seal) {
            steps.push(Step::Seal(c_path(&cover.path)?));
        }
        if Path::new("/dev/mqueue").is_dir() {
            steps.push(Step::Queues);
        }
        steps.push(Step::Processes);
        Ok(Self {
            maps: (!is_root).then(|| Maps::new(geteuid(), getegid())),
            steps,
            account: script.run_as.filter(|_| is_root),
            directory: c_path(&directory)?,
            buffer: vec![0; if mounts.is_empty() { MOUNT_LIST / 4 } else { MOUNT_LIST }],
            shared: Shared::new()?,
        })
    }
}

/// What covers a directory or a file.
struct Cover {
    path: PathBuf,
    options: &'static str,
    is_file: bool,
    seal: bool,
}

impl Cover {
    fn step(&self) -> io::Result<Step> {
        let at = c_path(&self.path)?;
        if self.is_file {
            return Ok(Step::Mask(at));
        }
        Ok(Step::Cover { at, options: CString::new(self.options)? })
    }
}

/// All that is covered, none within another.
fn covers(confinement: &Confinement) -> io::Result<Vec<Cover>> {
    let mut covers = Vec::new();
    for (path, options) in TEMPORARY {
        covers.extend(existing(Path::new(path))?.map(|(path, is_file)| Cover { path, options, is_file, seal: false }));
    }
    let hidden = confinement.hidden.iter().map(PathBuf::as_path);
    for path in hidden.chain([Path::new(ALWAYS_HIDDEN)]) {
        let cover = |(path, is_file)| Cover { path, options: EMPTY, is_file, seal: !is_file };
        covers.extend(existing(path)?.map(cover));
    }
    covers.sort_by(|a, b| a.path.cmp(&b.path));
    let mut outermost: Vec<Cover> = Vec::new();
    for cover in covers {
        if !outermost.iter().any(|outer| cover.path.starts_with(&outer.path)) {
            outermost.push(cover);
        }
    }
    Ok(outermost)
}

/// What is to be hidden cannot lie where the script writes: it could move it, and is given back what it held before.
fn refuse_overlap(confinement: &Confinement, needed: &[Needed]) -> io::Result<()> {
    for hidden in &confinement.hidden {
        let Some((hidden, _)) = existing(hidden)? else { continue };
        let inside = |place: &&Needed| place.writable && is_strictly_within(&hidden, &place.path);
        if let Some(place) = needed.iter().find(inside) {
            let (hidden, place) = (hidden.display(), place.path.display());
            return Err(io::Error::other(format!("{hidden} must be hidden, and the script writes in {place}")));
        }
    }
    Ok(())
}

/// The real path of what is there, and whether it is something else than a directory. What this process cannot find, no
/// script of its account can find either.
fn existing(path: &Path) -> io::Result<Option<(PathBuf, bool)>> {
    let found = path.canonicalize().and_then(|path| Ok((path.metadata()?.is_dir(), path)));
    match found {
        Ok((is_directory, path)) => Ok(Some((path, !is_directory))),
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied | io::ErrorKind::NotADirectory
            ) =>
        {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Makes what a place is bound to, in the empty file system that covers a directory above it.
pub(super) fn make_way(steps: &mut Vec<Step>, cover: &Path, place: &Needed) -> io::Result<()> {
    let mut above: Vec<&Path> = place.path.ancestors().skip(1).take_while(|path| *path != cover).collect();
    above.retain(|path| path.starts_with(cover));
    for directory in above.into_iter().rev() {
        steps.push(Step::Directory(c_path(directory)?));
    }
    if place.path == cover {
        return Ok(());
    }
    let at = c_path(&place.path)?;
    steps.push(if place.is_file { Step::File(at) } else { Step::Directory(at) });
    Ok(())
}

fn is_strictly_within(path: &Path, directory: &Path) -> bool {
    path != directory && path.starts_with(directory)
}

pub(super) fn c_path(path: &Path) -> io::Result<CString> {
    Ok(CString::new(path.as_os_str().as_bytes())?)
}
