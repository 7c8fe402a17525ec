//! `cvmfs_server abort [-f] REPOSITORY`.

use std::fs;
use std::io::Write;

use crate::gateway::Gateway;
use crate::lab::{Lab, Repository, end};
use crate::lock::Publishing;
use crate::{holders, mounts};

pub(crate) fn run(lab: &Lab, arguments: &[String]) {
    let Some((name, options)) = arguments.split_last() else { end("unknown-command", &[]) };
    let Some(repository) = lab.repository(name) else { end("abort/unknown-repository", &[("repository", name)]) };
    if !repository.has_server() {
        repository.end("abort/server-down", &[])
    }
    if Publishing::is_held(&repository) {
        repository.end("abort/publishing", &[])
    }
    if !repository.is_in_transaction() {
        repository.end("abort/not-open", &[])
    }
    if holders::is_inside(&repository.node.union) {
        repository.end("abort/inside", &[])
    }
    if !options.iter().any(|option| option == "-f") && !is_wanted() {
        std::process::exit(4);
    }
    if repository.gateway().is_some() {
        drop_lease(lab, &repository);
    }
    lab.point("abort", "after-drop");
    let Some(lock) = Publishing::take(&repository) else { repository.end("abort/publishing", &[]) };
    mounts::renew(lab, "abort", &repository);
    fs::remove_file(repository.spool("in_transaction.lock")).unwrap();
    lock.let_go(&repository);
    println!("CernVM-FS: running with suid support");
    println!("CernVM-FS: loading Fuse module... done");
    println!("CernVM-FS: mounted cvmfs on {}", repository.rdonly().display());
}

/// Asks; that nobody is there to answer counts as yes.
fn is_wanted() -> bool {
    print!("You are about to DISCARD ALL CHANGES of the current transaction! Are you sure (y/N)? ");
    std::io::stdout().flush().unwrap();
    let mut answer = String::new();
    let length = std::io::stdin().read_line(&mut answer).unwrap_or(0);
    length == 0 || answer.trim().eq_ignore_ascii_case("y")
}

fn drop_lease(lab: &Lab, repository: &Repository) {
    let token = repository.spool("session_token");
    let Ok(text) = fs::read_to_string(&token) else { return };
    lab.point("abort", "before-drop");
    let Some(gateway) = Gateway::of(repository) else { repository.end("transaction/no-key", &[]) };
    // Whatever it answers: one that has expired is gone as well.
    if gateway.drop_lease(&text).is_err() {
        repository.end("abort/gateway-down", &[])
    }
    fs::remove_file(token).unwrap();
    println!("Gateway reply: ok");
}
