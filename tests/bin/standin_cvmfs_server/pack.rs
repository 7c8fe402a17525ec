//! The changes of a transaction, from the overlay's upper directory, as a tar archive: what is removed is in it as the
//! overlay has it, a character device 0/0.

use std::fs::{self, File, Metadata};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use tar::{Builder, EntryType, Header};

/// Writes the changes at or below `within`. What lies elsewhere is dropped without a word, as it was measured.
pub(crate) fn pack(upper: &Path, within: &[u8], archive: &Path) {
    let mut builder = Builder::new(File::create(archive).unwrap());
    let walk = walkdir::WalkDir::new(upper).min_depth(usize::from(!within.is_empty())).sort_by_file_name();
    for entry in walk {
        let entry = entry.unwrap();
        let path = entry.path().strip_prefix(upper).unwrap();
        if is_within(path.as_os_str().as_bytes(), within) {
            add(&mut builder, path, entry.path(), &entry.metadata().unwrap());
        }
    }
    builder.finish().unwrap();
}

fn is_within(path: &[u8], within: &[u8]) -> bool {
    match path.strip_prefix(within) {
        Some(rest) => within.is_empty() || rest.is_empty() || rest.starts_with(b"/"),
        None => false,
    }
}

fn add(builder: &mut Builder<File>, path: &Path, place: &Path, metadata: &Metadata) {
    let kind = metadata.file_type();
    // The root has no name, which an archive cannot say.
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    let mut header = Header::new_gnu();
    header.set_mode(metadata.mode() & 0o7777);
    header.set_uid(metadata.uid().into());
    header.set_gid(metadata.gid().into());
    header.set_mtime(u64::try_from(metadata.mtime()).unwrap_or(0));
    header.set_size(0);
    let mut mark = |header: &mut Header, kind, device: u64| {
        header.set_entry_type(kind);
        header.set_device_major(nix::libc::major(device)).unwrap();
        header.set_device_minor(nix::libc::minor(device)).unwrap();
        builder.append_data(header, path, std::io::empty()).unwrap();
    };
    if kind.is_dir() {
        if xattr::get(place, "trusted.overlay.opaque").unwrap().is_some() {
            mark(&mut header.clone(), EntryType::Char, 0);
        }
        mark(&mut header, EntryType::Directory, 0);
    } else if kind.is_char_device() {
        mark(&mut header, EntryType::Char, metadata.rdev());
    } else if kind.is_block_device() {
        mark(&mut header, EntryType::Block, metadata.rdev());
    } else if kind.is_fifo() {
        mark(&mut header, EntryType::Fifo, 0);
    } else if kind.is_symlink() {
        header.set_entry_type(EntryType::Symlink);
        builder.append_link(&mut header, path, fs::read_link(place).unwrap()).unwrap();
    } else if kind.is_file() {
        header.set_size(metadata.len());
        builder.append_data(&mut header, path, File::open(place).unwrap()).unwrap();
    }
}
