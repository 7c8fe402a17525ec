//! The operator of a worker's machine: status, drain and resume by the socket in its state directory.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;

use conveyor::domain::job::state::StateKind;
use serde_json::{Value, json};

use super::{gated, server, shown, until_shown};
use crate::harness::{Gate, OTHER, REPOSITORY, Run, Server, job, until};

fn control(server: &Server, node: &str, action: &str, more: &[&str]) -> Run {
    let state = server.base().join(format!("worker-{node}")).into_os_string().into_string().unwrap();
    server.run(&[&["worker", action, "--state-dir", &state], more].concat())
}

fn good(server: &Server, node: &str, action: &str, more: &[&str]) -> Value {
    let run = control(server, node, action, more);
    assert_eq!(run.code, 0, "{run:?}");
    run.last()
}

#[test]
fn a_worker_that_an_operator_drains_stays_alive_and_takes_nothing_until_it_is_resumed() {
    let server = server(60);
    let mut one = server.worker_of_slots("one", 2);
    let idle = until_shown(&server, "one", "idle");
    let gate = Gate::new();
    let runs = gated(&server, &gate, REPOSITORY);
    gate.until_runs(1);
    let status = good(&server, "one", "status", &[]);
    assert_eq!((&status["node"], &status["slots"], &status["used"]), (&json!("one"), &json!(2), &json!(1)), "{status}");
    assert_eq!((&status["instance"], &status["draining"]), (&idle["instance"], &Value::Null));
    assert_eq!((&status["pid"], &status["server"]["is_heard"]), (&json!(one.id()), &json!(true)));
    let batch = &status["batches"][0];
    assert_eq!((&batch["repository"], &batch["step"]), (&json!(REPOSITORY), &json!("staging")), "{batch}");
    assert_eq!((&batch["lease_path"], &batch["jobs"]), (&json!("/x"), &json!([runs])), "{batch}");

    let drained = good(&server, "one", "drain", &["--why", "new disk"]);
    assert_eq!((&drained["draining"]["by"], &drained["draining"]["why"]), (&json!("operator"), &json!("new disk")));
    until_shown(&server, "one", "draining");
    let told = server.run(&["workers"]).stderr;
    assert!(told.contains("one is drained since") && told.contains("new disk"), "{told}");
    let waits = server.submit(job(OTHER, "/x", server.script("echo x >x/x")));
    let late = control(&server, "one", "drain", &["--wait", "--timeout", "0"]);
    assert_eq!(late.code, 1, "{late:?}");
    assert_eq!(late.last()["draining"], drained["draining"], "told again, the reason stays");
    assert_eq!(server.view(runs).state, StateKind::Running, "nothing is given back");
    gate.open();
    assert_eq!(good(&server, "one", "drain", &["--wait"])["used"], 0);
    assert_eq!(server.ended(runs).state, StateKind::Succeeded);
    assert!(matches!(server.view(waits).state, StateKind::Queued | StateKind::Offered));
    assert_eq!(one.poll(), None, "it lives");

    // It also says so after a kill, which leaves its socket behind.
    one.kill9();
    let gone = control(&server, "one", "status", &[]);
    assert_eq!(gone.code, 69, "{gone:?}");
    let _again = server.worker("one");
    assert_eq!(good(&server, "one", "status", &[])["draining"], drained["draining"]);
    until("its heartbeat says so", || {
        shown(&server, "one").filter(|worker| worker["state"] == "draining" && worker["instance"] != idle["instance"])
    });
    assert!(matches!(server.view(waits).state, StateKind::Queued | StateKind::Offered));
    assert_eq!(good(&server, "one", "resume", &[])["draining"], Value::Null);
    assert_eq!(server.ended(waits).state, StateKind::Succeeded);
    until_shown(&server, "one", "idle");
}

#[test]
fn a_worker_that_ends_says_so_and_cannot_be_resumed() {
    let server = server(600);
    let mut one = server.worker("one");
    let gate = Gate::new();
    let runs = gated(&server, &gate, REPOSITORY);
    gate.until_runs(1);
    one.signal();
    until("it says that it ends", || (good(&server, "one", "status", &[])["draining"]["by"] == "signal").then_some(()));
    let refused = control(&server, "one", "resume", &[]);
    assert!(refused.code == 1 && refused.stderr.contains("told to end"), "{refused:?}");
    gate.open();
    assert_eq!(one.wait().code(), Some(0));
    assert_eq!(server.ended(runs).state, StateKind::Succeeded);
    assert!(!server.base().join("worker-one/control.sock").exists());
}

#[test]
fn what_the_socket_does_not_understand_it_says_and_it_goes_on() {
    let server = server(60);
    let _one = server.worker("one");
    let stream = UnixStream::connect(server.base().join("worker-one/control.sock")).unwrap();
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
    let mut ask = |text: &str| -> Value {
        writeln!(&stream, "{text}").unwrap();
        serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap()
    };
    assert_eq!(ask("hello")["error"]["code"], "bad_request");
    assert_eq!(ask(r#"{"version":1,"do":"explode"}"#)["error"]["code"], "bad_request");
    assert_eq!(ask(r#"{"version":2,"do":"status"}"#)["error"]["code"], "version");
    let status = ask(r#"{"version":1,"do":"status"}"#);
    assert_eq!((&status["version"], &status["status"]["node"]), (&json!(1), &json!("one")), "{status}");
    assert_eq!(control(&server, "none", "status", &[]).code, 69);
}
