//! What is ingested.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Files of real trees at most, so that a run ends in minutes.
const MOST_FILES: usize = 40_000;

/// A set of files.
pub(crate) enum Row {
    /// So many files of random bytes, each of this size.
    Random { name: &'static str, files: usize, size: u64 },
    /// A tree on this machine.
    Tree { root: PathBuf, files: Vec<PathBuf> },
}

pub(crate) fn rows(quick: bool, tree: Option<PathBuf>) -> Vec<Row> {
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
        Row::tree(tree, pick(MOST_FILES, 100)),
    ]
}

impl Row {
    fn tree(root: PathBuf, most: usize) -> Self {
        let entries = walkdir::WalkDir::new(&root).sort_by_file_name().into_iter().filter_map(Result::ok);
        let files = entries.filter(|entry| entry.file_type().is_file() && File::open(entry.path()).is_ok());
        let files = files.take(most).map(walkdir::DirEntry::into_path).collect();
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

    /// Calls with each file's path and content. Random content comes from a buffer: making it would be measured too.
    pub(crate) fn each(&self, mut take: impl FnMut(&str, u64, &mut dyn Read)) {
        match self {
            Self::Random { files, size, .. } => {
                let pool = pool();
                for number in 0..*files {
                    let start = number * 4099 % (pool.len() / 2);
                    let mut content = Numbered { number: number as u64, at: 0, size: *size, pool: &pool[start..] };
                    take(&format!("files/{number}"), *size, &mut content);
                }
            }
            Self::Tree { root, files } => {
                for path in files {
                    let mut file = File::open(path).unwrap();
                    let size = file.metadata().unwrap().len();
                    take(relative(root, path), size, &mut file);
                }
            }
        }
    }
}

fn relative<'a>(root: &Path, path: &'a Path) -> &'a str {
    path.strip_prefix(root).unwrap().to_str().unwrap()
}

fn pool() -> Vec<u8> {
    let mut pool = vec![0; 8 << 20];
    ChaCha8Rng::seed_from_u64(1).fill(&mut pool[..]);
    pool
}

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
