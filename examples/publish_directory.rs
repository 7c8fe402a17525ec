//! Publishes a directory into a CernVM-FS repository on this machine, as one revision, with the library alone: no
//! `cvmfs_server`, no FUSE, no root.
//!
//! ```text
//! cargo run --release --example publish_directory -- SOURCE REPOSITORIES KEYS NAME [PATH]
//! ```
//!
//! The repository `NAME` is made in `REPOSITORIES`, with new keys in `KEYS`, if it is not there. What `SOURCE` holds takes
//! the place of whatever is at `PATH` in the repository (default: `/`).

use std::collections::{HashMap, VecDeque};
use std::error::Error;
use std::fs::{self, File, Metadata};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use conveyor::cvmfs::catalog::join;
use conveyor::cvmfs::edit::{NewEntry, NewKind};
use conveyor::cvmfs::stratum0::{CreateOptions, Draft, Held, Stratum0};
use conveyor::cvmfs::xattr::Xattrs;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let [source, repositories, keys, name, rest @ ..] = &arguments[..] else {
        return Err("usage: publish_directory SOURCE REPOSITORIES KEYS NAME [PATH]".into());
    };
    let path = rest.first().map_or("", |path| path.trim_matches('/'));
    let now = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs())?;

    let directory = Path::new(repositories).join(name);
    let mut stratum0 = Stratum0::at(&directory, name, keys);
    if !stratum0.exists() {
        stratum0 = Stratum0::create(&directory, name, keys, &CreateOptions::default(), now)?;
    }
    // The lock is held until the draft is committed, or dropped.
    let mut draft = stratum0.begin(stratum0.lock()?.map_err(Held::into_error)?, now)?;
    let mut import = Import { draft: &mut draft, waiting: VecDeque::new(), links: HashMap::new() };
    import.clear(path.as_bytes())?;
    import.directory(Path::new(source), path.as_bytes())?;
    import.take_stored(true)?;
    let progress = draft.progress();
    let manifest = draft.commit(None, now, &|_| {})?;
    println!(
        "{name}: revision {}, root hash {}, {} files of {} bytes, {} bytes stored",
        manifest.revision, manifest.root_hash, progress.files, progress.bytes_read, progress.bytes_stored
    );
    Ok(())
}

/// Puts a tree of files into a draft. Contents are stored by threads of the draft's, which give them back in order.
struct Import<'a> {
    draft: &'a mut Draft,
    /// Files whose contents are on their way, or have to wait for one that is.
    waiting: VecDeque<(Vec<u8>, NewEntry)>,
    /// The first path of each inode that has several.
    links: HashMap<(u64, u64), Vec<u8>>,
}

impl Import<'_> {
    /// Empties the path, and makes the directories above it.
    fn clear(&mut self, path: &[u8]) -> Result<(), Box<dyn Error>> {
        if path.is_empty() {
            for entry in self.draft.tree().list(b"")? {
                self.draft.tree().remove(&entry.name)?;
            }
            return Ok(());
        }
        let ends = (0..path.len()).filter(|at| path[*at] == b'/');
        for end in ends {
            if self.draft.tree().lookup(&path[..end])?.is_none() {
                let above = entry(&fs::metadata("/")?, NewKind::Directory);
                self.draft.tree().put(&path[..end], &above)?;
            }
        }
        self.draft.tree().remove(path)?;
        Ok(())
    }

    fn directory(&mut self, place: &Path, path: &[u8]) -> Result<(), Box<dyn Error>> {
        let mut directory = entry(&fs::metadata(place)?, NewKind::Directory);
        directory.xattrs = xattrs(place)?;
        self.draft.tree().put(path, &directory)?;
        let mut places: Vec<PathBuf> =
            fs::read_dir(place)?.map(|entry| Ok(entry?.path())).collect::<Result<_, std::io::Error>>()?;
        places.sort();
        for place in places {
            let name = place.file_name().unwrap_or_default().as_bytes();
            self.entry(&place, &join(path, name))?;
        }
        Ok(())
    }

    fn entry(&mut self, place: &Path, path: &[u8]) -> Result<(), Box<dyn Error>> {
        let metadata = fs::symlink_metadata(place)?;
        let kind = metadata.file_type();
        if kind.is_dir() {
            return self.directory(place, path);
        }
        if kind.is_file() {
            return self.file(place, path, &metadata);
        }
        let kind = if kind.is_symlink() {
            NewKind::Symlink { target: fs::read_link(place)?.as_os_str().as_bytes().to_vec() }
        } else if kind.is_fifo() {
            NewKind::Fifo
        } else if kind.is_socket() {
            NewKind::Socket
        } else if kind.is_char_device() {
            NewKind::CharacterDevice { device: metadata.rdev() }
        } else {
            NewKind::BlockDevice { device: metadata.rdev() }
        };
        self.draft.tree().put(path, &entry(&metadata, kind))?;
        Ok(())
    }

    fn file(&mut self, place: &Path, path: &[u8], metadata: &Metadata) -> Result<(), Box<dyn Error>> {
        if metadata.nlink() > 1 {
            let inode = (metadata.dev(), metadata.ino());
            if let Some(first) = self.links.get(&inode).cloned() {
                self.take_stored(true)?;
                self.draft.tree().link(path, &first)?;
                return Ok(());
            }
            self.links.insert(inode, path.to_vec());
        }
        let mut file = entry(metadata, NewKind::Directory);
        file.xattrs = xattrs(place)?;
        self.draft.send(&mut File::open(place)?)?;
        // Its kind comes when its content is stored.
        self.waiting.push_back((path.to_vec(), file));
        self.take_stored(false)
    }

    /// Writes the files whose contents are stored by now, or all of them.
    fn take_stored(&mut self, all: bool) -> Result<(), Box<dyn Error>> {
        while let Some((_, kind)) = self.draft.next_stored(all)? {
            let Some((path, file)) = self.waiting.pop_front() else { break };
            self.draft.tree().put(&path, &NewEntry { kind, ..file })?;
        }
        Ok(())
    }
}

fn entry(metadata: &Metadata, kind: NewKind) -> NewEntry {
    NewEntry {
        kind,
        permissions: metadata.mode() & 0o7777,
        mtime: metadata.mtime(),
        mtime_ns: u32::try_from(metadata.mtime_nsec()).ok(),
        uid: metadata.uid(),
        gid: metadata.gid(),
        xattrs: Xattrs::new(),
    }
}

/// The attributes that users set; the others are about this machine.
fn xattrs(place: &Path) -> Result<Xattrs, Box<dyn Error>> {
    let mut xattrs = Xattrs::new();
    for name in xattr::list(place).into_iter().flatten().filter(|name| name.as_bytes().starts_with(b"user.")) {
        if let Some(value) = xattr::get(place, &name)? {
            xattrs.set(name.as_bytes(), &value)?;
        }
    }
    Ok(xattrs)
}
