//! A database that was damaged while no server ran.

use conveyor::domain::job::spec::Payload;
use conveyor::domain::job::state::StateKind;
use serde_json::Value;

use crate::harness::{Daemon, Http, OTHER, REPOSITORY, Server, job, until};

/// Changes a row as nothing of ours would.
fn tamper(server: &Server, sql: &str) {
    let connection = rusqlite::Connection::open(server.state().join("conveyor.db")).unwrap();
    assert_eq!(connection.execute(sql, []).unwrap(), 1, "{sql}");
}

/// Brings all of a database into its file: what is in its log would be read from there.
fn into_one_file(path: &std::path::Path) {
    let connection = rusqlite::Connection::open(path).unwrap();
    let _: i64 = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0)).unwrap();
}

#[test]
fn damaged_rows_are_passed_over_shown_and_named() {
    let mut server = Server::start();
    let (damaged, good) =
        (server.submit(job(REPOSITORY, "/x", Payload::Empty)), server.submit(job(OTHER, "/x", Payload::Empty)));
    let last = server.submit(job(OTHER, "/x", Payload::Empty));
    server.kill9();
    tamper(&server, "UPDATE batches SET detail = '{' WHERE repository = 'test.example.org'");
    tamper(&server, "UPDATE jobs SET spec = 'x' WHERE seq = 1");
    tamper(&server, "UPDATE events SET event = '[]' WHERE number = 1");
    server.start_again(None);
    let _worker = server.worker("one");
    for id in [good, last] {
        assert_eq!(server.ended(id).state, StateKind::Succeeded);
    }
    let http = Http::new(server.url(), server.token());
    assert_eq!(http.get(&format!("/api/v1/jobs/{damaged}")).status, 500);
    let listed = server.run(&["list"]);
    assert_eq!((listed.code, listed.lines().len()), (0, 2), "{listed:?}");
    let ready = http.get("/readyz");
    let said: Value = serde_json::from_slice(&ready.body).unwrap();
    assert_eq!((ready.status, &said["ready"]), (200, &Value::Bool(true)));
    assert!(said["damaged_rows"].as_u64().unwrap() >= 2, "{said}");
    let figures = String::from_utf8(http.get("/metrics").body).unwrap();
    assert!(figures.contains(&format!("conveyor_damaged_rows {}", said["damaged_rows"])), "{figures}");
    let told = || server.log().matches("job number 1 is damaged and passed over").count();
    until("it is told", || (told() > 0).then_some(()));
    assert_eq!(told(), 1, "once: {}", server.log());
    let checked = server.program().run(&["check-db"]);
    assert_eq!(checked.code, 1, "{checked:?}");
    for row in ["batch ", "job number 1", "event 1"] {
        let is_named = |line: &Value| line["problem"].as_str().is_some_and(|problem| problem.contains(row));
        // Of a job that cannot be read the events are not looked at.
        assert!(row == "event 1" || checked.lines().iter().any(is_named), "{row}: {checked:?}");
    }
}

#[test]
fn a_file_that_is_no_database_any_more_is_said_with_what_to_do() {
    let mut server = Server::start();
    let id = server.submit(job(REPOSITORY, "/x", Payload::Empty));
    let copy = server.base().join("copy").into_os_string().into_string().unwrap();
    server.program().good(&["backup", &copy]);
    assert!(server.process().terminate().success());
    let path = server.state().join("conveyor.db");
    into_one_file(&path);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[..4096].fill(0x5a);
    std::fs::write(&path, bytes).unwrap();
    let mut broken = Daemon::start(&mut server.program().command(&["server", "--listen", "127.0.0.1:0"]));
    // A service manager must not try again and again.
    assert_eq!(broken.wait().code(), Some(78));
    broken.until_quiet();
    for word in ["conveyor.db is damaged", "conveyor check-db", "conveyor restore"] {
        assert!(broken.stderr().contains(word), "{word}: {}", broken.stderr());
    }
    let checked = server.program().run(&["check-db"]);
    assert!(checked.code == 78 && checked.stderr.contains("is damaged"), "{checked:?}");
    // What it says works.
    std::fs::rename(server.state(), server.base().join("lost")).unwrap();
    server.program().good(&["restore", &copy]);
    server.start_again(None);
    assert_eq!(server.view(id).job_id, id);
}

#[test]
fn a_page_that_is_damaged_is_found_by_the_check() {
    let mut server = Server::start();
    for _ in 0..60 {
        server.submit(job(REPOSITORY, "/x", Payload::Empty));
    }
    assert!(server.process().terminate().success());
    let path = server.state().join("conveyor.db");
    into_one_file(&path);
    let connection = rusqlite::Connection::open(&path).unwrap();
    let root: usize =
        connection.query_row("SELECT rootpage FROM sqlite_schema WHERE name = 'events'", [], |row| row.get(0)).unwrap();
    let size: usize = connection.query_row("PRAGMA page_size", [], |row| row.get(0)).unwrap();
    drop(connection);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[(root - 1) * size..root * size].fill(0);
    std::fs::write(&path, bytes).unwrap();
    let checked = server.program().run(&["check-db"]);
    assert_ne!(checked.code, 0, "{checked:?}");
    assert!((checked.stdout + &checked.stderr).contains("conveyor.db"));
}
