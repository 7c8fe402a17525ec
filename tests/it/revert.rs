//! `conveyor revert`, with a server, a worker and a repository that are real.

use conveyor::domain::job::spec::{JobSpec, Payload};
use conveyor::domain::job::state::StateKind;

use crate::harness::{Dev, REPOSITORY, Server, job, packed};

#[test]
fn what_a_job_changed_is_put_back_by_a_new_job() {
    let dev = Dev::start();
    let put = |files: &[(&str, &str)]| job(REPOSITORY, "/x", dev.tarball(packed(files)));
    dev.publish(put(&[("a", "1"), ("b", "1")]));
    let bad = dev.submit(put(&[("a", "2"), ("c", "2")]));
    assert_eq!(dev.ended(bad).state, StateKind::Succeeded);
    dev.publish(put(&[("later", "3")]));

    let revert = |more: &[&str]| dev.program().run(&[&["revert", &bad.to_string(), "--wait"], more].concat());
    let shown = revert(&["--dry-run", "--output", "table"]);
    assert_eq!(shown.code, 0, "{shown:?}");
    assert!(shown.stdout.contains("M /x/a\n") && shown.stdout.contains("D /x/c\n"), "{shown:?}");
    assert_eq!(dev.published("x/a").unwrap(), b"2");
    let done = revert(&[]);
    assert_eq!((done.code, &done.last()["published"]), (0, &true.into()), "{done:?}");
    assert_eq!((dev.published("x/a").unwrap(), dev.published("x/c")), (b"1".to_vec(), None));
    assert_eq!(dev.published("x/later").unwrap(), b"3");
    let again = revert(&[]);
    assert_eq!((again.code, &again.last()["published"]), (0, &false.into()), "there is nothing left: {again:?}");
}

#[test]
fn why_a_job_is_not_reverted_is_said() {
    let dev = Dev::start();
    let put = |files: &[(&str, &str)]| job(REPOSITORY, "/x", dev.tarball(packed(files)));
    let run = |id: &str, more: &[&str]| dev.program().run(&[&["revert", id, "--wait"], more].concat());
    let first = dev.submit(put(&[("a", "1")]));
    dev.ended(first);
    dev.publish(put(&[("a", "2")]));
    let built_upon = run(&first.to_string(), &[]);
    assert!(built_upon.code == 1 && built_upon.stderr.contains("later revision: /x/a"), "{built_upon:?}");
    assert_eq!(dev.published("x/a").unwrap(), b"2");
    assert_eq!(run(&first.to_string(), &["--force"]).code, 0);
    assert_eq!(dev.published("x/a"), None);

    let same = dev.submit(job(REPOSITORY, "/x", Payload::Delete { paths: vec!["x/absent".into()] }));
    dev.ended(same);
    let nothing = run(&same.to_string(), &[]);
    assert!(nothing.code == 1 && nothing.stderr.contains("changed nothing"), "{nothing:?}");
    let failed = dev.submit(JobSpec { attempts: 1, ..job(REPOSITORY, "/x", dev.script("exit 1")) });
    dev.ended(failed);
    let unpublished = run(&failed.to_string(), &[]);
    assert!(unpublished.code == 1 && unpublished.stderr.contains("is failed"), "{unpublished:?}");

    // The tag that says which revision it was is gone.
    let key = dev.reader().tags().unwrap().into_iter().find(|tag| tag.name.starts_with("cj-")).unwrap();
    let tagged = dev.submit(put(&[("b", "1")]));
    dev.ended(tagged);
    let newest = dev.reader().tags().unwrap().into_iter().find(|tag| tag.name.starts_with("cj-")).unwrap();
    assert_ne!(newest.name, key.name);
    let repositories = dev.state().join("repositories");
    let arguments = ["repository", "tag", REPOSITORY, "remove", &newest.name, "--repositories-dir"];
    let keys = dev.state().join("keys");
    let untagged = dev
        .program()
        .run(&[&arguments[..], &[repositories.to_str().unwrap(), "--keys-dir", keys.to_str().unwrap()]].concat());
    assert_eq!(untagged.code, 0, "{untagged:?}");
    let pruned = run(&tagged.to_string(), &[]);
    assert!(pruned.code == 1 && pruned.stderr.contains("no longer in the history"), "{pruned:?}");
}

#[test]
fn jobs_that_shared_a_publish_are_told_apart_by_their_paths_only() {
    let server = Server::start_batching();
    let put = |path: &str, file: &str| job(REPOSITORY, path, server.tarball(packed(&[(file, "1")])));
    let ids = [put("/x", "a"), put("/x", "b"), put("/y", "c")].map(|spec| server.submit(spec));
    let _worker = server.worker("one");
    let ended = ids.map(|id| server.ended(id));
    assert!(ended.iter().all(|job| job.outputs["batch_jobs"] == "3"), "{ended:?}");
    let run = |id: usize, more: &[&str]| server.run(&[&["revert", &ids[id].to_string(), "--wait"], more].concat());
    assert_eq!(run(2, &[]).code, 0);
    assert_eq!((server.files("x").len(), server.files("y").len()), (2, 0));
    let shared = run(0, &[]);
    assert!(shared.code == 1 && shared.stderr.contains(&ids[1].to_string()), "{shared:?}");
    assert_eq!(run(0, &["--force"]).code, 0);
    assert!(server.files("x").is_empty());
}
