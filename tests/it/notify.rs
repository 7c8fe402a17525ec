//! The real tools of CernVM-FS against our notifications. `CONVEYOR_TEST_SWISSKNIFE` names `cvmfs_swissknife`, else the one of the path
//! counts.

use std::process::Command;

use conveyor::domain::job::state::StateKind;

use crate::harness::{Daemon, Dev, REPOSITORY, job, missing};

/// The program, where this machine has it.
fn swissknife() -> Option<Command> {
    let program = std::env::var_os("CONVEYOR_TEST_SWISSKNIFE").unwrap_or_else(|| "cvmfs_swissknife".into());
    let runs = Command::new(&program).output().is_ok();
    let why = (!runs).then(|| "this machine has no cvmfs_swissknife".to_owned());
    (!missing("swissknife", why)).then(|| Command::new(program))
}

#[test]
fn the_real_swissknife_publishes_and_is_told_also_after_a_restart() {
    let Some(mut subscribe) = swissknife() else { return };
    let mut dev = Dev::start();
    let api = format!("{}/api/v1", dev.address());
    subscribe.args(["notify", "-s", "-c", "-v", "-u", &api, "-t", REPOSITORY]);
    let mut subscriber = Daemon::start(&mut subscribe);
    let mut publish = |dev: &Dev, path: &str| {
        let id = dev.submit(job(REPOSITORY, path, dev.script(&format!("mkdir -p .{path} && echo x >.{path}/x"))));
        assert_eq!(dev.ended(id).state, StateKind::Succeeded);
        let repository = format!("{}/cvmfs/{REPOSITORY}", dev.address());
        let Some(mut tell) = swissknife() else { return };
        let told = tell.args(["notify", "-p", "-u", &api, "-r", &repository]).status().unwrap();
        assert!(told.success(), "{told}");
        let revision = format!("is now at revision {}", dev.reader().manifest().revision);
        subscriber.said("the subscriber is told", |stdout, stderr| {
            (stdout.contains(&revision) || stderr.contains(&revision)).then_some(())
        });
    };
    publish(&dev, "/a");
    dev.restart();
    publish(&dev, "/b");
}
