//! Exit codes and what is said with them.

use crate::harness::{Dev, Place, Port, Program, REPOSITORY, Run, bare, private};

#[test]
fn a_command_line_that_makes_no_sense_ends_with_2() {
    let place = Place::new();
    let file = place.path().join("payload");
    std::fs::write(&file, "x").unwrap();
    let file = file.to_str().unwrap();
    let submit = |more: &[&'static str]| [&["submit", "-r", REPOSITORY], more].concat();
    let cases: Vec<Vec<&str>> = vec![
        vec![],
        vec!["publish"],
        vec!["submit"],
        vec!["submit", "-r", "NO"],
        submit(&["--frobnicate"]),
        submit(&["-l", "/a/../b", "-p", ""]),
        submit(&["-p", "tarball|http://h/a"]),
        submit(&["-p", "script|/local/file"]),
        submit(&["--tarball", "/no/such/file"]),
        submit(&["--tarball", "/"]),
        submit(&["--tarball", "ftp://h/a"]),
        submit(&["-p", "", "--attempts", "0"]),
        submit(&["-p", "", "-d", "1"]),
        submit(&["-p", "", "--label", "novalue"]),
        submit(&["-p", "", "--checksum", "12"]),
        submit(&["-p", "", "argument"]),
        submit(&["--delete", "/"]),
        vec!["submit", "--spec", file],
        vec!["submit", "--spec", "/no/such/file"],
        vec!["check"],
        vec!["check", "1"],
        vec!["logs", "1"],
        vec!["cancel"],
        vec!["dev", "--once"],
        vec!["dev", "--listen", "nowhere"],
    ];
    for arguments in cases {
        let run = Run::of(&bare(place.path()).args(&arguments).output().unwrap());
        assert_eq!(run.code, 2, "{arguments:?}: {run:?}");
        assert!(run.stdout.is_empty() && !run.stderr.is_empty(), "{arguments:?}: {run:?}");
    }
}

#[test]
fn a_server_that_does_not_answer_ends_with_69() {
    let place = Place::new();
    let nobody = Port::reserve();
    let url = format!("http://{}", nobody.address());
    let id = uuid::Uuid::now_v7().to_string();
    for command in [
        &["submit", "-r", REPOSITORY, "-p", ""][..],
        &["check", &id],
        &["list"],
        &["logs", &id],
        &["cancel", &id],
        &["retry", &id],
    ] {
        let mut process = bare(place.path());
        let run = Run::of(&process.args(["--url", &url, "--retry-for", "0"]).args(command).output().unwrap());
        assert_eq!(run.code, 69, "{command:?}: {run:?}");
        assert!(run.stderr.contains(&url) && run.stderr.contains("hint: "), "{command:?}: {run:?}");
    }
}

#[test]
fn a_wrong_configuration_ends_with_78() {
    let place = Place::new();
    let path = |name: &str| place.path().join(name);
    private(&path("token"), "secret-token");
    std::fs::write(path("exposed"), "secret-token").unwrap();
    private(&path("empty"), "");
    let token = |name: &str| format!("[client]\ntoken_file = {:?}\n", path(name));
    let cases = [
        ("syntax", "[client\n".to_owned(), &["list"][..], "config.toml:1"),
        ("unknown key", "[client]\nurk = 1\n".into(), &["list"], "config.toml:2"),
        ("wrong type", "[worker]\nslots = \"many\"\n".into(), &["worker"], "config.toml:2"),
        ("wrong address", "[client]\nurl = \"nowhere\"\n".into(), &["list"], "nowhere"),
        ("no token file", token("absent"), &["list"], "absent"),
        ("an empty token", token("empty"), &["list"], "empty"),
        ("a token for all to read", token("exposed"), &["list"], "chmod"),
        ("a server without a token", "[server]\nlisten = [\"127.0.0.1:0\"]\n".into(), &["server"], "token_file"),
        ("listening nowhere", "[server]\nlisten = [\"nowhere\"]\n".into(), &["server"], "nowhere"),
        ("too short a claim", "[server]\nclaim_expiry_s = 1\n".into(), &["server"], "claim_expiry_s"),
        ("no slots", "[worker]\nslots = 0\n".into(), &["worker"], "slots"),
    ];
    for (case, text, arguments, said) in cases {
        let config = path("config.toml");
        private(&config, &text);
        let run = Program::new(&config, place.path()).run(arguments);
        assert_eq!(run.code, 78, "{case}: {run:?}");
        assert!(run.stderr.contains(said), "{case}: {run:?}");
        assert!(!run.stderr.contains("secret-token"), "{case}: {run:?}");
    }
    let run = Program::new(&path("no-such-file"), place.path()).run(&["list"]);
    assert_eq!(run.code, 78, "{run:?}");
}

#[test]
fn another_token_is_refused_and_said_as_such() {
    let dev = Dev::start();
    let token = dev.base().join("another");
    private(&token, "another-token");
    let mut command = bare(dev.base());
    command.args(["--url", dev.url(), "--token-file", token.to_str().unwrap(), "submit", "-r", REPOSITORY, "-p", ""]);
    let run = Run::of(&command.output().unwrap());
    assert_eq!(run.code, 1, "{run:?}");
    assert!(run.stderr.contains("token") && !run.stderr.contains("another-token"), "{run:?}");
}
