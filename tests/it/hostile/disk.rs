//! A disk that is full.

use std::io::Write;
use std::path::Path;

use conveyor::domain::digest::Sha256Digest;
use conveyor::domain::job::spec::{Payload, Source};

use super::refused;
use crate::harness::{Dev, Http, Origin, Page, REPOSITORY, job, missing, noise, until};

/// Takes all but `leave` bytes of a file system; they are given back when the file is removed.
fn fill(directory: &Path, leave: u64) -> std::path::PathBuf {
    let path = directory.join("filler");
    let mut file = std::fs::File::create(&path).unwrap();
    let piece = vec![1; 1 << 16];
    let mut size = 0;
    while let Ok(n) = file.write(&piece) {
        size += n as u64;
    }
    file.set_len(size.saturating_sub(leave)).unwrap();
    path
}

#[test]
fn a_full_disk_is_said_and_survived() {
    let Some(dev) = Dev::start_on_small_disk(32) else {
        missing("small-disk", Some("only root can mount a small file system in a namespace of its own".into()));
        return;
    };
    let http = Http::new(dev.url(), dev.token());
    dev.publish(job(REPOSITORY, "/before", dev.script("echo 1 >before/file")));
    let origin = Origin::start();
    let noise = noise(8_000_000);

    // Nothing is accepted, and that is said.
    let filler = fill(dev.state(), 0);
    let blob = format!("/api/v1/blobs/{}", Sha256Digest::of(&noise));
    refused("a blob", &http.send("PUT", &blob, "", &noise), 507, "storage_full");
    let spec = serde_json::to_vec(&[job(REPOSITORY, "/x", Payload::Empty)]).unwrap();
    let answer = until("the database has no room left", || {
        let answer = http.post("/api/v1/jobs", &serde_json::to_vec(&[job(REPOSITORY, "/x", Payload::Empty)]).unwrap());
        (answer.status != 201).then_some(answer)
    });
    refused("a job", &answer, 507, "storage_full");
    assert_eq!(http.get("/healthz").status, 200);
    std::fs::remove_file(&filler).unwrap();
    assert_eq!(http.post("/api/v1/jobs", &spec).status, 201);

    // The publisher has no room, the database has.
    let filler = fill(dev.state(), 3 << 20);
    let mut archive = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(noise.len() as u64);
    header.set_mode(0o644);
    archive.append_data(&mut header, "large", &noise[..]).unwrap();
    let url = origin.page("/large.tar", Page::Content(archive.into_inner().unwrap()));
    let large =
        || job(REPOSITORY, "/large", Payload::Tarball { source: Source::Url { url: url.clone(), checksum: None } });
    let failure = dev.fail(large());
    assert!(failure.message.to_lowercase().contains("no space left"), "{failure:?}");
    std::fs::remove_file(&filler).unwrap();

    dev.publish(large());
    assert_eq!(dev.published("large/large").unwrap(), noise);
    assert_eq!(dev.published("before/file").unwrap(), b"1\n");
}
