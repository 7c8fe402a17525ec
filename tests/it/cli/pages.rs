//! What packages and shells ask the program for: manual pages and completions.

use std::process::Command;

use clap::CommandFactory;
use conveyor::cli::Cli;
use tempfile::TempDir;

use crate::harness::{Run, bare, missing};

/// `conveyor-job-sub.1` for each command that can be seen.
fn pages_of(command: &clap::Command, name: &str, pages: &mut Vec<String>) {
    pages.push(format!("{name}.1"));
    let inner = command.get_subcommands().filter(|inner| !inner.is_hide_set() && inner.get_name() != "help");
    inner.for_each(|inner| pages_of(inner, &format!("{name}-{}", inner.get_name()), pages));
}

fn written() -> TempDir {
    let directory = TempDir::new().unwrap();
    // A file that cannot be read changes nothing: this machine's settings are nobody's business here.
    let run = Run::of(
        &bare(directory.path()).args(["-c", "/absent", "man"]).arg(directory.path().join("man1")).output().unwrap(),
    );
    assert_eq!((run.code, run.stdout.as_str(), run.stderr.as_str()), (0, "", ""), "{run:?}");
    directory
}

#[test]
fn each_command_has_a_manual_page_and_those_of_the_units_exist() {
    let directory = written();
    let mut want = Vec::new();
    pages_of(&Cli::command(), "conveyor", &mut want);
    want.sort();
    let mut have: Vec<_> = std::fs::read_dir(directory.path().join("man1"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    have.sort();
    assert_eq!(have, want);
    for unit in crate::units::UNITS {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd").join(unit);
        let text = std::fs::read_to_string(path).unwrap();
        let page = text.lines().find_map(|line| line.strip_prefix("Documentation=man:")).unwrap().replace("(1)", ".1");
        assert!(have.contains(&page), "{unit} names {page}");
    }
}

#[test]
fn the_manual_pages_are_good_ones() {
    let there = Command::new("man").arg("--version").output().is_ok_and(|output| output.status.success());
    let groff = Command::new("groff").arg("--version").output().is_ok_and(|output| output.status.success());
    if missing("units", (!there || !groff).then(|| "man is not installed (package man-db)".into())) {
        return;
    }
    let directory = written();
    for entry in std::fs::read_dir(directory.path().join("man1")).unwrap() {
        let path = entry.unwrap().path();
        let mut command = Command::new("man");
        command.args(["-l", "--warnings=w", "-E", "UTF-8"]).arg(&path).env("MANWIDTH", "100").env("LC_ALL", "C.UTF-8");
        let run = Run::of(&command.output().unwrap());
        assert!(run.code == 0 && run.stderr.is_empty(), "{}: {run:?}", path.display());
        assert!(run.stdout.contains("NAME") && run.stdout.contains("SYNOPSIS"), "{}: {}", path.display(), run.stdout);
    }
}

#[test]
fn shells_can_complete() {
    let temporary = TempDir::new().unwrap();
    for shell in ["bash", "zsh", "fish"] {
        let run = Run::of(&bare(temporary.path()).args(["-c", "/absent", "completions", shell]).output().unwrap());
        assert!(run.code == 0 && run.stderr.is_empty(), "{run:?}");
        assert!(run.stdout.contains("check-config") && run.stdout.contains("lease-path"), "{shell}");
    }
    let script = temporary.path().join("conveyor.bash");
    let run = Run::of(&bare(temporary.path()).args(["completions", "bash"]).output().unwrap());
    std::fs::write(&script, run.stdout).unwrap();
    let asked = "source \"$0\"; COMP_WORDS=(conveyor check-c); COMP_CWORD=1; _conveyor conveyor check-c conveyor; echo \"${COMPREPLY[@]}\"";
    let run = Run::of(&Command::new("bash").args(["-c", asked]).arg(&script).output().unwrap());
    assert_eq!(run.stdout.trim(), "check-config", "{run:?}");
}
