//! Tokens as an operator deals with them: made, given to a worker and to people, listed, revoked.

use std::os::unix::fs::PermissionsExt;

use crate::harness::{Gate, REPOSITORY, Run, Server, until};

/// A token that was made: its id and the file that it is in.
struct Made {
    id: String,
    file: String,
}

impl Made {
    fn secret(&self) -> String {
        std::fs::read_to_string(&self.file).unwrap().trim().to_owned()
    }
}

fn make(server: &Server, name: &str, role: &str, more: &[&str]) -> Made {
    let file = server.base().join(format!("{name}.token")).into_os_string().into_string().unwrap();
    let create = ["token", "create", "--name", name, "--role", role, "--save", &file];
    let run = server.run(&[&create, more].concat());
    assert_eq!(run.code, 0, "{run:?}");
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let made = Made { id: run.last()["id"].as_str().unwrap().to_owned(), file };
    let secret = made.secret();
    assert!(secret.starts_with(&format!("conveyor_{}_", made.id)) && secret.len() == 9 + 12 + 1 + 64, "{secret}");
    assert!(!run.stdout.contains(&secret) && !run.stderr.contains(&secret));
    made
}

fn run_as(server: &Server, token: &Made, arguments: &[&str]) -> Run {
    server.run(&[&["--token-file", &token.file], arguments].concat())
}

#[test]
fn each_role_does_its_work_and_no_more_until_it_is_revoked() {
    let mut server = Server::start();
    let list = server.token_list();
    let publisher = make(&server, "publisher-1", "worker", &[]);
    let ci = make(&server, "ci", "submit", &["--expires", "90d", "--note", "the \"runner\""]);
    let dashboard = make(&server, "dashboard", "read", &["--file", &list]);
    let shift = make(&server, "shift", "operator", &[]);
    let _worker = server.worker_with("n1", "n1", &["--token-file", &publisher.file]);

    let payload = server.base().join("payload");
    std::fs::write(&payload, "#!/bin/sh\nmkdir -p x; echo x >x/x\n").unwrap();
    let submit = ["submit", "-r", REPOSITORY, "--script", payload.to_str().unwrap()];
    let done = run_as(&server, &ci, &[&submit[..], &["--wait"]].concat());
    assert_eq!((done.code, done.last()["state"].as_str()), (0, Some("succeeded")), "{done:?}");
    let id = done.last()["job_id"].as_str().unwrap().to_owned();
    // The token in the list comes into force by itself.
    until("the list was read", || (run_as(&server, &dashboard, &["check", &id]).code == 0).then_some(()));
    let seen = run_as(&server, &dashboard, &["check", "--full-status", &id]);
    assert!(seen.stdout.contains("\"owner\":\"ci\""), "{seen:?}");

    for (token, arguments, needed) in [
        (&dashboard, &submit[..], "submit or worker"),
        (&dashboard, &["submit", "-r", REPOSITORY, "-p", ""], "submit"),
        (&publisher, &["list"][..], "read"),
        (&ci, &["token", "list"], "admin"),
        (&shift, &["token", "create", "--role", "admin"], "admin"),
        (&dashboard, &["cancel", &id], "submit or operator"),
    ] {
        let run = run_as(&server, token, arguments);
        assert_eq!(run.code, 1, "{run:?}");
        assert!(run.stderr.contains(&format!("role {needed}, and token {}", token.id)), "{run:?}");
        assert!(run.stderr.contains("(forbidden)") && run.stderr.contains("hint: "), "{run:?}");
    }
    let others = server.run(&["submit", "-r", REPOSITORY, "-p", "", "-w"]).job_id().to_string();
    let run = run_as(&server, &ci, &["retry", &others]);
    assert!(run.code == 1 && run.stderr.contains("of bootstrap; to change it needs the role operator"), "{run:?}");
    assert!(run_as(&server, &shift, &["retry", &others]).stderr.contains("not_retryable"));

    // Revoked at once: calls, and streams that are open.
    let gate = Gate::new();
    let stays = server.base().join("stays");
    std::fs::write(&stays, format!("#!/bin/sh\n{}\n", gate.script())).unwrap();
    let stays = ["submit", "-r", REPOSITORY, "--script", stays.to_str().unwrap(), "--wait"];
    let mut follower = server.daemon(&[&["--token-file", &ci.file], &stays[..]].concat());
    follower.said("the job is submitted", |stdout, _| stdout.contains("job_id").then_some(()));
    let revoked = server.run(&["token", "revoke", &ci.id]);
    assert_eq!((revoked.code, revoked.last()["state"].as_str()), (0, Some("revoked")), "{revoked:?}");
    assert_eq!(follower.wait().code(), Some(1), "{}", follower.stderr());
    follower.until_quiet();
    assert!(follower.stderr().contains("was revoked"), "{}", follower.stderr());
    let refused = run_as(&server, &ci, &["list"]);
    assert!(refused.code == 1 && refused.stderr.contains("(unauthorized)"), "{refused:?}");
    // That of the list, in the list.
    let run = server.run(&["token", "revoke", &dashboard.id]);
    assert!(run.code == 1 && run.stderr.contains("token_in_file") && run.stderr.contains("--file"), "{run:?}");
    assert_eq!(server.run(&["token", "revoke", "--file", &list, &dashboard.id]).code, 0);
    until("the list was read again", || (run_as(&server, &dashboard, &["list"]).code == 1).then_some(()));

    // A slip in the list locks nobody out, and a restart changes nothing.
    std::fs::write(&list, "[[token]\n").unwrap();
    until("the slip was noticed", || server.log().contains("stays in force").then_some(()));
    assert_eq!(run_as(&server, &shift, &["list"]).code, 0);
    std::fs::write(&list, "").unwrap();
    let log = server.log();
    server.crash_and_restart();
    assert_eq!(run_as(&server, &shift, &["list"]).code, 0);
    assert_eq!(run_as(&server, &ci, &["list"]).code, 1);
    let listed = server.run(&["token", "list"]).lines();
    let states = listed.iter().map(|token| (token["name"].as_str().unwrap(), token["state"].as_str().unwrap()));
    let wanted = [("bootstrap", "good"), ("ci", "revoked"), ("publisher-1", "good"), ("shift", "good")];
    assert_eq!(states.collect::<Vec<_>>(), wanted);

    let log = log + &server.log();
    assert!(log.contains("token revoked") && log.contains(&ci.id), "{log}");
    for token in [&publisher, &ci, &dashboard, &shift] {
        let secret = token.secret()[22..].to_owned();
        assert!(!log.contains(&secret), "a secret was logged");
        for file in ["conveyor.db", "conveyor.db-wal", "../tokens.toml"] {
            let content = std::fs::read(server.base().join("server").join(file)).unwrap_or_default();
            assert!(!content.windows(secret.len()).any(|window| window == secret.as_bytes()), "{file} has a secret");
        }
    }
}

#[test]
fn a_token_is_shown_once_where_it_is_not_saved() {
    let server = Server::start();
    let run = server.run(&["token", "create", "--role", "read,worker", "--output", "table"]);
    let token = run.stdout.trim();
    assert!(run.code == 0 && token.starts_with("conveyor_") && !run.stderr.contains(token), "{run:?}");
    let run = server.run(&["token", "create", "--role", "read"]);
    let token = run.last();
    assert!(token["token"].as_str().unwrap().contains(token["id"].as_str().unwrap()), "{run:?}");
    assert_eq!(token["name"], token["id"]);
    let taken = server.base().join("token").into_os_string().into_string().unwrap();
    let run = server.run(&["token", "create", "--role", "read", "--save", &taken]);
    assert!(run.code == 1 && run.stderr.contains("cannot write the token"), "{run:?}");
    // What came to nothing leaves no file.
    let new = server.base().join("new").into_os_string().into_string().unwrap();
    for arguments in [&["--url", "http://127.0.0.1:1", "--retry-for", "0"][..], &["--file", "/no/such/folder/list"]] {
        let run = server.run(&[&["token", "create", "--role", "read", "--save", &new], arguments].concat());
        assert_ne!(run.code, 0, "{run:?}");
        assert!(!std::path::Path::new(&new).exists());
    }
    assert_eq!(server.run(&["token", "list"]).lines().len(), 3);
    for wrong in
        [&["--role", "root"][..], &[], &["--role", "read", "--expires", "soon"], &["--role", "read", "--name", "a b"]]
    {
        let run = server.run(&[&["token", "create"], wrong].concat());
        assert_eq!(run.code, 2, "{run:?}");
    }
}
