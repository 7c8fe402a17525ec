//! Which ends of a daemon a restart would only repeat: those have exit code 78, which units do not restart after.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::harness::{Place, Program, Run, private};

/// What a machine's file says, besides where it keeps its state.
struct Case {
    what: &'static str,
    role: &'static str,
    text: String,
    /// The exit code of the daemon, and what it says.
    wanted: (i32, &'static str),
}

fn case(what: &'static str, role: &'static str, text: impl Into<String>, wanted: (i32, &'static str)) -> Case {
    Case { what, role, text: text.into(), wanted }
}

fn run(base: &Path, config: &str, arguments: &[&str]) -> Run {
    let path = base.join("config.toml");
    private(&path, config);
    Program::new(&path, base).run(arguments)
}

#[test]
fn what_is_wrong_with_the_settings_ends_with_78_and_what_may_be_over_later_does_not() {
    let base = Place::new();
    let path = |name: &str| base.path().join(name);
    private(&path("token"), "a-token-of-the-tests");
    private(&path("open"), "a-token-of-the-tests");
    std::fs::set_permissions(path("open"), PermissionsExt::from_mode(0o644)).unwrap();
    private(&path("empty"), "");
    private(&path("list"), "nonsense = 1\n");
    let busy = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let busy = busy.local_addr().map(|at| (busy, at)).unwrap();
    let token = format!("token_file = {:?}\n", path("token"));
    let named = |name: &str| format!("token_file = {:?}\n", path(name));
    let broker = "[broker]\nurl = \"amqp://mq\"\nuser = \"u\"\n";
    let cases = [
        case("unknown key", "server", format!("{token}nonsense = 1\n"), (78, "nonsense")),
        case("no address", "server", format!("{token}listen = [\"nowhere\"]\n"), (78, "[server] listen")),
        case("no token", "server", "", (78, "[server] token_file")),
        case("no such token file", "server", named("nowhere"), (78, "cannot read")),
        case("token for all to read", "server", named("open"), (78, "holds a secret")),
        case("token file without a token", "server", named("empty"), (78, "holds no token")),
        case("bad token list", "server", format!("tokens = [{:?}]\n", path("list")), (78, "nonsense")),
        case("no such token list", "server", format!("tokens = [{:?}]\n", path("nowhere")), (78, "cannot read")),
        case("broker without password", "server", format!("{token}{broker}"), (78, "password_file")),
        case("bad number", "server", format!("{token}claim_expiry_s = 1\n"), (78, "claim_expiry_s is 1")),
        case("busy port", "server", format!("{token}listen = [\"{}\"]\n", busy.1), (1, "cannot listen on")),
        case("no such account", "worker", format!("{token}run_as = \"nobody-of-that-name\"\n"), (78, "run_as")),
        case("root", "worker", format!("{token}run_as = \"root\"\n"), (78, "run_as")),
        case("no such token file", "worker", named("nowhere"), (78, "cannot read")),
        case("no such publisher", "worker", format!("{token}publisher = \"other\"\n"), (78, "publisher")),
        case("broker without password", "worker", format!("{token}{broker}"), (78, "password_file")),
        case("no address", "worker", format!("{token}server = \"ftp://h\"\n"), (78, "ftp")),
        case("no address", "notify", "listen = [\"nowhere\"]\n", (78, "[notify] listen")),
        case("bad word", "notify", "verify = \"no\"\n", (78, "[notify] verify")),
        case("no such token file", "notify", format!("[server]\n{}", named("nowhere")), (78, "cannot read")),
        case("bad token list", "notify", format!("[server]\ntokens = [{:?}]\n", path("list")), (78, "nonsense")),
        case("broker without password", "notify", broker, (78, "password_file")),
        case("busy port", "notify", format!("listen = [\"{}\"]\n", busy.1), (1, "cannot listen on")),
        // Nothing of its settings is wrong; that nothing comes is its own code.
        case("server away", "worker", format!("{token}server = \"http://127.0.0.1:9\"\n"), (75, "nothing came")),
    ];
    for Case { what, role, text, wanted: (code, says) } in cases {
        let state = path(&format!("{what} {role}")).into_os_string().into_string().unwrap();
        let text = format!("[{role}]\nstate_dir = {state:?}\n{text}");
        let daemon = match role {
            "worker" => &["worker", "--once", "--wait", "1"][..],
            "notify" => &["notify", "server"],
            _ => &["server"],
        };
        let ended = run(base.path(), &text, daemon);
        assert_eq!(ended.code, code, "{role}, {what}: {ended:?}");
        assert!(ended.stderr.contains(says), "{role}, {what}: {ended:?}");
        // What a daemon would refuse is refused before, and what may be over later is not.
        let checked = run(base.path(), &text, &["check-config", "--role", role]);
        assert_eq!(checked.code, if code == 78 { 78 } else { 0 }, "{role}, {what}: {checked:?}");
        assert!(code != 78 || checked.stderr.contains(says), "{role}, {what}: {checked:?}");
    }
}

#[test]
fn a_worker_for_cvmfs_server_in_a_namespace_of_its_own_is_not_restarted() {
    if !nix::unistd::geteuid().is_root() {
        crate::harness::missing("namespace", Some("only root can make a mount namespace".into()));
        return;
    }
    let base = Place::new();
    private(&base.path().join("token"), "a-token-of-the-tests");
    let (token, state) = (base.path().join("token"), base.path().join("state"));
    let text = format!("[worker]\npublisher = \"cvmfs-server\"\ntoken_file = {token:?}\nstate_dir = {state:?}\n");
    private(&base.path().join("config.toml"), &text);
    let program = Program::new(&base.path().join("config.toml"), base.path());
    for arguments in [&["worker", "--once", "--wait", "1"][..], &["check-config", "--role", "worker"]] {
        let own = program.command(arguments);
        let mut command = std::process::Command::new("unshare");
        command.args(["--mount", "--"]).arg(own.get_program()).args(own.get_args());
        let ended = Run::of(&command.output().unwrap());
        assert_eq!(ended.code, 78, "{ended:?}");
        assert!(ended.stderr.contains("mount namespace of its own"), "{ended:?}");
    }
}

#[test]
fn without_a_role_a_file_is_read_and_what_this_machine_cannot_be_is_a_warning() {
    let base = Place::new();
    let checked = run(base.path(), "[client]\nurl = \"http://127.0.0.1:1\"\n", &["check-config"]);
    assert_eq!(checked.code, 0, "{checked:?}");
    assert!(checked.stderr.contains("the server would not start here: [server] token_file"), "{checked:?}");
}
