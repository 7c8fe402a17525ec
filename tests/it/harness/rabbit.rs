//! One throw-away RabbitMQ for all tests of a run: own node name, own folders, free ports, loopback only. Each test has a
//! virtual host of its own. A test that stops the broker starts one for itself.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use serde_json::{Value, json};

use super::port::Port;
use super::wait::until;

/// The user that tests are, and its password.
pub(crate) const USER: &str = "tester";
pub(crate) const PASSWORD: &str = "s3cret-of-the-tests";

/// How long a broker may take to end in order: it says goodbye to its clients first.
const STOPPING: Duration = Duration::from_secs(60);

/// Virtual hosts of a broker.
const VHOSTS: u32 = 40;

/// A broker of its own.
pub(crate) struct Rabbit {
    directory: tempfile::TempDir,
    ports: Ports,
    epmd: Mutex<Option<Guarded>>,
    broker: Mutex<Option<Guarded>>,
    vhosts: AtomicU32,
}

/// Its own, also while it is down.
struct Ports {
    amqp: Port,
    tls: Option<Port>,
    epmd: Port,
    distribution: Port,
}

/// Where Debian keeps the scripts: those in `sbin` change the user.
fn scripts() -> Option<PathBuf> {
    let path = PathBuf::from("/usr/lib/rabbitmq/bin");
    path.join("rabbitmq-server").exists().then_some(path)
}

/// Says whether the test must return early, since this machine has no RabbitMQ.
pub(crate) fn no_rabbit() -> bool {
    let why = scripts().is_none().then(|| "rabbitmq-server is not installed".to_owned());
    super::missing("rabbitmq", why)
}

/// The broker that the tests of this run share. It ends with the process, see [`guard`].
pub(crate) fn shared() -> &'static Rabbit {
    static SHARED: OnceLock<Rabbit> = OnceLock::new();
    SHARED.get_or_init(|| Rabbit::start(None))
}

impl Rabbit {
    /// Starts one; with TLS where the directory has `ca.pem`, `server.pem` and `server.key`, and then asks for a
    /// certificate of its clients.
    pub(crate) fn start(tls: Option<&Path>) -> Self {
        Self::start_as(tls, "[].")
    }

    /// Starts one with settings in Erlang's own form, which has some that the other file has not.
    pub(crate) fn start_with(advanced: &str) -> Self {
        Self::start_as(None, advanced)
    }

    fn start_as(tls: Option<&Path>, advanced: &str) -> Self {
        let directory = tempfile::Builder::new().prefix("conveyor-rabbit-").tempdir().unwrap();
        let ports = Ports {
            amqp: Port::reserve(),
            tls: tls.map(|_| Port::reserve()),
            epmd: Port::reserve(),
            distribution: Port::reserve(),
        };
        let path = |name: &str| directory.path().join(name);
        ["mnesia", "log", "home"].iter().for_each(|name| std::fs::create_dir(path(name)).unwrap());
        let mut config = format!(
            "listeners.tcp.1 = 127.0.0.1:{}\nvm_memory_high_watermark.absolute = 512MiB\ndisk_free_limit.absolute = 1MB\n\
             log.console = false\nlog.file = rabbit.log\nnum_acceptors.tcp = 2\n",
            ports.amqp.number()
        );
        if let (Some(directory), Some(port)) = (tls, &ports.tls) {
            let port = port.number();
            let file = |name: &str| directory.join(name).display().to_string();
            config += &format!(
                "listeners.ssl.1 = 127.0.0.1:{port}\nssl_options.cacertfile = {}\nssl_options.certfile = {}\n\
                 ssl_options.keyfile = {}\nssl_options.verify = verify_peer\nssl_options.fail_if_no_peer_cert = true\n",
                file("ca.pem"),
                file("server.pem"),
                file("server.key")
            );
        }
        config += &format!("load_definitions = {}\n", path("definitions.json").display());
        std::fs::write(path("rabbitmq.conf"), config).unwrap();
        // Made with the broker: its own command takes seconds each time.
        let vhosts: Vec<_> = (0..VHOSTS).map(|number| json!({"name": vhost_name(number)})).collect();
        let may = |vhost: &Value| json!({"user": USER, "vhost": vhost["name"], "configure": ".*", "write": ".*", "read": ".*"});
        let user = json!({"name": USER, "password": PASSWORD, "tags": ""});
        let permissions: Vec<_> = vhosts.iter().map(may).collect();
        let definitions = json!({"users": [user], "vhosts": vhosts, "permissions": permissions});
        std::fs::write(path("definitions.json"), definitions.to_string()).unwrap();
        std::fs::write(path("enabled_plugins"), "[].").unwrap();
        std::fs::write(path("advanced.config"), advanced).unwrap();
        let rabbit =
            Self { directory, ports, epmd: Mutex::default(), broker: Mutex::default(), vhosts: AtomicU32::new(0) };
        *lock(&rabbit.epmd) = Some(rabbit.start_epmd());
        rabbit.up();
        rabbit
    }

    /// An own epmd, which a broker would leave behind otherwise.
    fn start_epmd(&self) -> Guarded {
        let mut command = Command::new("epmd");
        command.args(["-port", &self.ports.epmd.number().to_string(), "-address", "127.0.0.1"]);
        let guarded = Guarded::start(&mut command, self.directory.path());
        until("epmd listens", || TcpStream::connect(self.ports.epmd.address()).ok());
        guarded
    }

    fn environment(&self, command: &mut Command) {
        let path = |name: &str| self.directory.path().join(name);
        for name in ["RABBITMQ_NODENAME", "RABBITMQ_HOME"] {
            command.env_remove(name);
        }
        command
            .current_dir(self.directory.path())
            .env("HOME", path("home"))
            .env("RABBITMQ_CONF_ENV_FILE", path("no-env.conf"))
            .env("RABBITMQ_NODENAME", format!("t{}@localhost", self.port()))
            .env("RABBITMQ_MNESIA_BASE", path("mnesia"))
            .env("RABBITMQ_LOG_BASE", path("log"))
            .env("RABBITMQ_CONFIG_FILE", path("rabbitmq.conf"))
            .env("RABBITMQ_ADVANCED_CONFIG_FILE", path("advanced.config"))
            .env("RABBITMQ_ENABLED_PLUGINS_FILE", path("enabled_plugins"))
            .env("RABBITMQ_GENERATED_CONFIG_DIR", path("generated"))
            .env("RABBITMQ_FEATURE_FLAGS_FILE", path("feature_flags"))
            .env("RABBITMQ_PID_FILE", path("pid"))
            .env("RABBITMQ_DIST_PORT", self.ports.distribution.number().to_string())
            .env("ERL_EPMD_PORT", self.ports.epmd.number().to_string())
            .env("ERL_EPMD_ADDRESS", "127.0.0.1")
            .env("RABBITMQ_ALLOW_INPUT", "1")
            .env("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", "-kernel inet_dist_use_interface {127,0,0,1} +S 1:1 +sbwt none")
            .env("RABBITMQ_CTL_ERL_ARGS", "+S 1:1 +sbwt none")
            .env("ERL_CRASH_DUMP", "/dev/null")
            .env("LANG", "C.UTF-8");
    }

    /// Starts the broker, where it does not run, and waits until it speaks AMQP.
    pub(crate) fn up(&self) {
        let mut broker = lock(&self.broker);
        if broker.is_some() {
            return;
        }
        let mut command = Command::new(scripts().unwrap().join("rabbitmq-server"));
        self.environment(command.arg("-noinput"));
        let mut guarded = Guarded::start(&mut command, &self.directory.path().join("generated"));
        until("the broker speaks AMQP", || {
            assert!(guarded.child.try_wait().unwrap().is_none(), "the broker ended; its log:\n{}", self.log());
            self.speaks().then_some(())
        });
        // It listens there last.
        if let Some(port) = &self.ports.tls {
            until("the broker listens for TLS", || TcpStream::connect(port.address()).ok());
        }
        *broker = Some(guarded);
    }

    /// Whether it answers the protocol's header; that it accepts a connection is not enough.
    fn speaks(&self) -> bool {
        let ask = || -> std::io::Result<bool> {
            let mut stream = TcpStream::connect(self.ports.amqp.address())?;
            stream.set_read_timeout(Some(Duration::from_secs(2)))?;
            stream.write_all(b"AMQP\0\0\x09\x01")?;
            let mut head = [0; 11];
            stream.read_exact(&mut head)?;
            Ok(head[0] == 1 && head[7..] == [0, 10, 0, 10])
        };
        ask().unwrap_or(false)
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("log/rabbit.log")).unwrap_or_default()
    }

    /// Ends it as a power cut would.
    pub(crate) fn kill9(&self) {
        if let Some(broker) = lock(&self.broker).take() {
            broker.end();
        }
    }

    /// Ends it in order; one that waits for a client which does not answer is killed in the end.
    pub(crate) fn stop(&self) {
        if let Some(mut broker) = lock(&self.broker).take() {
            nix::sys::signal::kill(broker.pid(), Signal::SIGTERM).unwrap();
            let deadline = Instant::now() + STOPPING;
            until("the broker ends", || {
                (broker.child.try_wait().unwrap().is_some() || Instant::now() > deadline).then_some(())
            });
            broker.end();
        }
    }

    /// Makes it stand still, where it runs, or go on.
    pub(crate) fn freeze(&self, frozen: bool) {
        if let Some(broker) = &*lock(&self.broker) {
            killpg(broker.pid(), if frozen { Signal::SIGSTOP } else { Signal::SIGCONT }).unwrap();
        }
    }

    /// Runs `rabbitmqctl`, which must succeed.
    #[track_caller]
    pub(crate) fn control(&self, arguments: &[&str]) -> String {
        let output = until("the broker can be controlled", || {
            let mut command = Command::new(scripts().unwrap().join("rabbitmqctl"));
            self.environment(command.arg("--quiet").args(arguments).stdin(Stdio::null()));
            let output = command.output().unwrap();
            // It speaks AMQP before it says that it runs.
            let starts = String::from_utf8_lossy(&output.stderr).contains("requires the 'rabbit' app to be running");
            (!starts).then_some(output)
        });
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// A command that finds this broker by `rabbitmqctl`, which it has in PATH behind what is named first.
    pub(crate) fn command(&self, program: &Path, first: &Path) -> Command {
        let mut command = Command::new(program);
        self.environment(&mut command);
        let path = format!("{}:{}:/usr/bin:/bin", first.display(), scripts().unwrap().display());
        command.env("PATH", path).stdin(Stdio::null());
        command
    }

    /// An unused virtual host in which the test's user may do everything.
    pub(crate) fn vhost(&self) -> String {
        let number = self.vhosts.fetch_add(1, Ordering::Relaxed);
        assert!(number < VHOSTS, "more virtual hosts are needed");
        vhost_name(number)
    }

    pub(crate) fn port(&self) -> u16 {
        self.ports.amqp.number()
    }

    pub(crate) fn tls_port(&self) -> u16 {
        self.ports.tls.as_ref().unwrap().number()
    }
}

impl Drop for Rabbit {
    fn drop(&mut self) {
        for process in [&self.broker, &self.epmd] {
            if let Some(process) = lock(process).take() {
                process.end();
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// In a group of its own, without our output.
fn in_group(command: &mut Command) -> &mut Command {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0)
}

fn vhost_name(number: u32) -> String {
    format!("test{number}")
}

/// A process whose group ends with this process, however that does: a shell reads a pipe of ours. What all tests share is
/// never dropped.
struct Guarded {
    child: Child,
    shell: Child,
}

impl Guarded {
    /// Starts it; `directory` is removed where its group has to be killed.
    fn start(command: &mut Command, directory: &Path) -> Self {
        let child = in_group(command).spawn().unwrap();
        let mut shell = Command::new("sh");
        // With `-9`, Debian's shell would take `--` for a process, and the broker would outlive us.
        shell.args([
            "-c",
            "read _; kill -s KILL -- \"-$1\" 2>/dev/null; sleep 1; rm -rf -- \"$2\"",
            "sh",
            &child.id().to_string(),
        ]);
        let shell = in_group(shell.arg(directory)).stdin(Stdio::piped()).spawn().unwrap();
        Self { child, shell }
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).unwrap())
    }

    /// Kills the group. The shell goes first: once the group is gone, its number may be somebody else's.
    fn end(mut self) {
        let _ = (self.shell.kill(), self.shell.wait());
        let _ = killpg(self.pid(), Signal::SIGKILL);
        let _ = self.child.wait();
    }
}
