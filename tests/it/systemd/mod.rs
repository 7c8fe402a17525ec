//! The daemons under a service manager: what they tell it, when, and that it is true.

mod exit_codes;
mod notify;
mod reload;
mod server;
mod watchdog;
mod worker;

use std::process::Command;

use crate::harness::{Daemon, Ear, Server, private};

/// A server in the ear of a service manager that was told that it is ready.
fn managed(ear: &Ear, prepare: impl FnOnce(&mut Command)) -> Server {
    managed_with(ear, |_| String::new(), prepare)
}

/// The same with further tables.
fn managed_with(
    ear: &Ear,
    tables: impl FnOnce(&std::path::Path) -> String,
    prepare: impl FnOnce(&mut Command),
) -> Server {
    let mut server = Server::start_with("drain_timeout_s = 600", tables);
    assert!(server.process().terminate().success());
    let mut command = server.command();
    prepare(ear.hears(&mut command));
    let process = Daemon::start(&mut command);
    server.replace(process);
    server
}

/// The server's settings, as they are and as they are to be.
fn edit(server: &Server, change: impl FnOnce(String) -> String) {
    let path = server.base().join("config.toml");
    private(&path, &change(std::fs::read_to_string(&path).unwrap()));
}
