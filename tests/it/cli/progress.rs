//! How far a running job has come.

use conveyor::domain::job::spec::{Payload, Source};
use conveyor::domain::progress::Step;

use crate::harness::{Dev, Gate, Origin, Page, REPOSITORY, job, packed, until};

#[test]
fn a_download_is_seen_to_grow_until_its_job_ends() {
    let dev = Dev::start();
    let origin = Origin::start();
    let source = Source::Url { url: origin.page("/drip", Page::Drip), checksum: None };
    let id = dev.submit(job(REPOSITORY, "/x", Payload::Tarball { source }));
    let progress = |than: u64| dev.view(id).progress.filter(|progress| progress.bytes > than);
    let first = until("something came", || progress(0));
    assert_eq!((first.step, first.files), (Step::Fetching, 0));
    let second = until("more came", || progress(first.bytes));
    assert!(second.bytes_per_s.is_some_and(|rate| rate > 0), "{second:?}");

    let line = dev.program().good(&["check", &id.to_string()]).last();
    assert_eq!(line["progress"]["step"], "fetching", "{line}");
    let table = dev.program().good(&["check", &id.to_string(), "--output", "table"]).stdout;
    assert!(table.contains(", fetched "), "{table}");

    dev.program().good(&["cancel", &id.to_string()]);
    assert_eq!(dev.ended(id).progress, None);
}

#[test]
fn what_a_tarball_holds_is_counted() {
    let dev = Dev::start();
    let archive = dev.tarball(packed(&[("one", "12345"), ("two", "1234567")]));
    let ended = dev.ended(dev.submit(job(REPOSITORY, "/x", archive)));
    assert_eq!((ended.outputs["staged_files"].as_str(), ended.outputs["staged_bytes"].as_str()), ("2", "12"));
    assert_eq!(ended.progress, None);
}

#[test]
fn a_script_has_staged_nothing_while_it_runs() {
    let dev = Dev::start();
    let gate = Gate::new();
    let text = format!("mkdir -p x; echo 12345 >x/file\n{}", gate.script());
    let id = dev.submit(job(REPOSITORY, "/x", dev.script(&text)));
    let progress =
        until("it is in the staging step", || dev.view(id).progress.filter(|progress| progress.step == Step::Staging));
    assert_eq!((progress.files, progress.bytes), (0, 0));
    gate.open();
    assert_eq!(dev.ended(id).outputs["staged_bytes"], "6");
}
