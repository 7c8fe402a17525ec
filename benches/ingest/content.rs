//! What is ingested.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Files and bytes of real trees at most, so that a run ends in minutes.
const MOST_FILES: usize = 25_000;
const MOST_BYTES: u64 = 400_000_000;

/// Files in a directory.
const FOLDER: usize = 1_000;

/// A set of files.
pub(crate) enum Row {
    /// So many files of random bytes, each of this size.
    Random { name: &'static str, files: usize, size: u64 },
    /// A tree on this machine.
    Tree { root: PathBuf, files: Vec<PathBuf> },
}

/// `many` is the number of files of the rows that are about numbers.
pub(crate) fn rows(quick: bool, tree: Option<PathBuf>, many: usize) -> Vec<Row> {
    let pick = |real, quicker| if quick { quicker } else { real };
    let tree = tree.unwrap_or_else(|| {
        let cargo = std::env::var_os("CARGO_HOME").map(PathBuf::from);
        let home = std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cargo"));
        let sources = cargo.or(home).map(|cargo| cargo.join("registry/src"));
        sources.filter(|path| path.is_dir()).unwrap_or_else(|| "/usr".into())
    });
    vec![
        Row::Random { name: "1,000 x 4 KiB", files: pick(1_000, 50), size: 4 << 10 },
        Row::Random { name: "200 MB random", files: 1, size: if quick { 2_000_000 } else { 200_000_000 } },
        Row::Random { name: "many x 1 KiB", files: many, size: 1 << 10 },
        Row::Random { name: "many empty", files: many, size: 0 },
        Row::tree(tree, pick(MOST_FILES, 100)),
    ]
}

impl Row {
    fn tree(root: PathBuf, most: usize) -> Self {
        let entries = walkdir::WalkDir::new(&root).sort_by_file_name().into_iter().filter_map(Result::ok);
        let files = entries.filter(|entry| entry.file_type().is_file() && File::open(entry.path()).is_ok());
        let mut bytes = 0;
        let fits = |entry: &walkdir::DirEntry| {
            bytes += entry.metadata().map_or(0, |metadata| metadata.len());
            bytes <= MOST_BYTES
        };
        let files = files.take(most).take_while(fits).map(walkdir::DirEntry::into_path).collect();
        Self::Tree { root, files }
    }

    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Random { name, .. } => name,
            Self::Tree { .. } => "real tree",
        }
    }

    pub(crate) fn description(&self) -> String {
        match self {
            Self::Random { files, size, .. } => format!("{files} files of {size} random bytes"),
            Self::Tree { root, files } => format!("{} files of {}", files.len(), root.display()),
        }
    }

    /// How many files it has.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Random { files, .. } => *files,
            Self::Tree { files, .. } => files.len(),
        }
    }

    /// The path, size and content of a file. Random content comes from a buffer: making it would be measured too.
    pub(crate) fn file(&self, number: usize) -> (String, u64, Box<dyn Read>) {
        match self {
            Self::Random { size, .. } => {
                let start = number * 4099 % (POOL.len() / 2);
                let content = Numbered { number: number as u64, at: 0, size: *size, pool: &POOL[start..] };
                (format!("files/{}/{number}", number / FOLDER), *size, Box::new(content))
            }
            Self::Tree { root, files } => {
                let file = File::open(&files[number]).unwrap();
                (relative(root, &files[number]).to_owned(), file.metadata().unwrap().len(), Box::new(file))
            }
        }
    }

    /// Calls with each file's path, size and content.
    pub(crate) fn each(&self, mut take: impl FnMut(&str, u64, &mut dyn Read)) {
        for number in 0..self.len() {
            let (path, size, mut content) = self.file(number);
            take(&path, size, &mut content);
        }
    }

    /// All of it as an archive, made while it is read.
    pub(crate) fn archive(&self) -> Archive<'_> {
        Archive { row: self, next: 0, current: Box::new(std::io::empty()) }
    }
}

/// A row as a tar stream.
pub(crate) struct Archive<'a> {
    row: &'a Row,
    next: usize,
    current: Box<dyn Read>,
}

impl Read for Archive<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        loop {
            let count = self.current.read(buffer)?;
            if count > 0 || self.next > self.row.len() {
                return Ok(count);
            }
            self.current = if self.next == self.row.len() {
                // The end mark.
                Box::new(std::io::repeat(0).take(1024))
            } else {
                let (path, size, content) = self.row.file(self.next);
                let mut header = tar::Header::new_gnu();
                header.set_size(size);
                header.set_mode(0o644);
                let mut tar = tar::Builder::new(Vec::new());
                // The content comes behind it, by itself.
                tar.append_data(&mut header, path, std::io::empty())?;
                let header = std::io::Cursor::new(tar.get_mut().clone());
                Box::new(header.chain(content).chain(std::io::repeat(0).take(size.next_multiple_of(512) - size)))
            };
            self.next += 1;
        }
    }
}

fn relative<'a>(root: &Path, path: &'a Path) -> &'a str {
    path.strip_prefix(root).unwrap().to_str().unwrap()
}

static POOL: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut pool = vec![0; 8 << 20];
    ChaCha8Rng::seed_from_u64(1).fill(&mut pool[..]);
    pool
});

/// Bytes of the pool again and again, made different by a number every 4 KiB.
struct Numbered<'a> {
    number: u64,
    at: u64,
    size: u64,
    pool: &'a [u8],
}

impl Read for Numbered<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let start = (self.at % (self.pool.len() as u64 & !4095)) as usize;
        let count = buffer.len().min((self.size - self.at) as usize).min(4096 - start % 4096);
        buffer[..count].copy_from_slice(&self.pool[start..start + count]);
        if start.is_multiple_of(4096) && count >= 16 {
            buffer[..8].copy_from_slice(&self.number.to_le_bytes());
            buffer[8..16].copy_from_slice(&self.at.to_le_bytes());
        }
        self.at += count as u64;
        Ok(count)
    }
}
