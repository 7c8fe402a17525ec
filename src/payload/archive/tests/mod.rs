//! Archives, good and hostile, made by the `tar` crate or byte by byte.
#![allow(clippy::unwrap_used)]

mod formats;
mod hostile;
mod limits;
mod random;

use std::convert::Infallible;
use std::io::{Read, Write};

use super::*;

const ROOT: &str = "/cvmfs/software.example.org";

/// A tar archive in the making, which lets anything through.
#[derive(Debug, Default, Clone)]
struct Tar(Vec<u8>);

impl Tar {
    /// A header with a right checksum and whatever name, link, type and size, followed by the content, padded.
    fn raw(mut self, name: &[u8], link: &[u8], flag: u8, size: u64, content: &[u8]) -> Self {
        let mut header = tar::Header::new_gnu();
        let old = header.as_old_mut();
        old.name[..name.len()].copy_from_slice(name);
        old.linkname[..link.len()].copy_from_slice(link);
        old.linkflag = [flag];
        header.set_size(size);
        header.set_mode(0o644);
        header.set_mtime(1_000_000_000);
        header.set_uid(1000);
        header.set_gid(100);
        header.set_cksum();
        self.0.extend_from_slice(header.as_bytes());
        self.content(content)
    }

    fn content(mut self, content: &[u8]) -> Self {
        self.0.extend_from_slice(content);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    /// Changes the header made last and corrects its checksum.
    fn patch(mut self, at: usize, bytes: &[u8]) -> Self {
        let start = self.0.len() - 512;
        let block = &mut self.0[start..];
        block[at..at + bytes.len()].copy_from_slice(bytes);
        let mut header = tar::Header::new_old();
        header.as_mut_bytes().copy_from_slice(block);
        header.set_cksum();
        block.copy_from_slice(header.as_bytes());
        self
    }

    fn file(self, name: &str, content: &[u8]) -> Self {
        self.raw(name.as_bytes(), b"", b'0', content.len() as u64, content)
    }

    fn dir(self, name: &str) -> Self {
        self.raw(name.as_bytes(), b"", b'5', 0, b"")
    }

    fn symlink(self, name: &str, target: &str) -> Self {
        self.raw(name.as_bytes(), target.as_bytes(), b'2', 0, b"")
    }

    fn hard_link(self, name: &str, target: &str) -> Self {
        self.raw(name.as_bytes(), target.as_bytes(), b'1', 0, b"")
    }

    fn gnu_name(self, flag: u8, name: &[u8]) -> Self {
        self.raw(b"././@LongLink", b"", flag, name.len() as u64, name)
    }

    fn pax(self, records: &[(&str, &[u8])]) -> Self {
        self.pax_as(b'x', records)
    }

    fn pax_as(self, flag: u8, records: &[(&str, &[u8])]) -> Self {
        let mut bytes = Vec::new();
        for (key, value) in records {
            let rest = key.len() + value.len() + 3;
            let length = (1..).map(|digits| rest + digits).find(|n| n.to_string().len() + rest == *n).unwrap();
            bytes.extend_from_slice(format!("{length} {key}=").as_bytes());
            bytes.extend_from_slice(value);
            bytes.push(b'\n');
        }
        self.raw(b"PaxHeaders/x", b"", flag, bytes.len() as u64, &bytes)
    }

    fn end(mut self) -> Vec<u8> {
        self.0.resize(self.0.len() + 1024, 0);
        self.0
    }
}

type Entries = Vec<(ArchiveEntry, Vec<u8>)>;

fn read_with(bytes: &[u8], limits: &ArchiveLimits) -> Result<(Entries, Summary), ArchiveError> {
    let base = EntryPath::new(b"apps/x").unwrap();
    let mut entries = Vec::new();
    let summary = read::<Infallible>(bytes, limits, &base, ROOT, &mut |entry, content| {
        let mut bytes = Vec::new();
        // A broken archive shows here too; what it is comes from `read`.
        let _ = content.read_to_end(&mut bytes);
        entries.push((entry, bytes));
        Ok(())
    });
    match summary {
        Ok(summary) => {
            assert_eq!(summary.entries, entries.len() as u64);
            Ok((entries, summary))
        }
        Err(ReadError::Archive(error)) => Err(error),
    }
}

fn entries(bytes: &[u8]) -> Result<Entries, ArchiveError> {
    read_with(bytes, &ArchiveLimits::default()).map(|(entries, _)| entries)
}

/// The only entry's path, item and content.
fn only(tar: Tar) -> (ArchiveEntry, Vec<u8>) {
    let mut all = entries(&tar.end()).unwrap();
    assert_eq!(all.len(), 1);
    all.remove(0)
}

fn refusal(tar: Tar) -> (String, Refusal) {
    match entries(&tar.end()) {
        Err(error @ ArchiveError::Entry { .. }) => {
            assert!(!error.is_transient());
            let ArchiveError::Entry { entry, why } = error else { unreachable!() };
            (entry, why)
        }
        other => panic!("not refused: {other:?}"),
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn xz(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = liblzma::write::XzEncoder::new(Vec::new(), 1);
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zst(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 1).unwrap()
}

/// A file of some size in a tree.
fn sample() -> Tar {
    let noise: Vec<u8> = (0..3000u32).map(|i| (i * i / 7) as u8).collect();
    Tar::default().dir("./").dir("d/").file("d/f", &noise).symlink("d/s", "f").hard_link("h", "d/f").file("empty", b"")
}
