//! What the units say, and what the program takes for granted, are the same.

use std::path::Path;

use conveyor::cli::Cli;
use conveyor::config::{Config, DEFAULT_FILE, ServerFlags, WorkerFlags};

use tempfile::TempDir;

use super::{text, values};
use crate::harness::Program;

#[test]
fn state_is_where_the_program_keeps_it() {
    let config = Config::default();
    let server = config.server(&ServerFlags::default()).unwrap().state_dir;
    let worker = config.worker(&WorkerFlags::default()).unwrap().state_dir;
    let notify = config.notify_alone(&[], None).unwrap().notify.state_dir;
    for (unit, state) in
        [("conveyor-server.service", server), ("conveyor-worker.service", worker), ("conveyor-notify.service", notify)]
    {
        let below = values(&text(unit), "StateDirectory");
        assert_eq!(state, Path::new("/var/lib").join(&below[0]), "{unit}");
        assert_eq!(values(&text(unit), "StateDirectoryMode"), ["0700"], "{unit}");
        assert!(text("sysusers.d/conveyor.conf").contains(&format!(" {}\n", state.display())), "{unit}");
    }
}

#[test]
fn the_socket_has_the_address_that_the_server_would_listen_at() {
    let listen = Config::default().server(&ServerFlags::default()).unwrap().listen;
    let socket = text("conveyor-server.socket");
    let streams = values(&socket, "ListenStream");
    let tcp: Vec<_> = streams.iter().filter(|stream| !stream.starts_with('/')).cloned().collect();
    assert_eq!(tcp, listen.iter().map(ToString::to_string).collect::<Vec<_>>());
    assert_eq!(values(&socket, "FileDescriptorName"), ["http"]);
    let directory = "d /run/conveyor ";
    assert!(streams.iter().any(|stream| stream.starts_with("/run/conveyor/")), "{streams:?}");
    assert!(text("tmpfiles.d/conveyor.conf").contains(directory), "no {directory}");
}

/// By a server or without one: subscribers find the same port, and what is handed over has the name that the program knows.
#[test]
fn the_sockets_of_notifications_have_the_port_that_the_service_would_listen_at() {
    let listen = Config::default().notify_alone(&[], None).unwrap().notify.listen;
    let port = listen[0].to_string().rsplit_once(':').unwrap().1.to_owned();
    for socket in ["conveyor-server-notify.socket", "conveyor-notify.socket"] {
        let text = text(socket);
        assert_eq!(values(&text, "ListenStream"), [&*port], "{socket}");
        assert_eq!(values(&text, "FileDescriptorName"), ["notify"], "{socket}");
        assert_eq!(values(&text, "Backlog"), ["4096"], "{socket}");
    }
    // A restart of the server begins it; nothing else could while the server runs.
    let socket = text("conveyor-server-notify.socket");
    assert_eq!(values(&socket, "Service"), ["conveyor-server.service"]);
    assert!(values(&socket, "WantedBy")[0].contains("conveyor-server.service"));
    assert_eq!(values(&text("conveyor-notify.service"), "Requires"), ["conveyor-notify.socket"]);
}

#[test]
fn the_server_s_directory_of_sockets_outlives_the_server() {
    assert_eq!(values(&text("conveyor-server.service"), "RuntimeDirectory"), [""; 0]);
}

#[test]
fn accounts_and_groups_are_made() {
    let made = text("sysusers.d/conveyor.conf");
    let made: Vec<_> = made.lines().filter_map(|line| line.strip_prefix("u ")?.split(' ').next()).collect();
    let named = [
        values(&text("conveyor-server.service"), "User"),
        values(&text("conveyor-server.service"), "Group"),
        values(&text("conveyor-server.socket"), "SocketGroup"),
        values(&text("conveyor-notify.service"), "User"),
        values(&text("conveyor-notify.service"), "Group"),
        values(&text("examples/worker-native.conf"), "User"),
    ];
    for name in named.concat() {
        assert!(made.contains(&name.as_str()), "{name} is not made: {made:?}");
    }
}

#[test]
fn the_commands_of_the_units_are_commands() {
    use clap::Parser;
    for unit in ["conveyor-server.service", "conveyor-worker.service", "conveyor-notify.service"] {
        let command = values(&text(unit), "ExecStart").remove(0);
        let words: Vec<_> = command.split(' ').collect();
        assert_eq!(words[0], "/usr/bin/conveyor");
        assert!(Cli::try_parse_from(&words).is_ok(), "{command}");
    }
}

#[test]
fn the_document_names_the_settings_and_the_credentials() {
    let readme = text("README.md");
    assert!(readme.contains(DEFAULT_FILE));
    for unit in ["conveyor-server.service", "conveyor-worker.service", "conveyor-notify.service"] {
        let credentials = values(&text(unit), "LoadCredential");
        assert_eq!(credentials.len(), 2, "{unit}");
        for credential in credentials {
            let (_, file) = credential.split_once(':').unwrap();
            // A relative name: an absolute one that is not there would keep the unit from starting.
            assert!(!file.contains('/') && readme.contains(file), "{unit}: {file}");
        }
    }
}

/// The settings that the Debian package brings are comments, and good ones: `#key` is a setting, `# Text` is prose.
#[test]
fn the_package_s_settings_are_good_with_and_without_their_comments() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("debian/config.toml");
    let said = std::fs::read_to_string(path).unwrap();
    let set: Vec<_> = said
        .lines()
        .filter_map(|line| {
            line.strip_prefix('#').filter(|rest| rest.starts_with(|c: char| c == '[' || c.is_alphabetic()))
        })
        .collect();
    assert!(set.len() > 8, "{set:?}");
    let temporary = TempDir::new().unwrap();
    let file = temporary.path().join("config.toml");
    for text in [said.clone(), set.join("\n")] {
        std::fs::write(&file, text).unwrap();
        let run = Program::new(&file, temporary.path()).good(&["check-config", "--without-secrets"]);
        assert_eq!(run.stderr, "");
    }
    assert!(said.lines().all(|line| line.is_empty() || line.starts_with('#')), "something is set");
}
