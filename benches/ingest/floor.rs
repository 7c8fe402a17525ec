//! What the machine can do at best with the same bytes: write and sync them, hash them, compress them.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::Instant;

use flate2::Compression;
use flate2::write::ZlibEncoder;
use serde_json::json;
use sha1::{Digest, Sha1};

use super::content::Row;
use super::report::{figure, median};

#[derive(Default)]
pub(crate) struct Floors {
    write: Vec<f64>,
    files: Vec<f64>,
    hash: Vec<f64>,
    deflate: Vec<f64>,
    bytes: u64,
    deflated: u64,
}

impl Floors {
    pub(crate) fn measure(&mut self, row: &Row, directory: &Path) {
        let mut folder = tempfile::tempdir_in(directory).unwrap();
        folder.disable_cleanup(true);
        let mut file = File::create(folder.path().join("floor")).unwrap();
        self.bytes = 0;
        let began = Instant::now();
        pieces(row, |piece, _| {
            self.bytes += piece.len() as u64;
            file.write_all(piece).unwrap();
        });
        file.sync_all().unwrap();
        self.write.push(began.elapsed().as_secs_f64() * 1e3);

        let mut number = 0;
        let mut file = None;
        let began = Instant::now();
        pieces(row, |piece, ends| {
            let path = folder.path().join(number.to_string());
            file.get_or_insert_with(|| File::create(path).unwrap()).write_all(piece).unwrap();
            if ends {
                (number, file) = (number + 1, None);
            }
        });
        nix::unistd::syncfs(File::open(folder.path()).unwrap()).unwrap();
        self.files.push(began.elapsed().as_secs_f64() * 1e3);

        let mut hash = Sha1::new();
        let began = Instant::now();
        pieces(row, |piece, _| hash.update(piece));
        std::hint::black_box(hash.finalize());
        self.hash.push(began.elapsed().as_secs_f64() * 1e3);

        // It is slow, and always the same.
        if self.deflate.is_empty() {
            let mut encoder = ZlibEncoder::new(Counter(0), Compression::new(6));
            let mut sizes = Vec::new();
            let began = Instant::now();
            pieces(row, |piece, ends| {
                encoder.write_all(piece).unwrap();
                if ends {
                    sizes.push(encoder.reset(Counter(0)).unwrap().0);
                }
            });
            self.deflate.push(began.elapsed().as_secs_f64() * 1e3);
            // The same content counts once, as it is stored once.
            let (mut hash, mut seen, mut sizes) = (Sha1::new(), BTreeSet::new(), sizes.into_iter());
            pieces(row, |piece, ends| {
                hash.update(piece);
                if ends {
                    let size = sizes.next().unwrap();
                    self.deflated += if seen.insert(hash.finalize_reset()) { size } else { 0 };
                }
            });
        }
    }

    pub(crate) fn print(&self, row: &Row) {
        let bytes = json!({ "bytes": self.bytes });
        let name = |what: &str| format!("{}: floor: {what}", row.name());
        figure(&name("written to one file, synced"), median(&self.write), "ms", None, bytes.clone());
        figure(&name("written to as many files, synced together"), median(&self.files), "ms", None, bytes.clone());
        figure(&name("SHA-1, one thread"), median(&self.hash), "ms", None, bytes);
        let more = json!({ "bytes": self.bytes, "deflated_bytes": self.deflated });
        figure(&name("zlib level 6, one thread"), median(&self.deflate), "ms", None, more);
    }

    pub(crate) fn files_ms(&self) -> f64 {
        median(&self.files)
    }

    pub(crate) fn deflated_bytes(&self) -> f64 {
        self.deflated as f64
    }
}

/// Calls with each piece of each file, and whether the file ends with it.
fn pieces(row: &Row, mut take: impl FnMut(&[u8], bool)) {
    let mut buffer = vec![0; 256 << 10];
    row.each(|_, _, content| {
        loop {
            let count = content.read(&mut buffer).unwrap();
            take(&buffer[..count], count == 0);
            if count == 0 {
                return;
            }
        }
    });
}

struct Counter(u64);

impl Write for Counter {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0 += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
