//! Publishing an archive of changes: what the receiver does, and `cvmfs_server` where there is no gateway.

use std::io::Read;
use std::path::Path;

use conveyor::cvmfs::edit::{NewEntry, NewKind};
use conveyor::cvmfs::manifest::Manifest;
use conveyor::cvmfs::stratum0::{Draft, NewTag, Stratum0};
use conveyor::cvmfs::xattr::Xattrs;
use tar::{Archive, EntryType};

/// Makes one revision of archives, in this order. `passing` hears the steps of [`Draft::commit`].
///
/// Waits for others that publish into the repository; the tag is looked up with the lock held, so that of two with the same
/// tag one fails.
pub(crate) fn publish(
    stratum0: &Stratum0,
    archives: &[&Path],
    tag: Option<NewTag<'_>>,
    passing: &dyn Fn(&str),
) -> Result<Manifest, String> {
    let now = jiff::Timestamp::now().as_second();
    let lock = loop {
        match stratum0.lock().map_err(|error| error.to_string())? {
            Ok(lock) => break lock,
            Err(_) => std::thread::sleep(std::time::Duration::from_millis(20)),
        }
    };
    let mut draft = stratum0.begin(lock, now).map_err(|error| error.to_string())?;
    if let Some(tag) = tag
        && draft.base().tag(tag.name).map_err(|error| error.to_string())?.is_some()
    {
        return Err(format!("Tag name '{}' is already in use.", tag.name));
    }
    for archive in archives {
        apply(&mut draft, std::fs::File::open(archive).map_err(|error| error.to_string())?)?;
    }
    draft.commit(tag, now, passing).map_err(|error| chain(&error))
}

fn chain(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(|| error.to_string(), |source| format!("{error}: {}", chain(source)))
}

fn apply(draft: &mut Draft, archive: impl Read) -> Result<(), String> {
    let mut archive = Archive::new(archive);
    for entry in archive.entries().map_err(|error| error.to_string())? {
        let mut entry = entry.map_err(|error| error.to_string())?;
        let path = entry.path_bytes().into_owned();
        let path = path.strip_suffix(b"/").unwrap_or(&path);
        let path = if path == b"." { b"" } else { path };
        let header = entry.header().clone();
        let number = |word: Result<Option<u32>, std::io::Error>| word.ok().flatten().unwrap_or(0);
        let device = nix::libc::makedev(number(header.device_major()), number(header.device_minor()));
        let kind = match header.entry_type() {
            EntryType::Char if device == 0 => {
                draft.tree().remove(path).map_err(|error| error.to_string())?;
                continue;
            }
            EntryType::Char => NewKind::CharacterDevice { device },
            EntryType::Block => NewKind::BlockDevice { device },
            EntryType::Fifo => NewKind::Fifo,
            EntryType::Directory => NewKind::Directory,
            EntryType::Symlink => {
                NewKind::Symlink { target: entry.link_name_bytes().ok_or("a link to nothing")?.into_owned() }
            }
            _ => draft.store(&mut entry).map_err(|error| error.to_string())?,
        };
        let field = |value: std::io::Result<u64>| value.map_err(|error| error.to_string());
        let small = |value: u64| u32::try_from(value).map_err(|error| error.to_string());
        let new = NewEntry {
            kind,
            permissions: header.mode().map_err(|error| error.to_string())? & 0o7777,
            mtime: i64::try_from(field(header.mtime())?).map_err(|error| error.to_string())?,
            mtime_ns: None,
            uid: small(field(header.uid())?)?,
            gid: small(field(header.gid())?)?,
            xattrs: Xattrs::new(),
        };
        draft.tree().put(path, &new).map_err(|error| error.to_string())?;
    }
    Ok(())
}
