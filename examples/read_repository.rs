//! Reads a CernVM-FS repository with the format library alone: opens it, verifies it, lists it, prints a file, checks it.
//!
//! ```sh
//! cargo run --example read_repository -- WHERE NAME KEY [PATH]
//! cargo run --example read_repository -- /srv/cvmfs/software.example.org software.example.org keys/software.example.org.pub
//! cargo run --example read_repository -- http://localhost:8000/cvmfs/software.example.org software.example.org \
//!     keys/software.example.org.pub sw/tool/1.0/bin/tool
//! ```
//!
//! WHERE is the directory that holds `.cvmfspublished`, or the URL that it is served at; KEY is the public master key, as
//! clients are configured with it. Without PATH everything is listed; with the path of a directory what is below it; with
//! that of a file its content goes to standard output. A check of the whole repository follows the full list.

use std::error::Error as StdError;
use std::io::{self, Read, Write};

use conveyor::cvmfs::catalog::Entry;
use conveyor::cvmfs::check::{self, Data, Options};
use conveyor::cvmfs::fetch::{Fetch, LocalDir};
use conveyor::cvmfs::keys;
use conveyor::cvmfs::reader::{Expiry, Reader};

/// A repository behind a web server. The library is synchronous, so each request is waited for on a runtime of its own.
struct Http {
    base: String,
    client: reqwest::Client,
    runtime: tokio::runtime::Runtime,
}

impl Http {
    fn new(base: &str) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        Ok(Self { base: base.trim_end_matches('/').to_owned(), client: reqwest::Client::new(), runtime })
    }
}

impl Fetch for Http {
    fn fetch(&self, path: &str) -> io::Result<Option<Box<dyn Read + Send>>> {
        let url = format!("{}/{path}", self.base);
        let answer = self.runtime.block_on(async {
            let response = self.client.get(url).send().await?;
            if response.status() == reqwest::StatusCode::NOT_FOUND {
                return Ok(None);
            }
            // Objects are small or chunks of some MiB: each fits in memory. What is in them is verified by the reader.
            response.error_for_status()?.bytes().await.map(Some)
        });
        let body = answer.map_err(io::Error::other)?;
        Ok(body.map(|bytes| Box::new(io::Cursor::new(bytes)) as Box<dyn Read + Send>))
    }

    fn exists(&self, path: &str) -> io::Result<bool> {
        let answer = self.runtime.block_on(self.client.head(format!("{}/{path}", self.base)).send());
        let response = answer.map_err(io::Error::other)?;
        if response.status() == reqwest::StatusCode::NOT_FOUND {
            return Ok(false);
        }
        response.error_for_status().map_err(io::Error::other)?;
        Ok(true)
    }
}

fn main() -> Result<(), Box<dyn StdError>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (place, name, key, path) = match arguments.as_slice() {
        [place, name, key] => (place, name, key, None),
        [place, name, key, path] => (place, name, key, Some(path.trim_matches('/'))),
        _ => return Err("give a directory or URL, the repository's name, its public key and perhaps a path".into()),
    };
    let fetch: Box<dyn Fetch> = match place.contains("://") {
        true => Box::new(Http::new(place)?),
        false => Box::new(LocalDir::new(place)),
    };
    let key = keys::public_from_pem(&std::fs::read(key)?)?;
    // The signatures are verified here, from the master key down to the manifest; hashes vouch for all else.
    let reader = Reader::open(fetch, name, &[key], Expiry::Ignore)?;
    let manifest = reader.manifest();
    eprintln!("{} revision {}, root catalog {}", manifest.repository, manifest.revision, manifest.root_hash);

    let mut out = io::BufWriter::new(io::stdout().lock());
    let mut tree = reader.tree()?;
    let top = path.unwrap_or_default().as_bytes();
    match tree.lookup(top)? {
        None => return Err(format!("there is no /{}", String::from_utf8_lossy(top)).into()),
        // The last read fails if the objects do not have the bytes that they should have.
        Some(entry) if entry.is_file() => drop(io::copy(&mut tree.file(top)?, &mut out)?),
        Some(_) => {
            let mut lines = Vec::new();
            tree.walk(top, |path, entry| {
                lines.push(line(path, entry));
                Ok(())
            })?;
            lines.iter().try_for_each(|line| writeln!(out, "{line}"))?;
        }
    }
    if path.is_none() {
        let options = Options { data: Data::Exists, tags: true, ..Options::default() };
        eprintln!("{}", check::check(&reader, &options)?);
    }
    out.flush()?;
    Ok(())
}

fn line(path: &[u8], entry: &Entry) -> String {
    let target = match entry.is_symlink() {
        true => format!(" -> {}", String::from_utf8_lossy(&entry.symlink)),
        false => String::new(),
    };
    let path = String::from_utf8_lossy(path);
    format!("{:o} {:>5} {:>5} {:>12} /{path}{target}", entry.mode, entry.uid, entry.gid, entry.size)
}
