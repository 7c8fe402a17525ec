//! Settings that are read again, and what becomes of what was accepted by those before.

use conveyor::cvmfs::keys::NewKeys;
use conveyor::domain::job::state::StateKind;
use nix::sys::signal::Signal;
use serde_json::Value;

use super::{edit, managed, managed_with};
use crate::harness::{Daemon, Ear, Gate, Http, OTHER, REPOSITORY, Served, Server, job, no_rabbit, shared, until};

const NEW: &str = "new.example.org";

/// Makes the server read its settings again and gives the status that it ends with.
fn reload(server: &mut Server, ear: &Ear) -> String {
    server.process().send(Signal::SIGHUP);
    reloaded(ear)
}

fn reloaded(ear: &Ear) -> String {
    let told = ear.until("it reads again", |told| told.says("RELOADING=1"));
    let began: u64 = told.last().unwrap().value("MONOTONIC_USEC").unwrap().parse().unwrap();
    assert!(began > 0);
    let told = ear.until("it has read again", |told| told.says("READY=1"));
    assert!(!told.iter().any(|told| told.says("RELOADING=1")), "{told:?}");
    told.last().unwrap().status().unwrap().to_owned()
}

fn submit(server: &Server, repository: &str) -> crate::harness::Run {
    server.run(&["--retry-for", "0", "submit", "-r", repository, "-p", ""])
}

#[test]
fn repositories_come_and_go_and_nothing_accepted_is_lost() {
    let ear = Ear::new();
    let mut server = managed(&ear, |_| {});
    assert!(ear.next().says("READY=1"));
    assert!(submit(&server, NEW).stderr.contains("not served here"));
    edit(&server, |text| format!("{text}\n[repositories.{NEW:?}]\nfleet = \"elsewhere\"\n"));
    assert!(!reload(&mut server, &ear).contains("settings"));
    assert_eq!(submit(&server, NEW).code, 0);

    // One that goes takes no more; what was accepted waits, also what was offered and not claimed.
    let waits = server.submit(job(REPOSITORY, "/x", server.script("echo x >x/x")));
    until("it is offered", || (server.view(waits).state == StateKind::Offered).then_some(()));
    edit(&server, |text| text.replace(&format!("[repositories.{REPOSITORY:?}]\n"), ""));
    reload(&mut server, &ear);
    assert!(submit(&server, REPOSITORY).stderr.contains("not served here"));
    let there = server.view(waits);
    assert_eq!(there.state, StateKind::Queued);
    assert!(there.held[0].contains("not in the server's configuration any more"), "{:?}", there.held);
    until("the log says so", || {
        server.log().contains("jobs wait: their repository is not configured any more").then_some(())
    });
    let _worker = server.worker("one");
    server.publish(job(OTHER, "/x", server.script("echo x >x/x")));
    assert_eq!(server.view(waits).state, StateKind::Queued, "others go on, and this one waits");
    // A restart says the same.
    server.crash_and_restart();
    assert_eq!(server.view(waits).state, StateKind::Queued);
    assert!(server.process().terminate().success());

    let mut command = server.command();
    let process = Daemon::start(ear.hears(&mut command));
    server.replace(process);
    ear.until("the next life", |told| told.says("READY=1"));
    edit(&server, |text| format!("{text}\n[repositories.{REPOSITORY:?}]\n"));
    reload(&mut server, &ear);
    let ended = server.ended(waits);
    assert_eq!((ended.state, ended.attempt), (StateKind::Succeeded, 1), "{ended:?}");
}

#[test]
fn an_offer_moves_to_the_new_fleet_and_what_runs_ends_by_the_rules_of_its_beginning() {
    let ear = Ear::new();
    let mut server = managed(&ear, |_| {});
    assert!(ear.next().says("READY=1"));
    let gate = Gate::new();
    let script = |server: &Server| server.script(&format!("{}\necho x >>x/x", gate.script()));
    let _one = server.worker("one");
    let runs = server.submit(job(REPOSITORY, "/x", script(&server)));
    gate.until_runs(1);
    let mut command = server.worker_command("two", "two", &[]);
    let _other = Daemon::start(command.args(["--fleet", "elsewhere"]));
    let waits = server.submit(job(REPOSITORY, "/x", script(&server)));
    edit(&server, |text| {
        let repository = format!("[repositories.{REPOSITORY:?}]\n");
        text.replace(&repository, &format!("{repository}fleet = \"elsewhere\"\n"))
    });
    reload(&mut server, &ear);
    assert_eq!(server.view(runs).state, StateKind::Running);
    gate.open();
    for id in [runs, waits] {
        let ended = server.ended(id);
        assert_eq!((ended.state, ended.attempt), (StateKind::Succeeded, 1), "{ended:?}");
    }
    assert_eq!(server.publishes(), 2);
}

#[test]
fn a_fleet_that_comes_with_new_settings_is_sent_to_by_the_broker() {
    if no_rabbit() {
        return;
    }
    let (ear, vhost) = (Ear::new(), shared().vhost());
    let tables = |base: &std::path::Path| crate::broker::table(base, shared().port(), &vhost);
    let mut server = managed_with(&ear, tables, |_| {});
    ear.until_status("RabbitMQ: connected");
    edit(&server, |text| format!("{text}\n[repositories.{NEW:?}]\nfleet = \"elsewhere\"\n"));
    server.program().good(&["repository", "create", NEW]);
    reload(&mut server, &ear);
    let mut command = server.worker_command("one", "one", &[]);
    let _worker = Daemon::start(command.args(["--fleet", "elsewhere"]));
    server.publish(job(NEW, "/x", server.script("echo x >x/x")));
    ear.until_status("RabbitMQ: connected");
}

#[test]
fn who_may_look_and_whose_token_is_good_follow() {
    let ear = Ear::new();
    let mut server = managed(&ear, |_| {});
    assert!(ear.next().says("READY=1"));
    let nobody = Http::new(server.url(), "");
    assert_eq!(nobody.get("/api/v1/jobs").status, 401);
    let (url, old) = (server.url().to_owned(), server.token());
    edit(&server, |text| text.replace("[server]\n", "[server]\nanonymous_read = true\n"));
    reload(&mut server, &ear);
    assert_eq!(nobody.get("/api/v1/jobs").status, 200);
    edit(&server, |text| text.replace("anonymous_read = true\n", ""));
    // A new secret in the same file.
    crate::harness::private(&server.base().join("token"), "another-token-of-the-tests");
    reload(&mut server, &ear);
    assert_eq!(nobody.get("/api/v1/jobs").status, 401);
    let status = |token: &str| Http::new(&url, token).get("/api/v1/jobs").status;
    assert_eq!((status(old), status("another-token-of-the-tests")), (401, 200));
    // A list that was not watched.
    let list = server.base().join("more.toml");
    let secret = server.base().join("ci.token");
    let paths = [&secret, &list].map(|path| path.to_str().unwrap().to_owned());
    let create = ["--token-file", server.base().join("token").to_str().unwrap(), "token", "create", "--name", "ci"]
        .map(str::to_owned);
    let more = ["--role", "read", "--save", &paths[0], "--file", &paths[1]].map(str::to_owned);
    server.program().good(&[&create[..], &more[..]].concat());
    let token = std::fs::read_to_string(&secret).unwrap().trim().to_owned();
    assert_eq!(status(&token), 401);
    edit(&server, |text| text.replace("tokens = [", &format!("tokens = [{list:?}, ")));
    reload(&mut server, &ear);
    assert_eq!(status(&token), 200);
}

#[test]
fn which_urls_jobs_may_wait_for_follows_and_another_directory_of_keys_needs_a_restart() {
    let ear = Ear::new();
    let mut server = managed(&ear, |_| {});
    assert!(ear.next().says("READY=1"));
    let served = Served::new(&server.base().join("repositories"));
    let base = format!("{}/cvmfs/{REPOSITORY}", served.url());
    let submit = |server: &Server| {
        let arguments = ["--retry-for", "0", "submit", "-r", REPOSITORY, "-p", "", "--visible-at", &base];
        server.run(&arguments)
    };
    let refused = |server: &Server| {
        let run = submit(server);
        assert!(run.code == 1 && run.stderr.contains("visible_urls"), "{run:?}");
    };
    refused(&server);
    // Keys of another repository of that name.
    let keys = server.base().join("other-keys");
    std::fs::create_dir(&keys).unwrap();
    let foreign = NewKeys::generate(REPOSITORY, jiff::Timestamp::now().as_second()).unwrap();
    foreign.store(&keys, REPOSITORY).unwrap();
    let lines = format!("[server]\nvisible_urls = [\"{}\"]\nkeys_dir = {keys:?}\n", served.url());
    edit(&server, |text| text.replace("[server]\n", &lines));
    let status = reload(&mut server, &ear);
    assert!(status.contains("[server] keys_dir"), "{status}");
    let id = submit(&server).job_id();
    let worker = server.worker("one");
    assert_eq!(server.ended(id).state, StateKind::Succeeded, "nothing is verified yet");

    let second = submit(&server).job_id();
    server.crash_and_restart();
    until("the other keys are used", || {
        let view = server.view(second);
        let replica = view.replicas.into_iter().next()?;
        replica.serving().contains("another key").then_some(())
    });
    // What is accepted goes on.
    edit(&server, |text| text.replace(&lines, "[server]\n"));
    server.crash_and_restart();
    refused(&server);
    assert_eq!(server.ended(second).state, StateKind::Succeeded);
    drop(worker);
}

#[test]
fn settings_with_an_error_change_nothing_and_those_that_need_a_restart_are_named() {
    let ear = Ear::new();
    let mut server = managed(&ear, |_| {});
    assert!(ear.next().says("READY=1"));
    for (turn, (bad, why)) in [
        ("\n[server", "config.toml:"),
        ("\n[batches]\nmax_jobs = 0\n", "max_jobs is 0"),
        ("\nnonsense = 1\n", "nonsense"),
        ("\n[repositories.\"gone.example.org\"]\nbatch_root = \"/x\"\n", "batch_root"),
    ]
    .into_iter()
    .enumerate()
    {
        let before = std::fs::read_to_string(server.base().join("config.toml")).unwrap();
        let text = before.replace("\n[batches]\nmax_jobs = 1\n", "");
        edit(&server, |_| text.replace(&format!("[repositories.{OTHER:?}]\n"), "") + bad);
        let status = reload(&mut server, &ear);
        assert!(status.contains("the settings cannot be used: ") && status.contains(why), "{status}");
        // Once for each of them: what a process tells its manager may be heard before what it logged.
        let told = || server.log().matches("all stays as it is").count();
        until("the log says so", || (told() == turn + 1).then_some(()));
        let spec = job(OTHER, "/x", conveyor::domain::job::spec::Payload::Empty);
        server.try_submit(&[spec]).expect("it is there still");
        edit(&server, |_| before);
    }
    assert!(!reload(&mut server, &ear).contains("settings"));
    edit(&server, |text| {
        text.replace("[server]\n", "[server]\nlisten = [\"127.0.0.1:1\"]\nmax_blob_bytes = 10\n")
            .replace("claim_expiry_s = 5", "claim_expiry_s = 6")
    });
    // The flag that it was started with still beats the file.
    let status = reload(&mut server, &ear);
    assert!(status.ends_with("; restart to bring into force: [server] claim_expiry_s"), "{status}");
    // What can follow does.
    let path = format!("/api/v1/blobs/sha256:{}", "0".repeat(64));
    let answer = Http::new(server.url(), server.token()).send("PUT", &path, "", &[0; 64]);
    assert_eq!(answer.status, 413, "{answer:?}");
}

#[test]
fn a_server_that_stands_by_leads_with_what_it_read_last() {
    let ear = Ear::new();
    let mut server = managed(&ear, |_| {});
    assert!(ear.next().says("READY=1"));
    let second = Ear::new();
    let mut command = server.program().command(&["server", "--listen", "127.0.0.1:0"]);
    let mut standby = Daemon::start(second.hears(&mut command));
    assert!(second.next().says("READY=1"));
    edit(&server, |text| format!("{text}\n[repositories.{NEW:?}]\n"));
    standby.send(Signal::SIGHUP);
    assert!(reloaded(&second).starts_with("standing by"));
    server.kill9();
    second.until_status("queued");
    let url = standby.said("it listens", |_, log| {
        let at = log.find("http://127.0.0.1:")?;
        Some(log[at..].chars().take_while(|c| !c.is_whitespace() && *c != '\u{1b}').collect::<String>())
    });
    let known: Value =
        serde_json::from_slice(&Http::new(&url, server.token()).get("/api/v1/repositories").body).unwrap();
    assert!(known.to_string().contains(NEW), "{known}");
}
