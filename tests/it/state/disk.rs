//! A disk that fails under a server that runs, and one that cannot be written from the start.

use conveyor::domain::job::spec::Payload;
use conveyor::domain::job::state::StateKind;
use serde_json::Value;

use crate::harness::{Dev, Http, Place, REPOSITORY, bare, job, missing, until};

#[test]
fn a_file_system_that_turns_read_only_is_said_and_nothing_is_taken_that_could_be_lost() {
    let Some(dev) = Dev::start_on_ext4(64) else {
        missing("ext4", Some("only root can mount a file system from a file".into()));
        return;
    };
    let http = Http::new(dev.url(), dev.token());
    dev.publish(job(REPOSITORY, "/before", dev.script("echo 1 >before/file")));
    // As ext4 does by itself after an error of its disk.
    let done = dev.within("mount -o remount,abort \"$0\"");
    assert!(done.status.success(), "{done:?}");
    let body = serde_json::to_vec(&[job(REPOSITORY, "/x", Payload::Empty)]).unwrap();
    let answer = http.post("/api/v1/jobs", &body);
    assert_eq!((answer.status, answer.code().as_str()), (503, "storage_unwritable"));
    assert_eq!(http.get("/healthz").status, 200);
    let ready = http.get("/readyz");
    let said: Value = serde_json::from_slice(&ready.body).unwrap();
    assert_eq!(ready.status, 503);
    assert!(said["reason"].as_str().unwrap().contains("cannot be written"), "{said}");
    // What is there can be looked at.
    let listed = dev.program().run(&["list"]);
    assert!(listed.code == 0 && listed.lines()[0]["state"] == "succeeded", "{listed:?}");
}

#[test]
fn a_server_on_a_disk_that_cannot_be_written_says_so_and_ends() {
    let base = Place::new();
    let state = base.path().join("state");
    std::fs::create_dir(&state).unwrap();
    crate::harness::private(&base.path().join("token"), "a-token-of-the-tests");
    let program = bare(base.path());
    let mut command = std::process::Command::new("unshare");
    command
        .args(["--mount", "--propagation", "private", "sh", "-c"])
        .arg("mount --bind \"$0\" \"$0\" && mount -o remount,bind,ro \"$0\" && exec \"$@\"")
        .arg(&state)
        .arg(program.get_program())
        .args(["server", "--listen", "127.0.0.1:0", "--state-dir"])
        .arg(&state)
        .arg("--token-file")
        .arg(base.path().join("token"));
    let run = command.output().unwrap();
    let stderr = String::from_utf8_lossy(&run.stderr);
    if stderr.contains("unshare") || stderr.contains("permission denied") {
        missing("mount", Some("only root can mount".into()));
        return;
    }
    assert_eq!(run.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("leader.lock") && stderr.to_lowercase().contains("read-only file system"), "{stderr}");
}

/// Fills a file system but for so many bytes.
fn fill(dev: &Dev, leave: u64) -> std::path::PathBuf {
    use std::io::Write;
    let path = dev.state().join("filler");
    let mut file = std::fs::File::create(&path).unwrap();
    let piece = vec![1; 1 << 16];
    let mut size = 0;
    while let Ok(n) = file.write(&piece) {
        size += n as u64;
    }
    file.set_len(size.saturating_sub(leave)).unwrap();
    path
}

#[test]
fn a_job_whose_log_finds_no_room_ends_and_is_published_once_there_is_some() {
    let Some(dev) = Dev::start_on_small_disk(32) else {
        missing("small-disk", Some("only root can mount a small file system in a namespace of its own".into()));
        return;
    };
    let gate = crate::harness::Gate::new();
    // What does not compress.
    let talk = format!("{}\nhead -c 3000000 /dev/urandom | base64\necho x >x/x", gate.script());
    let id = dev.submit(job(REPOSITORY, "/x", dev.script(&talk)));
    gate.until_runs(1);
    let filler = fill(&dev, 0);
    gate.open();
    let http = Http::new(dev.url(), dev.token());
    let mut taken = Vec::new();
    until("the database has no room left", || {
        let spec = job(REPOSITORY, "/y", Payload::Empty);
        let status = http.post("/api/v1/jobs", &serde_json::to_vec(&[&spec]).unwrap()).status;
        taken.extend((status == 201).then_some(spec.id));
        (status == 507).then_some(())
    });
    assert_eq!(http.get("/healthz").status, 200);
    std::fs::remove_file(&filler).unwrap();
    // Its attempt may have failed meanwhile, for want of room; nothing of it is published twice or lost.
    let ended = dev.ended(id);
    assert!(matches!(ended.state, StateKind::Succeeded | StateKind::Failed), "{ended:?}");
    if ended.state == StateKind::Failed {
        assert_eq!(dev.program().run(&["retry", &id.to_string()]).code, 0);
        assert_eq!(dev.ended(id).state, StateKind::Succeeded);
    }
    // What was taken before is published, too.
    taken.into_iter().for_each(|id| drop(dev.ended(id)));
    let before = dev.publishes();
    dev.publish(job(REPOSITORY, "/z", dev.script("echo z >z/z")));
    assert_eq!(dev.publishes(), before + 1);
    assert_eq!(dev.published("x/x").unwrap(), b"x\n");
}
