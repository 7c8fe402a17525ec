//! What jobs are for.

use conveyor::domain::ids::JobId;
use conveyor::domain::job::state::{JobState, StateKind};

use super::node::Node;
use crate::harness::{Mount, job, missing, packed};
use crate::site::Setup;

pub(super) fn a_job_is_published_and_read_by_clients(setup: Setup) {
    let Some(node) = Node::start(setup) else { return };
    let _worker = node.worker();
    let before = node.site.revision();
    let revision = node.publish(node.file("/software", "file", "published"));
    assert_eq!(node.site.published("software/file").unwrap(), b"published");
    let tags = node.site.batch_tags();
    assert_eq!((tags.len(), tags[0].revision), (1, revision));
    assert_eq!(node.site.revision(), before + 1);
    node.assert_clean();
    if missing("fuse", Mount::impossible()) {
        return;
    }
    let url = node.site.web.url(&node.site.name);
    let mount = Mount::new(url.split("/cvmfs/").next().unwrap(), &node.site.name);
    assert_eq!(std::fs::read(mount.path().join("software/file")).unwrap(), b"published");
}

pub(super) fn several_jobs_share_a_publish_and_one_that_fails_costs_the_others_nothing(setup: Setup) {
    let Some(node) = Node::start(setup) else { return };
    let before = node.site.revision();
    let mut specs: Vec<_> =
        (0..5).map(|number| node.file(&format!("/batch/{number}"), "file", &number.to_string())).collect();
    specs.push(job(&node.site.name, "/batch/bad", node.tarball("no archive at all")));
    let ids = node.try_submit(&specs).unwrap();
    let _worker = node.worker();
    node.all_succeed(&ids[..5]);
    assert_eq!(node.ended(ids[5]).state, StateKind::Failed);
    for number in 0..5 {
        assert_eq!(node.site.published(&format!("batch/{number}/file")).unwrap(), number.to_string().as_bytes());
    }
    assert_eq!(node.site.published("batch/bad"), None);
    let publishes = node.site.batch_tags().len();
    assert!((1..=2).contains(&publishes), "{publishes} publishes for five jobs");
    assert_eq!(node.site.revision(), before + publishes as u64);
    node.assert_clean();
}

pub(super) fn what_a_user_writes_is_never_run(setup: Setup) {
    let Some(node) = Node::start(setup) else { return };
    let _worker = node.worker();
    let proof = node.site.place().join("proof");
    let run = format!("touch {}", proof.display());
    let texts = [
        format!("$({run})"),
        format!("`{run}`"),
        format!("\"; {run}; \""),
        format!("a;{run};echo"),
        format!("'\n{run}\n'"),
    ];
    for (number, text) in texts.iter().enumerate() {
        let file = text.replace(['/', '\n'], "|");
        let path = format!("/texts/{number}");
        let mut spec = job(&node.site.name, &path, node.tarball(packed(&[(&file, "content")])));
        (spec.name, spec.submitter) = (text.clone(), text.clone());
        spec.labels.insert("text".into(), text.clone());
        // What is refused here is not published, and so not run either.
        let Ok(ids) = node.try_submit(&[spec.clone()]).or_else(|_| {
            (spec.name, spec.submitter) = ("name".into(), "submitter".into());
            spec.labels.clear();
            node.try_submit(&[spec])
        }) else {
            continue;
        };
        node.all_succeed(&ids);
        assert_eq!(node.site.published(&format!("texts/{number}/{file}")).unwrap(), b"content");
    }
    let ids: Vec<JobId> = texts
        .iter()
        .filter_map(|text| conveyor::domain::names::LeasePath::new(&format!("/lease {text}")).ok())
        .filter_map(|path| {
            let mut spec = node.file("/x", "file", "content");
            let conveyor::domain::job::spec::Work::Publish(publish) = &mut spec.work;
            publish.lease_path = path;
            node.try_submit(&[spec]).ok().map(|ids| ids[0])
        })
        .collect();
    for id in ids {
        let ended = node.ended(id).status;
        assert!(matches!(ended, JobState::Succeeded { .. } | JobState::Failed { .. }), "{ended:?}");
    }
    assert!(!proof.exists(), "a text of a user's was run");
    node.assert_clean();
}

pub(super) fn many_small_jobs_are_published_once_each(setup: Setup) {
    const JOBS: usize = 500;
    let Some(node) = Node::start(setup) else { return };
    let before = node.site.revision();
    let _worker = node.worker();
    let specs: Vec<_> =
        (0..JOBS).map(|number| node.file(&format!("/batch/{number}"), "file", &number.to_string())).collect();
    let mut ids = Vec::new();
    for part in specs.chunks(100) {
        ids.extend(node.try_submit(part).unwrap());
    }
    node.all_succeed(&ids);
    let reader = node.site.reader();
    let listed = reader.tree().unwrap().list(b"batch").unwrap();
    assert_eq!(listed.len(), JOBS);
    let publishes = node.site.batch_tags().len();
    assert!(publishes <= JOBS / 10, "{publishes} publishes for {JOBS} jobs");
    assert_eq!(node.site.revision(), before + publishes as u64);
    node.assert_clean();
}

pub(super) fn what_a_script_leaves_behind_holds_up_nobody(setup: Setup) {
    let Some(node) = Node::start(setup) else { return };
    let _worker = node.worker();
    node.publish(node.file("/scripts", "before", "there"));
    let before = node.site.batch_tags().len();
    // A number of seconds by which nobody else sleeps.
    let seconds = format!("{}.{}", 100_000 + std::process::id(), node.site.number());
    let text = format!(
        "cd scripts\nsleep {seconds} &\nsetsid sleep {seconds} </dev/null >/dev/null 2>&1 &\n\
         (exec 9<before; cd /; setsid sleep {seconds} </dev/null >/dev/null 2>&1) &\n\
         mount -t tmpfs none . 2>/dev/null || :\nexec 8>open\necho content >file"
    );
    let mut spec = job(&node.site.name, "/scripts", node.script(&text));
    spec.attempts = 3;
    let ids = node.try_submit(&[spec]).unwrap();
    node.all_succeed(&ids);
    assert_eq!(node.site.published("scripts/file").unwrap(), b"content\n");
    let sleeps = std::fs::read_dir("/proc").unwrap().flatten();
    let sleeps = sleeps.filter(|process| {
        let words = std::fs::read(process.path().join("cmdline")).unwrap_or_default();
        words.starts_with(format!("sleep\0{seconds}").as_bytes())
    });
    assert_eq!(sleeps.count(), 0, "processes of a script outlived it");
    node.publish(node.file("/after", "file", "content"));
    assert_eq!(node.site.batch_tags().len(), before + 2);
    node.assert_clean();
}

pub(super) fn a_job_that_changes_nothing_makes_no_revision(setup: Setup) {
    let Some(node) = Node::start(setup) else { return };
    let _worker = node.worker();
    let revision = node.publish(node.file("/jobs", "file", "content"));
    let ids = node.try_submit(&[job(&node.site.name, "/jobs", node.script("ls >/dev/null"))]).unwrap();
    node.all_succeed(&ids);
    assert_eq!((node.site.revision(), node.site.batch_tags().len()), (revision, 1));
    node.assert_clean();
}
