//! Removing all the rest.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::super::super::Error;
use super::super::super::hash::ContentHash;
use super::GcReport;
use super::mark::Marked;

/// Looks at every file in the 256 folders of `data` and removes, or only names, the objects that are not marked. What
/// has no object's name, and what came after `started`, stays: somebody whom our lock does not bind is at work.
pub(super) fn sweep(
    base: &Path,
    marked: &Marked,
    started: i64,
    remove: bool,
    removed: &mut dyn FnMut(&str, u64),
    report: &mut GcReport,
    passing: &dyn Fn(&str),
) -> Result<(), Error> {
    for byte in 0..=u8::MAX {
        let folder = format!("{byte:02x}");
        let directory = base.join("data").join(&folder);
        let failed = || Error::io(format!("list {}", directory.display()));
        let entries = match fs::read_dir(&directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Err(error) => return Err(failed()(error)),
        };
        for entry in entries {
            let entry = entry.map_err(failed())?;
            let name = entry.file_name();
            let object = name.to_str().and_then(|name| ContentHash::from_object_name(&folder, name));
            let Some((hash, kind)) = object else {
                report.left_alone += 1;
                continue;
            };
            if marked.objects.contains(hash.digest()) {
                continue;
            }
            let metadata = match entry.metadata() {
                Ok(metadata) => metadata,
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                Err(error) => return Err(failed()(error)),
            };
            if !metadata.is_file() || metadata.mtime() > started {
                report.left_alone += 1;
                continue;
            }
            if remove {
                let path = entry.path();
                fs::remove_file(&path).map_err(Error::io(format!("remove {}", path.display())))?;
                passing("gc-removed");
            }
            *report.removed.entry(kind).or_default() += 1;
            report.removed_bytes += metadata.len();
            removed(&hash.object_path(kind), metadata.len());
        }
    }
    Ok(())
}
