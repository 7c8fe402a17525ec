//! Jobs that change nothing, dry runs, and the lists of what jobs change.

use conveyor::domain::job::spec::{JobSpec, Payload, Work};
use conveyor::domain::job::state::{JobState, StateKind};
use conveyor::domain::protocol::JobView;

use crate::harness::{Dev, REPOSITORY, Server, job, packed};

/// The revision that a job's success names, and whether nothing was published for it.
#[track_caller]
fn success(job: &JobView) -> (u64, bool) {
    match job.status {
        JobState::Succeeded { revision, unchanged, .. } => (revision, unchanged),
        ref other => panic!("{other:?}"),
    }
}

fn dry(mut spec: JobSpec) -> JobSpec {
    let Work::Publish(publish) = &mut spec.work;
    publish.dry_run = true;
    spec
}

#[test]
fn what_changes_nothing_succeeds_without_a_revision() {
    let dev = Dev::start();
    let archive = dev.tarball(packed(&[("a", "1"), ("b/c", "2")]));
    let put = || job(REPOSITORY, "/x", archive.clone());
    let first = dev.publish(put());
    let publishes = dev.publishes();
    let again = [
        put(),
        job(REPOSITORY, "/x", dev.script("cat x/a; ls -lR x")),
        job(REPOSITORY, "/x", Payload::Delete { paths: vec!["/x/absent".into()] }),
    ];
    for spec in again {
        let ended = dev.ended(dev.submit(spec));
        assert_eq!(success(&ended), (first, true), "{}", dev.log(ended.job_id));
        assert_eq!((ended.outputs["published"].as_str(), ended.outputs["paths_changed"].as_str()), ("false", "0"));
        assert!(dev.log(ended.job_id).contains("nothing changed; nothing was published"));
    }
    assert_eq!(dev.publishes(), publishes, "no revision was made");

    let mut anyway = put();
    let Work::Publish(publish) = &mut anyway.work;
    publish.publish_anyway = true;
    let ended = dev.ended(dev.submit(anyway));
    assert_eq!(success(&ended), (first + 1, false));
    assert_eq!(success(&dev.ended(dev.submit(job(REPOSITORY, "/x", Payload::Empty)))), (first + 2, false));
}

#[test]
fn of_a_batch_that_changes_something_every_job_has_the_revision() {
    let server = Server::start_batching();
    let archive = server.tarball(packed(&[("a", "1")]));
    let worker = server.worker("one");
    let first = server.publish(job(REPOSITORY, "/x", archive.clone()));
    drop(worker);
    let same = server.submit(job(REPOSITORY, "/x", archive));
    let other = server.submit(job(REPOSITORY, "/y", server.tarball(packed(&[("b", "2")]))));
    let _worker = server.worker("one");
    let (same, other) = (server.ended(same), server.ended(other));
    assert_eq!((success(&same), success(&other)), ((first + 1, false), (first + 1, false)));
    assert_eq!((same.outputs["paths_changed"].as_str(), other.outputs["paths_changed"].as_str()), ("0", "2"));
    assert_eq!(same.outputs["batch_jobs"], "2");
}

#[test]
fn a_dry_run_shows_what_would_change_goes_alone_and_publishes_nothing() {
    let server = Server::start_batching();
    let worker = server.worker("one");
    let first = server.publish(job(REPOSITORY, "/x", server.tarball(packed(&[("old", "1"), ("gone", "1")]))));
    drop(worker);
    let script = server.script("echo more >>x/old; rm x/gone; mkdir x/new; echo 1 >'x/new/a b'");
    let dry_run = server.submit(dry(job(REPOSITORY, "/x", script)));
    let beside = server.submit(job(REPOSITORY, "/y", server.tarball(packed(&[("b", "2")]))));
    let _worker = server.worker("one");
    let (dry_run, beside) = (server.ended(dry_run), server.ended(beside));
    assert_eq!(success(&dry_run), (first, true));
    assert_eq!((dry_run.outputs["dry_run"].as_str(), dry_run.outputs["batch_jobs"].as_str()), ("true", "1"));
    assert_eq!(success(&beside), (first + 1, false));
    assert_eq!(server.files("x"), ["gone", "old"].map(String::from).into());
    let listed = server.changes(dry_run.job_id);
    assert!(listed.ends_with("D /x/gone\nA /x/new\nA /x/new/a b\nM /x/old\n"), "{listed}");
}

#[test]
fn the_command_prints_what_a_dry_run_would_change() {
    let dev = Dev::start();
    let archive = dev.base().join("a.tar");
    std::fs::write(&archive, packed(&[("a\nb", "1")])).unwrap();
    let submit = |more: &[&str]| {
        let common = ["submit", "-r", REPOSITORY, "-l", "/x", "--tarball", archive.to_str().unwrap(), "--wait"];
        dev.program().good(&[&common, more].concat())
    };
    let run = submit(&["--dry-run", "--output", "table"]);
    assert!(run.stdout.contains("\nA /x\nA /x/a\\x0ab\n") && run.stdout.contains("nothing was published"), "{run:?}");
    let run = submit(&["--dry-run", "--output", "json"]);
    assert_eq!((&run.lines()[2]["change"], &run.lines()[2]["path"]), (&"added".into(), &"/x/a\\x0ab".into()));
    assert_eq!(run.last()["published"], false);
    assert_eq!(dev.published("x/a\nb"), None);

    let published = submit(&[]);
    assert_eq!(published.last()["published"], true);
    assert_eq!(submit(&[]).last()["published"], false);
    assert_eq!(submit(&["--publish-anyway"]).last()["published"], true);
    let listed = dev.program().good(&["changes", &published.job_id().to_string()]);
    assert_eq!(listed.stdout, "A /x\nA /x/a\\x0ab\n");
    let both = dev.program().run(&["submit", "-r", REPOSITORY, "-p", "", "--dry-run", "--publish-anyway"]);
    assert_eq!(both.code, 2, "{both:?}");
}

#[test]
fn all_changed_paths_are_kept_up_to_a_limit_that_is_told() {
    let dev = Dev::start();
    let script = "mkdir x/many; cd x/many; seq -f 'file-%07g' 1 200010 | xargs touch";
    let spec = JobSpec { name: "many".into(), ..job(REPOSITORY, "/x", dev.script(script)) };
    let ended = dev.ended(dev.submit(dry(spec)));
    assert_eq!(ended.state, StateKind::Succeeded, "{}", dev.log(ended.job_id));
    let listed = dev.changes(ended.job_id);
    assert_eq!(listed.lines().count(), 200_001);
    let left_out = ended.outputs["paths_changed"].parse::<usize>().unwrap() - 200_000;
    assert_eq!(listed.lines().last(), Some(format!("# {left_out} more paths are left out").as_str()));
    let first = listed.lines().find(|line| line.contains("file")).unwrap();
    assert_eq!(first, "A /x/many/file-0000001");
    assert!(dev.log(ended.job_id).contains(&format!("conveyor changes {}", ended.job_id)));
}
