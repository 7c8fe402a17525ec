//! What the machine can do at best: bare SQLite, bare files.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::Instant;

use rusqlite::Connection;

/// Bytes of a row, about those of a small job.
const ROW: usize = 300;

/// Rows per second that one connection commits durably, `group` rows in each commit.
pub(crate) fn sqlite_rows_per_s(directory: &Path, rows: usize, group: usize) -> f64 {
    let folder = tempfile::tempdir_in(directory).unwrap();
    let mut connection = Connection::open(folder.path().join("floor.db")).unwrap();
    connection.pragma_update(None, "journal_mode", "WAL").unwrap();
    connection.pragma_update(None, "synchronous", "FULL").unwrap();
    connection.execute_batch("CREATE TABLE jobs (seq INTEGER PRIMARY KEY, id BLOB UNIQUE, spec TEXT)").unwrap();
    let text = "x".repeat(ROW);
    let began = Instant::now();
    for _ in 0..rows / group {
        let transaction = connection.transaction().unwrap();
        for _ in 0..group {
            let mut insert = transaction.prepare_cached("INSERT INTO jobs (id, spec) VALUES (?1, ?2)").unwrap();
            insert.execute((uuid::Uuid::now_v7(), &text)).unwrap();
        }
        transaction.commit().unwrap();
    }
    (rows / group * group) as f64 / began.elapsed().as_secs_f64()
}

/// Milliseconds to write files of this size and sync each, then their directory.
pub(crate) fn files_ms(directory: &Path, count: usize, content: &[u8]) -> f64 {
    let folder = tempfile::tempdir_in(directory).unwrap();
    let began = Instant::now();
    for number in 0..count {
        let mut file = File::create(folder.path().join(number.to_string())).unwrap();
        file.write_all(content).unwrap();
        file.sync_all().unwrap();
    }
    File::open(folder.path()).unwrap().sync_all().unwrap();
    began.elapsed().as_secs_f64() * 1e3
}

/// Milliseconds to write files of this size and sync their file system once.
pub(crate) fn files_synced_together_ms(directory: &Path, count: usize, content: &[u8]) -> f64 {
    let folder = tempfile::tempdir_in(directory).unwrap();
    let began = Instant::now();
    for number in 0..count {
        std::fs::write(folder.path().join(number.to_string()), content).unwrap();
    }
    nix::unistd::syncfs(File::open(folder.path()).unwrap()).unwrap();
    began.elapsed().as_secs_f64() * 1e3
}
