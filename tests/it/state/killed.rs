//! Killed in the middle of pruning and of a backup.

use conveyor::domain::ids::JobId;
use conveyor::domain::job::spec::Payload;

use crate::harness::{OTHER, Server, job, until};

fn cancelled(server: &Server, count: usize) -> Vec<JobId> {
    let jobs: Vec<_> = (0..count).map(|_| job(OTHER, "/x", Payload::Empty)).collect();
    let ids: Vec<JobId> = jobs.into_iter().map(|spec| server.submit(spec)).collect();
    for id in &ids {
        assert_eq!(server.run(&["cancel", &id.to_string()]).code, 0);
    }
    ids
}

#[test]
fn a_server_killed_while_it_prunes_goes_on_where_it_was() {
    let mut server = Server::start();
    let ids = cancelled(&server, 3);
    server.process().terminate();
    server.configure("[retention]\njobs_max = 1\ninterval_s = 1\n");
    server.start_again(Some("retention.jobs-pruned"));
    assert!(!server.process().wait().success(), "it was killed");
    server.program().good(&["check-db", "--verify"]);
    server.start_again(None);
    until("the rest to be pruned", || {
        let listed = server.run(&["list"]);
        (listed.code == 0 && listed.lines().len() == 1).then_some(())
    });
    let left = server.run(&["list"]);
    assert_eq!(left.job_id(), ids[2], "the newest stays");
    server.program().good(&["check-db", "--verify"]);
}

#[test]
fn a_backup_that_is_killed_is_none_and_harms_nobody() {
    let server = Server::start();
    cancelled(&server, 2);
    let copy = server.base().join("copy");
    for point in ["backup.blobs-copied", "backup.jobs-copied", "backup.before-name"] {
        let mut command = server.program().command(&["backup", copy.to_str().unwrap()]);
        let status = command.env("CONVEYOR_CRASH_AT", point).status().unwrap();
        assert!(!status.success() && !copy.exists(), "{point}");
    }
    cancelled(&server, 1);
    let said = server.program().good(&["backup", copy.to_str().unwrap()]).last();
    assert_eq!(said["jobs"], 3);
    let left: Vec<_> = std::fs::read_dir(server.base()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().contains("partial")), "{left:?}");
}

#[test]
fn no_server_starts_on_half_of_a_restore() {
    let server = Server::start();
    let (copy, back) = (server.base().join("copy"), server.base().join("back"));
    server.program().good(&["backup", copy.to_str().unwrap()]);
    let arguments = ["restore", copy.to_str().unwrap(), "--state-dir", back.to_str().unwrap()];
    let status = server.program().command(&arguments).env("CONVEYOR_CRASH_AT", "restore.before-done").status().unwrap();
    assert!(!status.success());
    let run = server.program().run(&["server", "--listen", "127.0.0.1:0", "--state-dir", back.to_str().unwrap()]);
    assert!(run.code == 78 && run.stderr.contains("restore"), "{run:?}");
    std::fs::remove_dir_all(&back).unwrap();
    server.program().good(&arguments);
}
