//! A server that is stopped and started again.

use conveyor::domain::job::state::StateKind;

use crate::harness::{Daemon, Dev, Gate, REPOSITORY, job};

#[test]
fn a_restart_keeps_everything_and_waiting_goes_on() {
    let mut dev = Dev::start();
    let gate = Gate::new();
    let done = dev.program().good(&["submit", "-r", REPOSITORY, "-p", "", "--label", "a=b", "-w"]).job_id();
    let failed = dev.submit(job(REPOSITORY, "/x", dev.script("echo the reason; exit 1")));
    dev.ended(failed);
    let running = dev.submit(job(REPOSITORY, "/x", dev.script(&format!("{}\necho x >>x/x", gate.script()))));
    gate.until_runs(1);
    let behind = ["submit", "-r", REPOSITORY, "-p", "", "-d", &running.to_string(), "--wait"];
    let mut waiting = Daemon::start(&mut dev.program().command(&behind));
    waiting.said("the job is submitted", |stdout, _| stdout.contains("job_id").then_some(()));
    let before = (dev.view(done), dev.view(failed), dev.log(failed));

    dev.restart();
    assert_eq!((dev.view(done), dev.view(failed), dev.log(failed)), before);
    gate.until_runs(2);
    dev.kill9();
    dev.start_again();
    assert_eq!((dev.view(done), dev.view(failed)), (before.0, before.1));
    gate.open();
    let ended = dev.ended(running);
    assert_eq!((ended.state, ended.failures), (StateKind::Succeeded, 0), "{ended:?}");
    assert_eq!(dev.published("x/x").unwrap(), b"x\n");
    assert_eq!(waiting.wait().code(), Some(0), "{}", waiting.stderr());
    assert_eq!(dev.publishes(), 3);
}
