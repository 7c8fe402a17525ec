//! How each situation is brought about.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::harness::{Daemon, Run, until};
use crate::site::{Setup, Site};

type Words = Vec<(&'static str, String)>;
type Case = (&'static str, fn(Setup) -> bool, fn(&mut Site) -> (Run, Words));

const ANY: fn(Setup) -> bool = |_| true;
const LOCAL: fn(Setup) -> bool = |setup| !setup.gateway;
const GATEWAY: fn(Setup) -> bool = |setup| setup.gateway;
const STANDIN: fn(Setup) -> bool = |setup| !setup.real;
const STANDIN_GATEWAY: fn(Setup) -> bool = |setup| !setup.real && setup.gateway;

/// Brings the site there and asks; `None` where it cannot be brought there.
pub(super) fn arrange(site: &mut Site, name: &str) -> Option<(Run, Words)> {
    let (_, fits, bring) = CASES.iter().find(|case| case.0 == name)?;
    fits(site.setup).then(|| bring(site))
}

pub(super) fn is_known(name: &str) -> bool {
    CASES.iter().any(|case| case.0 == name)
}

/// Ends what a case left.
pub(super) fn clear(site: &mut Site) {
    if site.is_in_transaction() {
        site.good(&["abort", "-f", &site.name]);
    }
}

/// Another account than the owner's, which can run the program.
fn as_nobody(site: &Site, arguments: &[&str]) -> Run {
    site.run_as(arguments, |command| {
        command.uid(65534).gid(65534);
    })
}

fn open(site: &Site) {
    site.good(&["transaction", &site.name]);
}

/// An open transaction with a file in it.
fn written(site: &Site) {
    open(site);
    site.write("file", "content");
}

fn call(site: &Site, words: &[&str]) -> (Run, Words) {
    (site.run(&[words, &[&site.name]].concat()), Words::new())
}

fn without(site: &Site, row: &str) -> (Run, Words) {
    (site.run(&[row, "nosuch.example.org"]), vec![("repository", "nosuch.example.org".to_owned())])
}

/// With the lock of a publish held by somebody.
fn while_publishing(site: &Site, words: &[&str]) -> (Run, Words) {
    let path = site.spool.join("is_publishing.lock");
    let file = fs::OpenOptions::new().write(true).create(true).truncate(false).open(path).unwrap();
    let _lock = nix::fcntl::Flock::lock(file, nix::fcntl::FlockArg::LockExclusiveNonblock).unwrap();
    call(site, words)
}

/// With a process that has the repository as its working directory, or a file of it open.
fn while_held(site: &Site, shell: &str) -> (Run, Words) {
    let script = format!("cd {0} && {shell}; echo ready; read wait", site.union.display());
    let mut holder = Command::new("sh");
    holder.args(["-c", &script]).stdin(Stdio::piped()).stdout(Stdio::piped()).process_group(0);
    let mut holder = holder.spawn().unwrap();
    let mut line = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(holder.stdout.take().unwrap()), &mut line).unwrap();
    let called = call(site, &["publish"]);
    drop(holder.stdin.take());
    holder.wait().unwrap();
    called
}

fn while_server_is_down(site: &mut Site, words: &[&str]) -> (Run, Words) {
    site.web.down();
    let called = call(site, words);
    site.web.up();
    called
}

fn while_gateway_is_down(site: &mut Site, words: &[&str]) -> (Run, Words) {
    site.gateway_down();
    let called = call(site, words);
    site.gateway_up();
    called
}

fn while_expired(site: &Site, words: &[&str]) -> (Run, Words) {
    site.expire_whitelist(true);
    let called = call(site, words);
    site.expire_whitelist(false);
    called
}

/// With the mount read-only in an open transaction, as a publish leaves it that was killed.
fn while_read_only(site: &Site, words: &[&str]) -> (Run, Words) {
    open(site);
    let remounted = Command::new("mount").args(["-o", "remount,ro"]).arg(&site.union).status().unwrap();
    assert!(remounted.success());
    call(site, words)
}

fn with_tag(site: &Site, tag: &str, words: &[&str]) -> (Run, Words) {
    written(site);
    (call(site, words).0, vec![("tag", tag.to_owned())])
}

const CASES: &[Case] = &[
    ("transaction/ok", LOCAL, |site| call(site, &["transaction"])),
    ("transaction/ok-gateway", GATEWAY, |site| call(site, &["transaction"])),
    ("transaction/open", ANY, |site| {
        open(site);
        call(site, &["transaction"])
    }),
    ("transaction/read-only", ANY, |site| while_read_only(site, &["transaction"])),
    ("transaction/publishing", ANY, |site| {
        while_read_only(site, &["transaction"]);
        while_publishing(site, &["transaction"])
    }),
    ("transaction/unknown-repository", ANY, |site| without(site, "transaction")),
    ("transaction/bad-option", ANY, |site| call(site, &["transaction", "-Q"])),
    ("transaction/not-owner", STANDIN, |site| (as_nobody(site, &["transaction", &site.name]), Words::new())),
    ("transaction/server-down", ANY, |site| while_server_is_down(site, &["transaction"])),
    ("transaction/whitelist-expired", ANY, |site| while_expired(site, &["transaction"])),
    ("transaction/path-busy", GATEWAY, |site| {
        let token = site.take_lease("");
        let called = call(site, &["transaction"]);
        site.drop_lease(&token);
        called
    }),
    ("transaction/no-parent", GATEWAY, |site| {
        let path = format!("{}/no/such", site.name);
        (site.run(&["transaction", &path]), vec![("path", "no".to_owned())])
    }),
    ("transaction/parent-is-a-file", STANDIN_GATEWAY, |site| {
        written(site);
        site.good(&["publish", &site.name]);
        let path = format!("{}/file/below", site.name);
        (site.run(&["transaction", &path]), vec![("path", "file".to_owned())])
    }),
    ("transaction/gateway-down", GATEWAY, |site| while_gateway_is_down(site, &["transaction"])),
    ("transaction/wrong-secret", GATEWAY, |site| {
        let key = site.keys().join(format!("{}.gw", site.name));
        let right = fs::read(&key).unwrap();
        fs::write(&key, "plain_text key1 wrong\n").unwrap();
        let called = call(site, &["transaction"]);
        fs::write(&key, right).unwrap();
        called
    }),
    ("transaction/no-key", GATEWAY, |site| {
        let key = site.keys().join(format!("{}.gw", site.name));
        let right = fs::read(&key).unwrap();
        fs::remove_file(&key).unwrap();
        let called = call(site, &["transaction"]);
        fs::write(&key, right).unwrap();
        called
    }),
    ("transaction/out-of-date", STANDIN, |site| {
        let root = fs::read_to_string(site.spool.join("client.local")).unwrap();
        let old = root.replace(['0', '1', '2', '3'], "4");
        fs::write(site.spool.join("client.local"), old).unwrap();
        call(site, &["transaction"])
    }),
    ("abort/ok", LOCAL, |site| {
        written(site);
        call(site, &["abort", "-f"])
    }),
    ("abort/ok-gateway", GATEWAY, |site| {
        written(site);
        call(site, &["abort", "-f"])
    }),
    ("abort/end-of-file-is-yes", ANY, |site| {
        written(site);
        let called = call(site, &["abort"]);
        assert!(!site.is_in_transaction());
        called
    }),
    ("abort/answer-is-no", ANY, |site| {
        open(site);
        let answer = site.place().join("answer");
        fs::write(&answer, "n\n").unwrap();
        let called = site.run_as(&["abort", &site.name], |command| {
            command.stdin(File::open(answer).unwrap());
        });
        assert!(site.is_in_transaction());
        (called, Words::new())
    }),
    ("abort/not-open", ANY, |site| call(site, &["abort", "-f"])),
    ("abort/publishing", ANY, |site| {
        open(site);
        while_publishing(site, &["abort", "-f"])
    }),
    ("abort/inside", ANY, |site| {
        open(site);
        let inside = |command: &mut Command| {
            command.current_dir(&site.union);
        };
        (site.run_as(&["abort", "-f", &site.name], inside), Words::new())
    }),
    ("abort/unknown-repository", ANY, |site| {
        (site.run(&["abort", "-f", "nosuch.example.org"]), vec![("repository", "nosuch.example.org".to_owned())])
    }),
    ("abort/server-down", ANY, |site| {
        open(site);
        while_server_is_down(site, &["abort", "-f"])
    }),
    ("abort/gateway-down", GATEWAY, |site| {
        open(site);
        while_gateway_is_down(site, &["abort", "-f"])
    }),
    ("publish/ok", LOCAL, |site| with_tag(site, "", &["publish", "-a", "v1"])),
    ("publish/ok-gateway", GATEWAY, |site| with_tag(site, "", &["publish", "-a", "v1"])),
    ("publish/automatic-tag", ANY, |site| with_tag(site, "", &["publish"])),
    ("publish/not-open", ANY, |site| call(site, &["publish"])),
    ("publish/unknown-repository", ANY, |site| without(site, "publish")),
    ("publish/publishing", ANY, |site| {
        open(site);
        while_publishing(site, &["publish"])
    }),
    ("publish/bad-option", ANY, |site| call(site, &["publish", "-Q"])),
    ("publish/writable-descriptor", ANY, |site| {
        open(site);
        let _open = File::create(site.union.join("file")).unwrap();
        call(site, &["publish"])
    }),
    ("publish/held", ANY, |site| {
        written(site);
        while_held(site, "exec 8<file && cd /")
    }),
    ("publish/inside", ANY, |site| {
        written(site);
        let inside = |command: &mut Command| {
            command.current_dir(&site.union);
        };
        (site.run_as(&["publish", &site.name], inside), Words::new())
    }),
    ("publish/tag-used", ANY, |site| {
        with_tag(site, "", &["publish", "-a", "v2"]);
        with_tag(site, "v2", &["publish", "-a", "v2"])
    }),
    ("publish/tag-with-a-space", ANY, |site| with_tag(site, "", &["publish", "-a", "a tag"])),
    ("publish/server-down", ANY, |site| {
        written(site);
        while_server_is_down(site, &["publish"])
    }),
    ("publish/whitelist-expired", ANY, |site| {
        written(site);
        while_expired(site, &["publish"])
    }),
    ("publish/not-owner", STANDIN, |site| {
        written(site);
        (as_nobody(site, &["publish", &site.name]), Words::new())
    }),
    ("publish/read-only", ANY, |site| while_read_only(site, &["publish"])),
    ("publish/lease-expired", GATEWAY, |site| {
        site.set_lease_time(Duration::from_secs(1));
        written(site);
        until("the lease has expired", || {
            let leases = reqwest::blocking::get(site.leases()).ok()?.text().ok()?;
            (!leases.contains(&site.name)).then_some(())
        });
        let called = call(site, &["publish"]);
        clear(site);
        site.set_lease_time(Duration::from_secs(7200));
        called
    }),
    ("publish/gateway-down", GATEWAY, |site| {
        written(site);
        while_gateway_is_down(site, &["publish"])
    }),
    ("publish/commit-refused", STANDIN_GATEWAY, |site| {
        // Between payload and commit the gateway was started anew.
        written(site);
        site.fault("publish", "hang-before-commit");
        let mut publish = Command::new(&site.command);
        publish.args(["publish", &site.name]).current_dir("/");
        let mut publish = Daemon::start(&mut publish);
        publish.said("the payload is sent", |stdout, _| stdout.contains("Processing changes").then_some(()));
        until("the payload is there", || site.has_payload().then_some(()));
        site.gateway_down();
        site.gateway_up();
        site.fault("publish", "");
        let code = publish.wait().code().unwrap_or(-1);
        publish.until_quiet();
        (Run { code, stdout: publish.stdout(), stderr: publish.stderr() }, Words::new())
    }),
    ("publish/no-space", STANDIN, |site| {
        written(site);
        site.fault("publish", "no-space");
        let called = call(site, &["publish"]);
        site.fault("publish", "");
        called
    }),
    ("publish/interrupted", STANDIN, |site| {
        written(site);
        site.fault("publish", "hang-before-sync");
        // Who runs the tests in the background ignores this signal, and so would all that they start.
        let mut publish = Command::new("env");
        publish.arg("--default-signal=INT").arg(&site.command).args(["publish", &site.name]).current_dir("/");
        let mut publish = Daemon::start(&mut publish);
        publish.said("it works", |stdout, _| stdout.contains("Processing changes").then_some(()));
        let group = nix::unistd::Pid::from_raw(i32::try_from(publish.id()).unwrap());
        nix::sys::signal::killpg(group, Signal::SIGINT).unwrap();
        let code = publish.wait().code().unwrap_or(-1);
        site.fault("publish", "");
        publish.until_quiet();
        let called = Run { code, stdout: publish.stdout(), stderr: publish.stderr() };
        // The transaction stays open and writable: it can be published again.
        site.good(&["publish", &site.name]);
        (called, Words::new())
    }),
    ("publish/tagging-failed", LOCAL, |site| {
        let proof = site.place().join("proof");
        let text = format!("hello \"; touch {}; \"", proof.display());
        let called = with_tag(site, "", &["publish", "-m", &text]);
        assert!(proof.exists(), "what lies in a text was run when this was measured");
        called
    }),
    ("unknown-command", ANY, |site| (site.run(&["x"]), Words::new())),
];
