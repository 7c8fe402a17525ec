use std::path::{Path, PathBuf};

use crate::domain::digest::Sha256Digest;
use crate::store::blobs::{BlobError, BlobStore};

/// Every file below a directory.
fn files(root: &Path) -> Vec<PathBuf> {
    let entries = walkdir::WalkDir::new(root).into_iter().map(Result::unwrap);
    entries.filter(|entry| entry.file_type().is_file()).map(walkdir::DirEntry::into_path).collect()
}

#[tokio::test]
async fn a_blob_is_stored_under_its_digest() {
    let directory = tempfile::tempdir().unwrap();
    let blobs = BlobStore::open(directory.path(), 100).unwrap();
    let digest = Sha256Digest::of(b"content");
    assert_eq!(blobs.size(digest).await.unwrap(), None);
    assert_eq!(blobs.put(digest, &b"content"[..]).await.unwrap(), 7);
    assert_eq!(blobs.size(digest).await.unwrap(), Some(7));
    assert_eq!(std::fs::read(blobs.path(digest)).unwrap(), b"content");
    assert_eq!(files(directory.path()), [blobs.path(digest)]);
}

#[tokio::test]
async fn a_body_that_does_not_match_or_is_too_large_leaves_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let blobs = BlobStore::open(directory.path(), 10).unwrap();
    let digest = Sha256Digest::of(b"content");
    let error = blobs.put(digest, &b"forged"[..]).await.unwrap_err();
    assert!(
        matches!(error, BlobError::Mismatch { wanted, found } if wanted == digest && found == Sha256Digest::of(b"forged"))
    );
    let error = blobs.put(digest, &b"eleven byte"[..]).await.unwrap_err();
    assert!(matches!(error, BlobError::TooLarge { limit: 10 }));
    assert_eq!(files(directory.path()), Vec::<PathBuf>::new());
    assert_eq!(blobs.put(Sha256Digest::of(b"ten  bytes"), &b"ten  bytes"[..]).await.unwrap(), 10);
}

#[tokio::test]
async fn what_an_earlier_life_left_half_done_is_removed_and_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    let blobs = BlobStore::open(directory.path(), 100).unwrap();
    let digest = Sha256Digest::of(b"content");
    blobs.put(digest, &b"content"[..]).await.unwrap();
    std::fs::write(directory.path().join("tmp/half"), b"con").unwrap();
    let blobs = BlobStore::open(directory.path(), 100).unwrap();
    assert_eq!(files(directory.path()), [blobs.path(digest)]);
}

#[tokio::test]
async fn the_same_blob_sent_by_many_at_once_is_there_once() {
    let directory = tempfile::tempdir().unwrap();
    let blobs = BlobStore::open(directory.path(), 10_000_000).unwrap();
    let content: &'static [u8] = vec![7; 1_000_000].leak();
    let digest = Sha256Digest::of(content);
    let puts: Vec<_> = (0..8)
        .map(|_| {
            let blobs = blobs.clone();
            tokio::spawn(async move { blobs.put(digest, content).await })
        })
        .collect();
    for put in puts {
        assert_eq!(put.await.unwrap().unwrap(), 1_000_000);
    }
    assert_eq!(files(directory.path()), [blobs.path(digest)]);
    assert_eq!(std::fs::read(blobs.path(digest)).unwrap(), content);
}

#[tokio::test]
async fn a_body_that_breaks_off_leaves_nothing() {
    struct Broken;
    impl tokio::io::AsyncRead for Broken {
        fn poll_read(
            self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
            _: &mut tokio::io::ReadBuf<'_>,
        ) -> std::task::Poll<std::io::Result<()>> {
            std::task::Poll::Ready(Err(std::io::ErrorKind::ConnectionReset.into()))
        }
    }
    let directory = tempfile::tempdir().unwrap();
    let blobs = BlobStore::open(directory.path(), 100).unwrap();
    let error = blobs.put(Sha256Digest::of(b"content"), Broken).await.unwrap_err();
    assert!(matches!(error, BlobError::Receive(_)));
    assert_eq!(files(directory.path()), Vec::<PathBuf>::new());
}
