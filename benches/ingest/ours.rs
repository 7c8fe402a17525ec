//! Our ways of taking in a row, each once in this process.

use std::time::Instant;

use conveyor::cvmfs::ingest::{Ingest, IngestSettings, Progress};
use conveyor::cvmfs::stratum0::{CreateOptions, Stratum0};
use conveyor::domain::ids::BatchId;
use conveyor::domain::names::{LeasePath, RepositoryName};
use conveyor::domain::tree::{Attributes, EntryKind, EntryMeta, EntryPath};
use conveyor::payload::archive::{self, ArchiveItem, ArchiveLimits};
use conveyor::publisher::Publisher;
use conveyor::publisher::native::NativePublisher;
use serde_json::json;

use super::content::Row;

const META: EntryMeta = EntryMeta { mode: 0o644, mtime: 0, uid: 0, gid: 0, attributes: Attributes::new() };

/// Measures and prints one JSON object.
pub(crate) fn once(row: &Row, way: &str) {
    let mut folder = tempfile::tempdir().unwrap();
    folder.disable_cleanup(true);
    let name = RepositoryName::new("bench.example.org").unwrap();
    let directory = folder.path().join(name.as_str());
    let keys = folder.path().join("keys");
    std::fs::create_dir_all(&directory).unwrap();
    std::fs::create_dir_all(&keys).unwrap();
    let now = jiff::Timestamp::now().as_second();
    Stratum0::create(&directory, name.as_str(), &keys, &CreateOptions::default(), now).unwrap();
    nix::unistd::sync();

    let (mut files, mut bytes) = (0_u64, 0_u64);
    let began = Instant::now();
    let (progress, publish_ms) = if way == "engine" {
        let mut ingest = Ingest::begin(&directory, IngestSettings::default()).unwrap();
        row.each(|_, size, content| {
            ingest.add_file(content).unwrap();
            while ingest.next_done(false).unwrap().is_some() {}
            (files, bytes) = (files + 1, bytes + size);
        });
        while ingest.next_done(true).unwrap().is_some() {}
        let publish = Instant::now();
        ingest.publish(&[]).unwrap();
        (ingest.progress(), publish.elapsed().as_secs_f64() * 1e3)
    } else {
        let scratch = folder.path().join("scratch");
        std::fs::create_dir(&scratch).unwrap();
        let publisher = NativePublisher::new(folder.path().to_owned(), keys);
        let key = BatchId(uuid::Uuid::now_v7()).key();
        let mut transaction = publisher.open(&name, &LeasePath::root(), &key, &scratch).unwrap();
        if way == "archive" {
            let source = row.archive();
            let limits = ArchiveLimits::default();
            let read = archive::read(source, &limits, &EntryPath::base(), "/cvmfs/bench", &mut |entry, content| {
                if let ArchiveItem::Node(EntryKind::File { size }) = &entry.item {
                    (files, bytes) = (files + 1, bytes + size);
                }
                match &entry.item {
                    ArchiveItem::Node(kind) => transaction.put(&entry.path, &entry.meta, kind, content),
                    ArchiveItem::HardLink { to } => transaction.link(&entry.path, to),
                }
            });
            read.unwrap();
        } else {
            row.each(|path, size, content| {
                let path = EntryPath::new(path.as_bytes()).unwrap();
                transaction.put(&path, &META, &EntryKind::File { size }, content).unwrap();
                (files, bytes) = (files + 1, bytes + size);
            });
        }
        transaction.settle().unwrap();
        transaction.changes(&mut |change| drop(std::hint::black_box(change))).unwrap();
        let publish = Instant::now();
        transaction.publish("bench").unwrap();
        (Progress::default(), publish.elapsed().as_secs_f64() * 1e3)
    };
    let ms = began.elapsed().as_secs_f64() * 1e3;
    let objects = walkdir::WalkDir::new(directory.join("data")).into_iter().map(Result::unwrap);
    let stored: u64 =
        objects.filter(|entry| entry.file_type().is_file()).map(|entry| entry.metadata().unwrap().len()).sum();
    let result = json!({
        "ms": ms, "publish_ms": publish_ms, "files": files, "bytes": bytes, "stored_bytes": stored,
        "objects_new": progress.objects_new, "objects_known": progress.objects_known, "peak_mb": peak_mb(),
    });
    println!("{result}");
}

fn peak_mb() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<f64>().unwrap() / 1e3
}
