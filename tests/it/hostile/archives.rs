//! Archives that climb, link, cheat or burst.

use std::io::Write;

use tar::EntryType;

use super::Target;
use crate::harness::{REPOSITORY, job, noise};

/// An archive of entries as they are: what a proper program would refuse to write.
#[derive(Default)]
struct Archive(Vec<u8>);

impl Archive {
    fn entry(mut self, name: &[u8], kind: EntryType, target: &[u8], content: &[u8]) -> Self {
        let mut header = tar::Header::new_gnu();
        header.as_old_mut().name[..name.len()].copy_from_slice(name);
        header.as_old_mut().linkname[..target.len()].copy_from_slice(target);
        header.set_entry_type(kind);
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header.set_mtime(1);
        header.set_cksum();
        self.0.extend_from_slice(header.as_bytes());
        self.0.extend_from_slice(content);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    fn file(self, name: &str, content: &[u8]) -> Self {
        self.entry(name.as_bytes(), EntryType::Regular, b"", content)
    }

    fn link(self, name: &str, target: &str) -> Self {
        self.entry(name.as_bytes(), EntryType::Symlink, target.as_bytes(), b"")
    }

    fn end(mut self) -> Vec<u8> {
        self.0.resize(self.0.len() + 1024, 0);
        self.0
    }
}

fn good() -> Archive {
    Archive::default().file("good", b"good")
}

fn gzip(content: &[u8]) -> Vec<u8> {
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(content).unwrap();
    packed.finish().unwrap()
}

fn xz(content: &[u8]) -> Vec<u8> {
    let mut packed = liblzma::write::XzEncoder::new(Vec::new(), 1);
    packed.write_all(content).unwrap();
    packed.finish().unwrap()
}

/// A gigabyte of nothing, in few bytes.
fn bomb() -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    header.set_path("bomb").unwrap();
    header.set_size(1 << 30);
    header.set_mode(0o644);
    header.set_cksum();
    let mut packed = zstd::Encoder::new(Vec::new(), 1).unwrap();
    packed.write_all(header.as_bytes()).unwrap();
    let zeros = vec![0; 1 << 20];
    for _ in 0..1024 {
        packed.write_all(&zeros).unwrap();
    }
    packed.write_all(&zeros[..1024]).unwrap();
    packed.finish().unwrap()
}

#[test]
fn an_archive_that_means_harm_fails_its_job_and_leaves_nothing() {
    let target = Target::start();
    let half = |bytes: Vec<u8>| bytes[..bytes.len() / 2].to_vec();
    let noise = noise(200_000);
    let large = good().file("large", &noise).end();
    let special = |kind| good().entry(b"special", kind, b"", b"x").end();
    let mut damaged = gzip(&large);
    let middle = damaged.len() / 2;
    damaged[middle..middle + 64].fill(0);
    let mut wrong_sum = good().end();
    wrong_sum[0] ^= 1;

    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("climbs", good().file("../../climbed", b"x").end(), "climbs"),
        ("climbs later", good().file("a/../../climbed", b"x").end(), "climbs"),
        ("absolute", good().file("/etc/conveyor-was-here", b"x").end(), "absolute"),
        ("link out", good().link("out", "../../etc/passwd").end(), "leads out"),
        ("absolute link out", good().link("out", "/etc/passwd").end(), "leads out"),
        ("link to another repository", good().link("out", "/cvmfs/other.example.org/x").end(), "leads out"),
        ("through a link", good().link("door", "good").file("door/x", b"x").end(), "symbolic link"),
        ("hard link out", good().entry(b"out", EntryType::Link, b"/etc/passwd", b"").end(), "hard link"),
        ("hard link to nothing", good().entry(b"out", EntryType::Link, b"absent", b"").end(), "hard link"),
        ("device with content", special(EntryType::Block), "content"),
        ("pipe with content", special(EntryType::Fifo), "content"),
        ("file and directory", good().file("good/x", b"x").end(), "something else"),
        ("empty name", good().entry(b"", EntryType::Regular, b"", b"x").end(), "name"),
        ("a link with content", good().entry(b"l", EntryType::Symlink, b"good", b"content").end(), "content"),
        ("truncated tar", half(large.clone()), "cut off"),
        ("truncated gzip", half(gzip(&large)), "cut off"),
        ("truncated zstd", half(zstd::encode_all(&large[..], 1).unwrap()), "cut off"),
        ("truncated xz", half(xz(&large)), "cut off"),
        ("damaged gzip", damaged, "damaged"),
        ("wrong header sum", wrong_sum, ""),
        ("noise", noise.clone(), "not a tar archive"),
        ("empty", Vec::new(), "not a tar archive"),
        ("a zip", [&b"PK\x03\x04"[..], &noise[..2000]].concat(), "not a tar archive"),
        ("text", b"#!/bin/sh\necho not an archive\n".repeat(100), "not a tar archive"),
        ("bomb", bomb(), "limit"),
        ("two in one", [good().end(), good().end()].concat(), "after its end"),
    ];
    for (case, archive, said) in cases {
        let failure = target.fail(job(REPOSITORY, "/hostile", target.tarball(archive)));
        assert_eq!(failure.code, "bad_archive", "{case}: {failure:?}");
        assert!(failure.message.contains(said), "{case}: {}", failure.message);
        assert!(target.published("hostile/good").is_none(), "{case}");
    }
    target.stays_unharmed();
}
