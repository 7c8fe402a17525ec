//! What the demo publishes: this very program, and the tree that it was built from.

use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

/// Documents that are published where the source tree is not at hand, as with an installed binary.
const DOCUMENTS: [(&str, &str); 2] = [
    ("ARCHITECTURE.md", include_str!("../../../ARCHITECTURE.md")),
    ("CHANGELOG.md", include_str!("../../../CHANGELOG.md")),
];

/// Writes a tar archive (zstd) with the running program as `bin/conveyor`.
pub(super) fn program(archive: &Path) -> anyhow::Result<()> {
    let program = std::env::current_exe().context("cannot find the running program")?;
    pack(archive, |tar| {
        let mut header = tar::Header::new_gnu();
        let mut file = File::open(&program)?;
        header.set_metadata(&file.metadata()?);
        header.set_mode(0o755);
        tar.append_data(&mut header, "bin/conveyor", &mut file)
    })
}

/// Writes a tar archive (zstd) with the source tree; returns where it was found, if it was.
pub(super) fn tree(archive: &Path) -> anyhow::Result<Option<PathBuf>> {
    let found = find();
    pack(archive, |tar| match &found {
        Some(root) => {
            let wanted = |entry: &walkdir::DirEntry| {
                entry.depth() == 0 || !matches!(entry.file_name().to_str(), Some("target" | ".git"))
            };
            for entry in walkdir::WalkDir::new(root).sort_by_file_name().into_iter().filter_entry(wanted) {
                let entry = entry?;
                let Ok(name) = entry.path().strip_prefix(root) else { continue };
                let kind = entry.file_type();
                if !name.as_os_str().is_empty() && (kind.is_file() || kind.is_dir()) {
                    tar.append_path_with_name(entry.path(), name)?;
                }
            }
            Ok(())
        }
        None => {
            for (name, text) in DOCUMENTS {
                let mut header = tar::Header::new_gnu();
                header.set_size(text.len() as u64);
                header.set_mode(0o644);
                tar.append_data(&mut header, name, text.as_bytes())?;
            }
            Ok(())
        }
    })?;
    Ok(found)
}

fn pack(
    archive: &Path,
    fill: impl FnOnce(&mut tar::Builder<zstd::Encoder<'static, File>>) -> std::io::Result<()>,
) -> anyhow::Result<()> {
    let write = || {
        let mut tar = tar::Builder::new(zstd::Encoder::new(File::create(archive)?, 1)?);
        tar.follow_symlinks(false);
        fill(&mut tar)?;
        tar.into_inner()?.finish().map(drop)
    };
    write().with_context(|| format!("cannot write {}", archive.display()))
}

/// The source tree above the program or the working directory.
fn find() -> Option<PathBuf> {
    let program = std::env::current_exe().ok();
    let here = std::env::current_dir().ok();
    [program, here]
        .into_iter()
        .flatten()
        .find_map(|start| start.ancestors().find(|folder| is_ours(folder)).map(Path::to_owned))
}

fn is_ours(folder: &Path) -> bool {
    folder.join("src/cli/dev").is_dir()
        && std::fs::read_to_string(folder.join("Cargo.toml")).is_ok_and(|text| text.contains("name = \"conveyor\""))
}
