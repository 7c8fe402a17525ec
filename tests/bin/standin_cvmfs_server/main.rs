//! A stand-in for `cvmfs_server` 2.12 on a publisher node, for tests. It is never installed.
//!
//! Its answers are those of `rows.rs`, which were measured; locks, mounts, tags and revisions are real: the union directory
//! is an overlay on a copy of the present revision, and a publish is made by the library's own writer, so that everything
//! can be read over HTTP. One thing it does otherwise on purpose: the child that outlives its shell makes the whole publish,
//! where the real one's leaves the last steps to the shell. It must be root, as the real one's helper is. It is called through a script that names its lab:
//!
//! ```text
//! #!/bin/sh
//! CONVEYOR_STANDIN_LAB=/some/where exec standin-cvmfs-server "$@"
//! ```
//!
//! Below the lab lie `etc/cvmfs`, `var/spool/cvmfs`, `srv/cvmfs` and `cvmfs` as on a machine, and `faults/COMMAND`, a file of
//! words such as `kill-after-flip` (`Lab::point`).

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod abort;
mod apply;
mod gateway;
mod holders;
mod lab;
mod lock;
mod mkfs;
mod mounts;
mod pack;
mod publish;
mod rows;
mod signature;
mod transaction;

use lab::Lab;

fn main() {
    let mut words = std::env::args();
    let (called, arguments) = (words.next().unwrap_or_default(), words.collect::<Vec<_>>());
    let lab = Lab::here();
    if called == publish::SWISSKNIFE {
        return publish::sync(&lab, &arguments);
    }
    let (command, arguments) = arguments.split_first().map_or(("", &[][..]), |(first, rest)| (first.as_str(), rest));
    match command {
        "mkfs" => mkfs::make(&lab, arguments),
        "rmfs" => mkfs::remove(&lab, arguments),
        "mount" => mkfs::mount(&lab, arguments),
        "umount" => mkfs::unmount(&lab, arguments),
        "transaction" => transaction::run(&lab, arguments),
        "publish" => publish::run(&lab, arguments),
        "abort" => abort::run(&lab, arguments),
        _ => lab::end("unknown-command", &[]),
    }
}
