//! `nix/rabbitmq-setup.sh` on a real RabbitMQ, with the table that `nix/rabbitmq.nix` gives.

use std::path::Path;
use std::process::Output;

use super::{evaluate, no_nix, root, write};
use crate::harness::{Rabbit, no_rabbit, script_apart};

const OPTIONS: &str = r#"{ enable = true; users = { a.role = "server"; b.fleet = "other.fleet"; }; }"#;

fn passwords(directory: &Path, a: &str, b: &str) {
    write(directory, "password.a", a);
    write(directory, "password.b", b);
}

fn set_up(rabbit: &Rabbit, directory: &Path) -> Output {
    rabbit
        .command(&root().join("nix/rabbitmq-setup.sh"), directory)
        .args(["cvmfs", directory.join("users").to_str().unwrap()])
        .env("CREDENTIALS_DIRECTORY", directory)
        .output()
        .unwrap()
}

#[test]
fn users_get_their_passwords_and_permissions_also_a_second_time() {
    if no_nix() || no_rabbit() {
        return;
    }
    let rabbit = Rabbit::start(None);
    rabbit.control(&["add_user", "guest", "guest"]);
    let directory = tempfile::tempdir().unwrap();
    let table = evaluate(&format!(
        "(import ./nix/machine.nix {{ services.conveyor.rabbitmq = {OPTIONS}; }}).files.\"/etc/cvmfs/conveyor/rabbitmq.users\".text"
    ));
    write(directory.path(), "users", table.as_str().unwrap());
    // In front of the real one, to note what every process could read.
    let real = "#!/bin/sh\necho \"$@\" >>\"$CREDENTIALS_DIRECTORY/arguments\"\nexec /usr/lib/rabbitmq/bin/rabbitmqctl \"$@\"\n";
    script_apart(&directory.path().join("rabbitmqctl"), real);

    for [a, b] in [["first of a\n", "first-of-b"], ["second of a\n", "first-of-b"]] {
        passwords(directory.path(), a, b);
        let answer = set_up(&rabbit, directory.path());
        assert!(answer.status.success(), "{answer:?}");
        rabbit.control(&["authenticate_user", "a", a.trim_end()]);
        rabbit.control(&["authenticate_user", "b", b]);
    }
    let users = rabbit.control(&["list_users", "--no-table-headers"]);
    assert!(!users.lines().any(|line| line.starts_with("guest")), "{users}");
    let mut permissions: Vec<_> =
        rabbit.control(&["list_permissions", "-p", "cvmfs", "--no-table-headers"]).lines().map(str::to_owned).collect();
    permissions.sort();
    let all = "^conveyor\\.";
    assert_eq!(
        permissions,
        [format!("a\t{all}\t{all}\t{all}"), "b\t^$\t^$\t^conveyor\\.offers\\.other\\.fleet$".to_owned()]
    );
    let arguments = std::fs::read_to_string(directory.path().join("arguments")).unwrap();
    assert!(arguments.contains("change_password a") && !arguments.contains("first") && !arguments.contains("second"));

    passwords(directory.path(), "second of a\n", "");
    let answer = set_up(&rabbit, directory.path());
    assert_eq!(answer.status.code(), Some(78));
    assert!(String::from_utf8_lossy(&answer.stderr).contains("services.conveyor.rabbitmq.users.b.passwordFile"));
}
