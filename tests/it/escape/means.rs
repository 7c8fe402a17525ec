//! Hosts that can isolate scripts, and one that cannot: `conveyor worker check` and the worker's start tell.

use conveyor::domain::job::spec::{Payload, Source};
use serde_json::Value;

use super::prison::{ORDINARY, Warden, hand_over};
use crate::harness::{Daemon, Place, REPOSITORY, Run, Server, job, missing, private};

/// Starts a program as the ordinary account where there can be no further user namespace.
const DEPRIVED: [&str; 8] = [
    "unshare",
    "--user",
    "--map-current-user",
    "--keep-caps",
    "sh",
    "-c",
    "echo 0 >/proc/sys/user/max_user_namespaces && exec \"$@\"",
    "sh",
];

fn found<'a>(lines: &'a [Value], what: &str) -> &'a Value {
    lines.iter().find(|line| line["what"] == what).unwrap_or_else(|| panic!("nothing about {what}: {lines:?}"))
}

/// A server with what an ordinary worker needs; `None` where that cannot be tried.
fn deprived(keys: &str) -> Option<(Server, Vec<&'static str>)> {
    if Warden::Ordinary.cannot_be_tried() {
        return None;
    }
    if !nix::unistd::geteuid().is_root() {
        missing("isolation", Some("only root can take user namespaces from a worker of the tests".into()));
        return None;
    }
    let server = Server::start_at(Place::new(), keys);
    hand_over(&server);
    Some((server, [&ORDINARY[..], &DEPRIVED].concat()))
}

#[test]
fn a_host_that_lacks_the_means_is_told_and_its_scripts_run_without() {
    let Some((server, prefix)) = deprived("") else { return };
    let run = Run::of(&server.command_under(&prefix, "n1", &["check", "--json"]).output().unwrap());
    let lines = run.lines();
    let isolation = found(&lines, "isolation of scripts");
    assert_eq!((isolation["state"].as_str(), run.code), (Some("warning"), 0), "{run:?}");
    assert!(isolation["hint"].as_str().unwrap().contains("sysctl -w user.max_user_namespaces"), "{isolation}");

    let worker = server.worker_under(&prefix, "n1");
    let log = worker.stderr();
    assert!(log.contains("cannot isolate scripts") && log.contains("user.max_user_namespaces"), "{log}");
    // This also shows that the attacks of the suite succeed where nothing is done against them.
    let script = format!("#!/bin/sh\ncat {}\n", server.base().join("token").display());
    let source: Source = server.blob(script);
    let id = server.submit(job(REPOSITORY, "/escape", Payload::Script { source, args: Vec::new() }));
    server.ended(id);
    let api: &crate::harness::Api = &server;
    assert!(api.log(id).contains(server.token()), "{}", api.log(id));
}

#[test]
fn a_worker_that_must_isolate_does_not_start_where_it_cannot() {
    let Some((server, prefix)) = deprived("isolation = \"required\"") else { return };
    let run = Run::of(&server.command_under(&prefix, "n1", &["check", "--json"]).output().unwrap());
    assert_eq!((found(&run.lines(), "isolation of scripts")["state"].as_str(), run.code), (Some("missing"), 1));
    let mut worker = Daemon::start(&mut server.command_under(&prefix, "n1", &[]));
    // A restart would find the same.
    assert_eq!(worker.wait().code(), Some(78));
    worker.until_quiet();
    let said = worker.stderr();
    assert!(said.contains("isolation in [worker] is \"required\"") && said.contains("max_user_namespaces"), "{said}");
}

#[test]
fn a_machine_that_is_ready_for_a_worker_passes_the_check() {
    if Warden::Root.cannot_be_tried() {
        return;
    }
    let server = Server::start_at(Place::new(), "isolation = \"required\"");
    let check = |more: &[&str]| {
        let base = server.base().to_owned();
        let path = |name: &str| base.join(name).into_os_string().into_string().unwrap();
        let (state, temporary) = (path("worker-n1"), path("tmp-n1"));
        server.run(&[more, &["worker", "--state-dir", &state, "--temp-dir", &temporary, "check", "--json"]].concat())
    };
    let good = check(&[]);
    assert_eq!(good.code, 0, "{good:?}");
    assert!(good.lines().iter().all(|line| line["state"] == "good" && line["hint"].is_null()), "{good:?}");
    for what in ["state directory", "directory for payloads", "account of scripts", "isolation of scripts", "server"] {
        found(&good.lines(), what);
    }
    found(&good.lines(), &format!("repository {REPOSITORY}"));
    // Each thing that is wrong is named, and how to mend it.
    let other = server.base().join("other-token");
    private(&other, "a-token-that-nobody-knows");
    let refused = check(&["--token-file", other.to_str().unwrap()]);
    assert_eq!(
        (refused.code, found(&refused.lines(), "server")["state"].as_str()),
        (1, Some("missing")),
        "{refused:?}"
    );
    std::fs::remove_file(server.base().join("keys").join(format!("{REPOSITORY}.key"))).unwrap();
    let unsigned = check(&[]);
    let repository = found(&unsigned.lines(), &format!("repository {REPOSITORY}")).clone();
    assert_eq!((unsigned.code, repository["state"].as_str()), (1, Some("missing")), "{unsigned:?}");
    assert!(repository["text"].as_str().unwrap().contains("cannot be signed"), "{repository}");
}
