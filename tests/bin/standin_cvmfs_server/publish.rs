//! `cvmfs_server publish [-a TAG] [-m TEXT] REPOSITORY`: the shell, and its child `cvmfs_swissknife sync`, which does the work.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

use conveyor::cvmfs::stratum0::NewTag;
use nix::sys::signal::{SigSet, Signal};
use serde_json::Value;
use sha1::{Digest, Sha1};

use crate::gateway::Gateway;
use crate::lab::{Lab, Repository, end};
use crate::lock::Publishing;
use crate::{apply, holders, mounts, pack};

/// How the child is called.
pub(crate) const SWISSKNIFE: &str = "cvmfs_swissknife";

struct Options {
    tag: Option<String>,
    text: String,
    name: String,
}

fn options(arguments: &[String]) -> Options {
    let mut options = Options { tag: None, text: String::new(), name: String::new() };
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        match word.as_str() {
            "-a" => options.tag = words.next().cloned(),
            "-m" => options.text = words.next().cloned().unwrap_or_default(),
            "-f" | "-X" | "-N" => {}
            option if option.starts_with('-') => end("publish/bad-option", &[]),
            name => options.name = name.split('/').next().unwrap_or_default().to_owned(),
        }
    }
    options
}

pub(crate) fn run(lab: &Lab, arguments: &[String]) {
    let options = options(arguments);
    let name = options.name.as_str();
    let Some(repository) = lab.repository(name) else { end("publish/unknown-repository", &[("repository", name)]) };
    let online = repository.has_server();
    if let Some(tag) = &options.tag {
        if tag.contains(' ') {
            repository.end("publish/tag-with-a-space", &[])
        }
        if online && repository.reader().tag(tag).unwrap().is_some() {
            repository.end("publish/tag-used", &[("tag", tag)])
        }
    }
    if !repository.is_allowed() {
        repository.end("publish/not-owner", &[])
    }
    check(&repository, online);
    let tag = options.tag.unwrap_or_else(|| {
        // The real one finds another name for the second publish of a second.
        let tag = jiff::Timestamp::now().strftime("generic-%Y-%m-%dT%H:%M:%S.%3fZ").to_string();
        println!("Using auto tag '{tag}'");
        tag
    });
    let Some(lock) = Publishing::take(&repository) else { repository.end("publish/publishing", &[]) };
    lab.point("publish", "locked");
    if !mounts::set_writable(&repository, false) {
        lock.let_go(&repository);
        repository.end("publish/writable-descriptor", &[])
    }
    // The trap of the real shell: it goes on, and so does its child where that alone is not told.
    let mut blocked = SigSet::empty();
    blocked.add(Signal::SIGTERM);
    blocked.add(Signal::SIGINT);
    blocked.thread_block().unwrap();
    let program = fs::read_link("/proc/self/exe").unwrap();
    let mut child = Command::new(program);
    child.arg0(SWISSKNIFE).args([name, &tag, &options.text]);
    let done = child.status().unwrap();
    if !done.success() {
        if done.code() == Some(UNTAGGED) {
            let _ = mounts::set_writable(&repository, true);
            lock.let_go(&repository);
            repository.end("publish/tagging-failed", &[])
        }
        mounts::set_writable(&repository, true);
        lock.let_go(&repository);
        eprintln!("Synchronization failed\n\nExecuted Command:\n{SWISSKNIFE} sync …");
        std::process::exit(1);
    }
    lab.point("publish", "after-flip");
    println!("Remounting newly created repository revision");
    mounts::renew(lab, "publish", &repository);
    lab.point("publish", "after-remount");
    fs::remove_file(repository.spool("in_transaction.lock")).unwrap();
    lock.let_go(&repository);
    if repository.gateway().is_some() {
        println!("Changes submitted to repository gateway");
    }
}

/// What the real one looks at before it does anything, in its order.
fn check(repository: &Repository, online: bool) {
    if Publishing::is_held(repository) {
        repository.end("publish/publishing", &[])
    }
    if !online {
        repository.end("publish/server-down", &[])
    }
    if repository.is_expired() {
        repository.end("publish/whitelist-expired", &[])
    }
    if !repository.is_in_transaction() {
        repository.end("publish/not-open", &[])
    }
    if !mounts::is_writable(repository) {
        repository.end("publish/read-only", &[])
    }
    let union = &repository.node.union;
    if holders::writers(union) > 0 {
        repository.end("publish/writable-descriptor", &[])
    }
    if holders::is_inside(union) {
        repository.end("publish/inside", &[])
    }
    if holders::is_held(union) {
        repository.end("publish/held", &[])
    }
}

/// How the child ends when the tag could not be set.
const UNTAGGED: i32 = 3;

/// The child. Its arguments are the repository, the tag and the text.
pub(crate) fn sync(lab: &Lab, arguments: &[String]) {
    // It has no trap.
    SigSet::all().thread_unblock().unwrap();
    let [name, tag, text] = arguments else { panic!("{arguments:?}") };
    let repository = lab.repository(name).unwrap();
    println!("Swissknife Sync: Processing changes...");
    lab.point("publish", "before-sync");
    run_as_shell(&repository, tag, text);
    if lab.faults("publish").iter().any(|fault| fault == "no-space") {
        eprintln!("write: No space left on device");
        std::process::exit(1);
    }
    // Not measured: a success that is none.
    if lab.faults("publish").iter().any(|fault| fault == "no-revision") {
        return;
    }
    let archive = repository.spool("tmp/changes.tar");
    if repository.gateway().is_none() {
        pack::pack(&repository.upper(), b"", &archive);
        let tag = NewTag { name: tag, description: text };
        let done = apply::publish(&repository.stratum0(), &[&archive], Some(tag), &|step| lab.point("publish", step));
        let manifest = done.unwrap_or_else(|why| {
            eprintln!("{why}");
            std::process::exit(1)
        });
        let hash = manifest.reflog.map(|hash| hash.to_string()).unwrap_or_default();
        fs::write(repository.spool("reflog.chksum"), hash).unwrap();
    } else {
        submit(lab, &repository, tag, text, archive);
    }
}

/// What lies in the texts is run, as `cvmfs_server` does by handing them to `sh -c`, without quotes where there is a gateway.
fn run_as_shell(repository: &Repository, tag: &str, text: &str) {
    let line = match repository.gateway() {
        None => format!("true tag -a \"{tag}\" -D \"{text}\""),
        Some(_) => format!("true sync -D {tag} -J {text}"),
    };
    if !Command::new("sh").arg("-c").arg(line).status().unwrap().success() {
        std::process::exit(UNTAGGED);
    }
}

fn submit(lab: &Lab, repository: &Repository, tag: &str, text: &str, archive: PathBuf) {
    let lease = fs::read_to_string(repository.spool("standin.lease")).unwrap();
    let token = fs::read_to_string(repository.spool("session_token")).unwrap_or_default();
    pack::pack(&repository.upper(), lease.as_bytes(), &archive);
    let bytes = fs::read(archive).unwrap();
    let gateway = Gateway::of(repository).unwrap();
    let is_good = |answer: &Value| answer["status"] == "ok";
    lab.point("publish", "before-payload");
    let problem = match gateway.send_payload(&token, &bytes) {
        Ok(answer) if is_good(&answer) => None,
        Ok(answer) => Some(format!("error reply: {answer}")),
        Err(_) => Some("curl_easy_perform failed: 7".to_owned()),
    };
    if let Some(problem) = problem {
        eprintln!("SessionContext::DoUpload - {problem}");
        eprintln!("terminate called after throwing an instance of 'ECvmfsException'\n  what():  PANIC\nKilled");
        std::process::exit(1);
    }
    lab.point("publish", "before-commit");
    let old = fs::read_to_string(repository.spool("client.local")).unwrap_or_default();
    let old = old.trim().strip_prefix("CVMFS_ROOT_HASH=").unwrap_or_default();
    // The real one sends its own root catalog's; the receiver merges, and what comes of that it says to nobody.
    let new = hex::encode(Sha1::digest(&bytes));
    let answer = gateway.commit(&token, old, &new, tag, text);
    match answer {
        Ok(answer) if is_good(&answer) => {}
        answer => {
            let reply = answer.map(|answer| answer.to_string()).unwrap_or_default();
            eprintln!("Lease end request - error reply: {reply}");
            eprintln!("SessionContext: could not commit session. Aborting.");
            std::process::exit(1);
        }
    }
    lab.point("publish", "after-commit");
    fs::remove_file(repository.spool("session_token")).unwrap();
}
