//! `cvmfs_server ingest` of the same files, where it is installed and a repository is given.

use std::process::Command;
use std::time::Instant;

use serde_json::json;

use super::content::Row;
use super::report::figure;

/// Names a repository of this machine that may be written to.
const REPOSITORY: &str = "CONVEYOR_BENCH_CVMFS_REPOSITORY";

pub(crate) fn print(row: &Row) {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    if !std::env::split_paths(&paths).any(|path| path.join("cvmfs_server").is_file()) {
        return eprintln!("{}: skipped: cvmfs_server is not installed", row.name());
    }
    let Ok(repository) = std::env::var(REPOSITORY) else {
        return eprintln!("{}: skipped: {REPOSITORY} names no repository for cvmfs_server", row.name());
    };
    let folder = tempfile::tempdir().unwrap();
    let archive = folder.path().join("content.tar");
    let mut tar = tar::Builder::new(std::fs::File::create(&archive).unwrap());
    row.each(|path, size, content| {
        let mut header = tar::Header::new_gnu();
        header.set_size(size);
        header.set_mode(0o644);
        tar.append_data(&mut header, path, content).unwrap();
    });
    tar.into_inner().unwrap().sync_all().unwrap();
    let mut command = Command::new("cvmfs_server");
    command.args(["ingest", "-t"]).arg(&archive).args(["-b", "conveyor-bench", &repository]);
    let began = Instant::now();
    let output = command.output().unwrap();
    let ms = began.elapsed().as_secs_f64() * 1e3;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    figure(&format!("{}: cvmfs_server ingest", row.name()), ms, "ms", None, json!({ "samples": 1 }));
}
