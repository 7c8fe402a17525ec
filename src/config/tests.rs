//! What the file, the environment and the flags add up to.

use std::os::unix::fs::PermissionsExt;

use super::*;

/// Every key that the old program's documentation has.
const OLD: &str = r#"
shared_key = "secret"
job_wait_timeout = 7200
debug = true
log_timestamps = false
[server]
host = "conveyor.example.org"
port = 8081
[queue]
username = "u"
password = "p"
host = "mq"
port = 5672
vhost = "/cvmfs"
new_job_exchange = "jobs.new"
new_job_queue = "jobs.new"
completed_job_exchange = "jobs.done"
[db]
type = "postgres"
database = "cvmfs"
username = "UNSET"
password = ""
host = "db"
port = "5432"
[worker]
name = "w1"
job_retries = 3
temp_dir = "/tmp/conveyor-worker"
"#;

fn parse(text: &str) -> Result<Config, ConfigError> {
    Config::parse(Path::new("config.toml"), text, Environment::default())
}

fn token_file(mode: u32) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "s3cret\n").unwrap();
    std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(mode)).unwrap();
    file
}

#[test]
fn the_old_programs_file_is_accepted() {
    let config = parse(OLD).unwrap();
    assert!(config.debug() && !config.log_timestamps());
    assert_eq!(config.wait_limit(), Some(Duration::from_secs(7200)));
    assert_eq!(config.client(&ClientFlags::default()).unwrap().url, "http://conveyor.example.org:8081");
    assert_eq!(config.server(&ServerFlags::default()).unwrap().listen, ["0.0.0.0:8081".parse().unwrap()]);
    let worker = config.worker(&WorkerFlags::default()).unwrap();
    assert_eq!((worker.node.as_str(), worker.temp_dir.to_str().unwrap()), ("w1", "/tmp/conveyor-worker"));
    let warnings = config.warnings();
    assert_eq!(warnings.len(), 4, "{warnings:?}");
    assert!(
        warnings[2].contains("[db] type, database, host, port:"),
        "what is unset is not warned about: {warnings:?}"
    );
    assert!(!warnings.concat().contains("secret"));
}

#[test]
fn the_same_in_json_by_name_or_by_brace() {
    let text = r#" {"client": {"url": "http://h:1"}, "server": {"port": "UNSET"}, "db": {"port": null}}"#;
    for name in ["c.json", "c.toml"] {
        let config = Config::parse(Path::new(name), text, Environment::default()).unwrap();
        assert_eq!(config.client(&ClientFlags::default()).unwrap().url, "http://h:1");
    }
}

#[test]
fn a_wrong_file_is_refused_with_key_and_place_but_never_the_value() {
    for (text, place, said) in [
        ("shared_key = \"s\"\nshared_kye = \"hidden\"", "config.toml:2:1", "`shared_kye`"),
        ("[server]\nport = \"hidden\"", "config.toml:2:8", "expected a number from 0 to 65535"),
        ("[server]\nport = 70000", "config.toml:2:8", "65535"),
        ("[server]\n  prot = 1", "config.toml:2:3", "`prot`"),
        ("[sever]\nport = 1", "config.toml:1:2", "`sever`"),
        ("[worker]\nslots = -1", "config.toml:2:9", "expected a number"),
        ("debug = 3", "config.toml:1:9", "true or false"),
        ("a = \"hidden", "config.toml:1", ""),
        ("[repositories.\"-h\"]", "config.toml:1", "not valid"),
        ("[repositories.\"a.b\"]\nfleat = \"x\"", "config.toml:2:1", "`fleat`"),
        ("{\"server\": {\n\"prot\": 1}}", "config.toml:2:6", "`prot`"),
    ] {
        let error = parse(text).unwrap_err().to_string();
        assert!(error.starts_with(place) && error.contains(said) && !error.contains("hidden"), "{text:?}: {error}");
    }
}

#[test]
fn a_setting_that_cannot_be_is_named() {
    let server = |text: &str| parse(text).unwrap().server(&ServerFlags::default()).unwrap_err().to_string();
    assert!(server("[server]\nlisten = [\"localhost\"]").starts_with("[server] listen has \"localhost\""));
    assert!(server("[server]\nclaim_expiry_s = 1").contains("between 5 and 3600"));
    let worker = |text: &str| parse(text).unwrap().worker(&WorkerFlags::default()).unwrap_err().to_string();
    assert!(worker("[worker]\nnode = \"a b\"").contains("worker's name"));
    assert!(worker("[worker]\nslots = 0").contains("[worker] slots"));
    let client = |text: &str| parse(text).unwrap().client(&ClientFlags::default()).unwrap_err().to_string();
    assert!(client("[client]\ntoken = \"hidden\"\ntoken_file = \"/x\"").contains("both set"));
    assert!(!client("[client]\ntoken = \"hid den\"").contains("hid"));
}

#[test]
fn where_repositories_are_is_told_also_to_those_who_have_none_of_the_workers_secrets() {
    let worker =
        "[worker]\nrepositories_dir = \"/r\"\ntoken_file = \"/absent\"\n[broker]\nurl = \"amqp://mq\"\nuser = \"u\"\n";
    let config = parse(worker).unwrap();
    assert!(config.worker(&WorkerFlags::default()).is_err());
    assert_eq!(config.repository_dirs(), ("/r".into(), "/etc/cvmfs/keys".into()));
}

#[test]
fn isolation_is_preferred_and_secrets_that_are_named_are_hidden() {
    let worker = |text: &str| parse(text).unwrap().worker(&WorkerFlags::default());
    let plain = worker("").unwrap();
    assert_eq!(plain.isolation, Isolation::Preferred);
    assert!(plain.secrets.contains(&"/var/lib/conveyor".into()), "{:?}", plain.secrets);
    assert_eq!(worker("[worker]\nisolation = \"required\"").unwrap().isolation, Isolation::Required);
    let error = worker("[worker]\nisolation = \"none\"").unwrap_err().to_string();
    assert!(error.starts_with("[worker] isolation is \"none\""), "{error}");
    let token = token_file(0o600);
    let text = format!("[server]\nstate_dir = \"/s\"\ntokens = [\"/t\"]\n[worker]\ntoken_file = {:?}", token.path());
    let secrets = worker(&text).unwrap().secrets;
    for secret in [Path::new("/s"), Path::new("/t"), token.path()] {
        assert!(secrets.contains(&secret.to_owned()), "{secret:?} of {secrets:?}");
    }
}

#[test]
fn a_flag_beats_the_environment_and_that_the_file_and_that_the_default() {
    let variables = [("CONVEYOR_URL", "http://variable"), ("CONVEYOR_TOKEN", "variable")];
    let flags = ClientFlags { url: Some("http://flag".into()), token_file: None };
    let text = "[client]\nurl = \"http://file\"\ntoken = \"file\"\n[worker]\nserver = \"http://worker\"";
    let with = |text, variables| Config::parse(Path::new("x"), text, variables).unwrap();
    let url = |config: &Config, flags: &ClientFlags| config.client(flags).unwrap().url;
    let all = with(text, variables.into());
    assert_eq!(url(&all, &flags), "http://flag");
    assert_eq!(url(&all, &ClientFlags::default()), "http://variable");
    assert_eq!(all.client(&flags).unwrap().token.unwrap().expose(), "variable");
    assert_eq!(all.worker(&WorkerFlags::default()).unwrap().client.url, "http://variable");
    let file = with(text, [("CONVEYOR_URL", "")].into());
    assert_eq!(url(&file, &ClientFlags::default()), "http://file");
    assert_eq!(file.client(&flags).unwrap().token.unwrap().expose(), "file");
    assert_eq!(file.worker(&WorkerFlags::default()).unwrap().client.url, "http://worker");
    let none = with("", Environment::default());
    assert_eq!(url(&none, &ClientFlags::default()), "http://localhost:8080");
    assert_eq!(none.client(&ClientFlags::default()).unwrap().token, None);
}

#[test]
fn the_server_is_closed_by_default() {
    let server = parse("").unwrap().server(&ServerFlags::default()).unwrap();
    assert_eq!(server.listen, ["127.0.0.1:8080".parse().unwrap()]);
    assert!(!server.anonymous_read && server.token.is_none() && server.repositories.is_empty());
    assert_eq!((server.claim_expiry.as_secs(), server.max_blob_bytes), (30, 68_719_476_736));
    let text = "[server]\nlisten = [\"[::]:80\"]\nanonymous_read = true\n[repositories.\"a.b\"]\n[repositories.\"c.d\"]\nfleet = \"x\"";
    let server = parse(text).unwrap().server(&ServerFlags::default()).unwrap();
    assert_eq!(server.listen, ["[::]:80".parse().unwrap()]);
    let fleets: Vec<_> =
        server.repositories.iter().map(|(name, rules)| (name.as_str(), rules.fleet.as_str())).collect();
    assert_eq!(fleets, [("a.b", "default"), ("c.d", "x")]);
}

#[test]
fn state_goes_where_systemd_says() {
    let state = |variables: Environment, text| {
        Config::parse(Path::new("x"), text, variables).unwrap().server(&ServerFlags::default()).unwrap().state_dir
    };
    assert_eq!(state(Environment::default(), ""), Path::new("/var/lib/conveyor"));
    assert_eq!(state([("STATE_DIRECTORY", "/s/a:/s/b")].into(), ""), Path::new("/s/a"));
    assert_eq!(state([("STATE_DIRECTORY", "/s/a")].into(), "[server]\nstate_dir = \"/own\""), Path::new("/own"));
}

#[test]
fn a_secret_that_everyone_can_read_is_refused() {
    assert_eq!(read_token_file(token_file(0o640).path()).unwrap().expose(), "s3cret");
    let open = token_file(0o644);
    let error = read_token_file(open.path()).unwrap_err();
    assert!(matches!(error, ConfigError::Exposed { .. }));
    assert!(error.hint().unwrap().starts_with("take that right away: chmod o= "));
    std::fs::write(open.path(), "[client]\ntoken = \"s3cret\"").unwrap();
    assert!(matches!(Config::load(Some(open.path()), Environment::default()), Err(ConfigError::Exposed { .. })));
}

#[test]
fn only_a_file_that_is_asked_for_must_exist() {
    let missing = Path::new("/nonexistent/config.toml");
    assert!(matches!(Config::load(Some(missing), Environment::default()), Err(ConfigError::Read { .. })));
    let variables = [("CONVEYOR_CONFIG", "/nonexistent/config.toml")];
    assert!(matches!(Config::load(None, variables.into()), Err(ConfigError::Read { .. })));
}

#[test]
fn old_variables_are_warned_about_without_their_values() {
    let variables = [("CONVEYOR_SHARED_KEY", "hidden"), ("CONVEYOR_DB_PASS", "hidden"), ("CONVEYOR_QUEUE_USER", "")];
    let text = "[client]\ntoken = \"hidden\"";
    let config = Config::parse(Path::new("x"), text, variables.into()).unwrap();
    assert_eq!(config.warnings().len(), 2);
    assert!(!format!("{:?} {config:?}", config.warnings()).contains("hidden"));
}

#[test]
fn a_maintenance_window_is_checked_where_it_stands() {
    let table = |window: &str| {
        let text = format!("[[repositories.\"a.example.org\".maintenance]]\n{window}\n");
        parse(&text).and_then(|config| config.server(&ServerFlags::default()))
    };
    let config =
        table("days = [\"sat\"]\nstart = \"02:00\"\nduration = \"4h\"\ndrain = \"30m\"\nreason = \"gc\"").unwrap();
    let window = &config.repositories.values().next().unwrap().maintenance[0];
    assert!(window.hold("2026-03-07T01:45:00Z".parse().unwrap()).is_some());
    for wrong in [
        "start = \"02:00\"\nduration = \"25h\"",
        "start = \"02:00\"",
        "start = \"26:00\"\nduration = \"1h\"",
        "start = \"02:00\"\nduration = \"1h\"\ndays = [\"saturday\"]",
        "start = \"02:00\"\nduration = \"1h\"\nzone = \"CET\"",
    ] {
        assert!(table(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn without_secrets_all_but_their_files_is_checked() {
    let text = |rest: &str| {
        format!(
            "[client]\ntoken_file = \"/absent/a\"\n[server]\ntoken_file = \"/absent/b\"\n[worker]\ntoken_file = \"/absent/c\"\n\
             [broker]\nurl = \"amqps://mq\"\nuser = \"u\"\nca_file = \"/absent/d\"\n{rest}"
        )
    };
    let check = |config: &Config| {
        config.client(&ClientFlags::default())?;
        config.server(&ServerFlags::default())?;
        config.worker(&WorkerFlags::default()).map(|_| ())
    };
    for rest in ["", "password_file = \"/absent/e\"", "certificate_file = \"/absent/f\"\nkey_file = \"/absent/g\""] {
        let config = parse(&text(rest)).unwrap();
        assert!(matches!(check(&config).unwrap_err(), ConfigError::Read { .. }));
        check(&config.without_secrets()).unwrap();
    }
    for (rest, says) in [
        ("key_file = \"/absent/g\"", "[broker] certificate_file"),
        ("heartbeat_s = 1", "[broker] heartbeat_s"),
        ("[batches]\nmax_jobs = 0", "[batches] max_jobs"),
        ("[retention]\ninterval_s = 0", "[retention] interval_s"),
    ] {
        let error = check(&parse(&text(rest)).unwrap().without_secrets()).unwrap_err().to_string();
        assert!(error.starts_with(says), "{error}");
    }
}
