//! `cvmfs_server transaction REPOSITORY[/PATH]`.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;

use serde_json::Value;

use crate::gateway::{Gateway, Unreachable};
use crate::lab::{Lab, Repository, end};
use crate::lock::Publishing;
use crate::{holders, mounts};

pub(crate) fn run(lab: &Lab, arguments: &[String]) {
    let Some((target, options)) = arguments.split_last() else { end("transaction/bad-option", &[]) };
    if !options.is_empty() {
        end("transaction/bad-option", &[])
    }
    let (name, path) = target.split_once('/').unwrap_or((target, ""));
    let path = path.trim_matches('/');
    let Some(repository) = lab.repository(name) else { end("transaction/unknown-repository", &[("repository", name)]) };
    if !repository.is_allowed() {
        repository.end("transaction/not-owner", &[])
    }
    if !repository.has_server() {
        repository.end("transaction/server-down", &[])
    }
    if repository.is_expired() {
        repository.end("transaction/whitelist-expired", &[])
    }
    if repository.is_in_transaction() {
        repository.end(open_row(&repository), &[])
    }
    let gateway = repository
        .gateway()
        .map(|_| Gateway::of(&repository).unwrap_or_else(|| repository.end("transaction/no-key", &[])));
    lab.point("transaction", "before-flag");
    let flag = repository.spool("in_transaction.lock");
    if OpenOptions::new().write(true).create_new(true).mode(0o600).open(&flag).is_err() {
        repository.end("transaction/open", &[])
    }
    lab.point("transaction", "after-flag");
    if !mounts::is_up_to_date(&repository) {
        if holders::is_held(&repository.node.union) {
            eprintln!("{} is in use and cannot be unmounted", repository.node.union.display());
        }
        eprintln!("{name} is not based on the newest published revision");
        eprintln!("Trying to unmount {}... success", repository.node.union.display());
        mounts::unmount(&repository);
        mounts::mount(&repository);
    }
    if let Some(gateway) = gateway {
        acquire(lab, &repository, &gateway, path);
    }
    assert!(mounts::set_writable(&repository, true));
    lab.point("transaction", "end");
}

fn open_row(repository: &Repository) -> &'static str {
    match (mounts::is_writable(repository), Publishing::is_held(repository)) {
        (true, _) => "transaction/open",
        (false, true) => "transaction/publishing",
        (false, false) => "transaction/read-only",
    }
}

/// Ends with the flag removed.
fn fail(repository: &Repository, row: &str, more: &[(&str, &str)]) -> ! {
    let _ = fs::remove_file(repository.spool("in_transaction.lock"));
    repository.end(row, more)
}

fn acquire(lab: &Lab, repository: &Repository, gateway: &Gateway, path: &str) {
    lab.point("transaction", "before-lease");
    let answer = gateway.acquire(&format!("{}/{path}", repository.name));
    let Ok(answer) = answer else { fail(repository, "transaction/gateway-down", &[]) };
    lab.point("transaction", "after-lease");
    let text = |key: &str| answer.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    match text("status").as_str() {
        "ok" => {}
        "path_busy" => {
            println!("Path busy. Time remaining = {}", text("time_remaining"));
            let _ = fs::remove_file(repository.spool("in_transaction.lock"));
            eprintln!("CernVM-FS transaction error: lease path busy");
            std::process::exit(16)
        }
        _ if text("reason") == "invalid_hmac" => fail(repository, "transaction/wrong-secret", &[]),
        _ => {
            println!("Error: '{}'", text("reason"));
            let _ = fs::remove_file(repository.spool("in_transaction.lock"));
            eprintln!("(unexpected termination) cannot parse session token");
            std::process::exit(1)
        }
    }
    let token = text("session_token");
    let parent = path.rsplit_once('/').map_or("", |(parent, _)| parent);
    let problem = match fs::symlink_metadata(repository.rdonly().join(parent)) {
        Ok(metadata) if metadata.is_dir() => None,
        Ok(_) => Some("transaction/parent-is-a-file"),
        Err(error) if error.kind() == std::io::ErrorKind::NotADirectory => Some("transaction/parent-is-a-file"),
        Err(_) => Some("transaction/no-parent"),
    };
    if let Some(row) = problem {
        let _: Result<Value, Unreachable> = gateway.drop_lease(&token);
        fail(repository, row, &[("path", parent)])
    }
    println!("Gateway reply: ok");
    let mut private = OpenOptions::new();
    let file = private.write(true).create(true).truncate(true).mode(0o600).open(repository.spool("session_token"));
    std::io::Write::write_all(&mut file.unwrap(), token.as_bytes()).unwrap();
    // The real one keeps it elsewhere; nobody reads it but the stand-in.
    fs::write(repository.spool("standin.lease"), path).unwrap();
    lab.point("transaction", "after-token");
}
