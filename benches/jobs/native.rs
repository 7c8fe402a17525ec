//! The native publisher beside writing and syncing as many bare files.

use std::path::PathBuf;
use std::time::Instant;

use conveyor::cvmfs::stratum0::{CreateOptions, Stratum0};
use conveyor::domain::ids::BatchId;
use conveyor::domain::names::{LeasePath, RepositoryName};
use conveyor::domain::tree::{Attributes, EntryKind, EntryMeta, EntryPath};
use conveyor::publisher::Publisher;
use conveyor::publisher::native::NativePublisher;
use serde_json::json;

use super::Scale;
use super::floor::{files_ms, files_synced_together_ms};
use super::report::{figure, median, quantile};

/// Files that one publish writes: content, catalog, history, reflog, manifest.
const FILES_OF_A_PUBLISH: usize = 5;
const META: EntryMeta = EntryMeta { mode: 0o644, mtime: 0, uid: 0, gid: 0, attributes: Attributes::new() };
/// Entries in one directory of a filled repository.
const FOLDER: usize = 500;

struct Place {
    folder: tempfile::TempDir,
    publisher: NativePublisher,
    repository: RepositoryName,
    scratch: PathBuf,
}

pub(crate) fn run(scale: Scale) {
    for entries in scale.pick(vec![1, 1_000, 50_000], vec![1, 100]) {
        one_file(entries, scale.pick(21, 3));
    }
    nested(scale.pick(50, 2), scale.pick(1_000, 10), scale.pick(21, 3));
    history(scale.pick(1_000, 10));
    ingest(scale.pick(1_000, 100), scale.pick(11, 1));
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let repository = RepositoryName::new("bench.example.org").unwrap();
        let directory = path("repositories").join(repository.as_str());
        for directory in [&directory, &path("keys"), &path("scratch")] {
            std::fs::create_dir_all(directory).unwrap();
        }
        let now = jiff::Timestamp::now().as_second();
        Stratum0::create(directory, repository.as_str(), path("keys"), &CreateOptions::default(), now).unwrap();
        let publisher = NativePublisher::new(path("repositories"), path("keys"));
        let scratch = path("scratch");
        Self { folder, publisher, repository, scratch }
    }

    /// Publishes files; gives the milliseconds from opening the transaction to its end.
    fn publish<'c>(&self, files: impl Iterator<Item = (String, &'c [u8])>) -> f64 {
        let key = BatchId(uuid::Uuid::now_v7()).key();
        let began = Instant::now();
        let mut transaction = self.publisher.open(&self.repository, &LeasePath::root(), &key, &self.scratch).unwrap();
        for (path, mut content) in files {
            let kind = EntryKind::File { size: content.len() as u64 };
            transaction.put(&EntryPath::new(path.as_bytes()).unwrap(), &META, &kind, &mut content).unwrap();
        }
        transaction.publish("bench").unwrap();
        began.elapsed().as_secs_f64() * 1e3
    }
}

fn one_file(entries: usize, samples: usize) {
    let place = Place::new();
    // The same content everywhere: this is about the catalog's size.
    place.publish((0..entries).map(|number| (format!("fill/{}/{number}", number / FOLDER), &b"same\n"[..])));
    let (mut ours, mut floors) = (Vec::new(), Vec::new());
    for sample in 0..samples {
        let content = format!("content {sample}\n");
        floors.push(files_ms(place.folder.path(), FILES_OF_A_PUBLISH, content.as_bytes()));
        ours.push(place.publish(std::iter::once((format!("new/{sample}"), content.as_bytes()))));
    }
    let more = json!({ "p90": quantile(&ours, 0.9), "samples": samples });
    let floor = Some(("five files written and synced one by one", median(&floors)));
    figure(&format!("native publish of one file into {entries} entries, p50"), median(&ours), "ms", floor, more);
}

/// One file into one of many nested catalogs.
fn nested(catalogs: usize, entries: usize, samples: usize) {
    let place = Place::new();
    let marker = |catalog| (format!("fill/{catalog}/.cvmfscatalog"), &b""[..]);
    let file = |catalog, number| (format!("fill/{catalog}/{number}"), &b"same\n"[..]);
    place.publish((0..catalogs).flat_map(|catalog| {
        std::iter::once(marker(catalog)).chain((0..entries).map(move |number| file(catalog, number)))
    }));
    let (mut ours, mut floors) = (Vec::new(), Vec::new());
    for sample in 0..samples {
        let content = format!("content {sample}\n");
        floors.push(files_ms(place.folder.path(), FILES_OF_A_PUBLISH + 1, content.as_bytes()));
        let path = format!("fill/{}/new-{sample}", sample % catalogs);
        ours.push(place.publish(std::iter::once((path, content.as_bytes()))));
    }
    let more = json!({ "p90": quantile(&ours, 0.9), "samples": samples });
    let floor = Some(("six files written and synced one by one", median(&floors)));
    let name = format!("native publish of one file into {catalogs} nested catalogs of {entries} entries, p50");
    figure(&name, median(&ours), "ms", floor, more);
}

/// What it costs that history and reflog grow with each publish.
fn history(publishes: usize) {
    let place = Place::new();
    let publish = |number: usize| {
        let content = format!("content {number}\n");
        place.publish(std::iter::once(("file".to_owned(), content.as_bytes())))
    };
    let all: Vec<_> = (0..publishes).map(publish).collect();
    let some = publishes.div_ceil(20);
    let first = Some(("the first publishes of this repository", median(&all[..some])));
    let name = format!("native publish of one file after {publishes} others, p50");
    figure(&name, median(&all[publishes - some..]), "ms", first, json!({ "samples": some }));
}

fn ingest(files: usize, samples: usize) {
    let content: Vec<Vec<u8>> = (0..files).map(|_| (0..4096).map(|_| rand::random()).collect()).collect();
    let (mut ours, mut floors) = (Vec::new(), Vec::new());
    for _ in 0..samples {
        let place = Place::new();
        floors.push(files_synced_together_ms(place.folder.path(), files, &content[0]));
        ours.push(
            place.publish(content.iter().enumerate().map(|(number, bytes)| (format!("in/{number}"), &bytes[..]))),
        );
    }
    let floor = Some(("as many files written, their file system synced once", median(&floors)));
    let name = format!("native ingest of {files} x 4 KiB, durable");
    figure(&name, median(&ours), "ms", floor, json!({ "samples": samples }));
}
