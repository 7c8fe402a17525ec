//! Brings a local file to the server.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use indicatif::{ProgressBar, ProgressStyle};

use super::failure::{Usage, tell};
use crate::client::Client;
use crate::domain::digest::{Checksum, Sha256Digest};
use crate::payload::fetch::{FetchError, measure};

/// Uploads a file unless the server has it, and gives its digest. With a checksum it is verified first.
pub(super) async fn upload(client: &Client, path: &Path, checksum: Option<Checksum>) -> anyhow::Result<Sha256Digest> {
    let owned = path.to_owned();
    let (digest, size) = tokio::task::spawn_blocking(move || read(&owned, checksum)).await??;
    if client.has_blob(digest).await? {
        return Ok(digest);
    }
    let bar = ProgressBar::new(size);
    if let Ok(style) = ProgressStyle::with_template("{msg} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec}") {
        bar.set_style(style);
    }
    bar.set_message(format!("uploading {}", path.display()));
    let shown = bar.clone();
    let stored = client.put_blob_file(path, digest, size, Arc::new(move |sent| shown.set_position(sent))).await;
    bar.finish_and_clear();
    let stored = stored.with_context(|| format!("cannot upload {}", path.display()))?;
    anyhow::ensure!(stored.digest == digest, "the server stored {} as {}, not {digest}", path.display(), stored.digest);
    if !bar.is_hidden() {
        tell(&format!("uploaded {} ({size} bytes)", path.display()));
    }
    Ok(digest)
}

/// Reads a file once: its digest and size, verified.
fn read(path: &Path, checksum: Option<Checksum>) -> anyhow::Result<(Sha256Digest, u64)> {
    let unreadable = |error| Usage::new(format!("cannot read the payload {}: {error}", path.display()));
    let file = File::open(path).map_err(unreadable)?;
    if !file.metadata()?.is_file() {
        return Err(Usage::new(format!("the payload {} is not a file", path.display()))
            .with_hint("pack a directory with tar")
            .into());
    }
    match measure(path, checksum.as_ref()) {
        Ok(content) => Ok((content.sha256, content.size)),
        Err(FetchError::Checksum { expected, found, .. }) => {
            anyhow::bail!("{} has the checksum {found}, not {expected}: nothing was submitted", path.display())
        }
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::cli::failure;

    #[test]
    fn a_file_is_verified_before_anything_is_sent() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "hello\n").unwrap();
        let sums = [
            "b1946ac92492d2347c6235b4d2611184",
            "sha1:f572d396fae9206628714fb2ce00f72e94f2258f",
            "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03",
        ];
        for sum in sums {
            assert_eq!(read(file.path(), Some(sum.parse().unwrap())).unwrap(), (Sha256Digest::of(b"hello\n"), 6));
        }
        let error = read(file.path(), Some("0".repeat(32).parse().unwrap())).unwrap_err();
        assert!(error.to_string().contains("nothing was submitted"));
        assert_eq!(failure::code(&read(Path::new("/nonexistent"), None).unwrap_err()), failure::USAGE);
        assert!(read(Path::new("/"), None).is_err());
    }
}
