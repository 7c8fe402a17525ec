//! What the server listens on: sockets that were handed over, or those of its settings.

use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use listenfd::ListenFd;
use nix::sys::socket::{getsockopt, sockopt::AcceptConn};
use tokio::net::{TcpListener, UnixListener, UnixStream};

use crate::config::{ConfigError, ListenAddress};
use crate::http::Listener;
use crate::socket_file::{self, SocketFile};

/// What comes by a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Requests of all kinds.
    Http,
    /// Those about notifications alone.
    Notify,
}

impl Kind {
    const ALL: [Self; 2] = [Self::Http, Self::Notify];

    /// `FileDescriptorName=` of its sockets.
    const fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Notify => "notify",
        }
    }

    /// The setting that names its addresses.
    const fn setting(self) -> &'static str {
        match self {
            Self::Http => "[server] listen",
            Self::Notify => "[notify] listen",
        }
    }
}

/// Their names, for errors.
const NAMES: &str = "http or notify";
/// The first descriptor that is handed over (`SD_LISTEN_FDS_START`).
const FIRST: usize = 3;
/// Who may connect to a Unix socket: the server's account and its group.
const MODE: u32 = 0o660;
/// How long it may take to find out that somebody listens.
const ANSWER: Duration = Duration::from_secs(2);

/// Sockets that whoever started this process has opened, as systemd does (`sd_listen_fds(3)`). They are closed here when
/// this is dropped; who handed them over has them still.
#[derive(Debug, Default)]
pub struct Inherited {
    sockets: Vec<(Kind, Socket)>,
    refused: Option<ConfigError>,
}

#[derive(Debug)]
enum Socket {
    Tcp(std::net::TcpListener),
    Unix(std::os::unix::net::UnixListener),
}

impl Inherited {
    /// Whether there is any, so that the settings' addresses are not looked at.
    pub(super) fn is_any(&self) -> bool {
        !self.sockets.is_empty()
    }

    /// Takes what was handed over to this process, and sees to it that no child inherits it or hears of it. To be called
    /// first of all: it changes the environment, which no other thread may look at meanwhile.
    pub fn take() -> Self {
        let names = std::env::var("LISTEN_FDNAMES").ok();
        // Without names it is none of our units; listenfd looks at the number and the process, and removes those.
        let mut given = ListenFd::from_env();
        #[allow(unsafe_code)]
        // SAFETY: there is no other thread yet.
        unsafe {
            std::env::remove_var("LISTEN_FDNAMES");
            std::env::remove_var("LISTEN_PIDFDID");
        };
        let names: Vec<_> = names.as_deref().map(|names| names.split(':').collect()).unwrap_or_default();
        let mut inherited = Self::default();
        for position in 0..given.len() {
            let name = names.get(position).copied().unwrap_or_default();
            // Those of other names, too: they are to be closed.
            let kind = Kind::ALL.into_iter().find(|kind| kind.name() == name);
            match (socket(&mut given, position), kind) {
                (Some(socket), Some(kind)) => inherited.sockets.push((kind, socket)),
                (socket, _) => {
                    let why = refusal(name, socket.is_some());
                    let key = format!("the inherited descriptor {} (name {name:?})", FIRST + position);
                    inherited.refused.get_or_insert(ConfigError::Value { key, why });
                }
            }
        }
        inherited
    }

    /// Takes the sockets of one kind out.
    pub(super) fn split(&mut self, kind: Kind) -> Self {
        let (taken, left) = std::mem::take(&mut self.sockets).into_iter().partition(|(of, _)| *of == kind);
        self.sockets = left;
        Self { sockets: taken, refused: None }
    }
}

/// Why a descriptor is not taken.
fn refusal(name: &str, listens: bool) -> String {
    match name {
        "http" | "notify" => {
            "is no stream socket that listens; write ListenStream= into the socket unit, and no Accept=yes".into()
        }
        "connection" => "is of a socket unit with Accept=yes; the server accepts by itself, so write Accept=no".into(),
        "stored" => "was stored by somebody else; the server stores none".into(),
        _ if listens => {
            "is not one that the server knows; write FileDescriptorName=http or =notify into the socket unit \
             (systemd-socket-activate has --fdname=http)"
                .to_string()
        }
        _ => {
            format!("is not one that the server knows, and no stream socket that listens; it takes those named {NAMES}")
        }
    }
}

/// Takes one as a socket that listens; it is not inherited by children from here on.
fn socket(given: &mut ListenFd, position: usize) -> Option<Socket> {
    let listens = |socket: &dyn AsFd| getsockopt(&socket.as_fd(), AcceptConn).unwrap_or(false);
    if let Ok(Some(socket)) = given.take_tcp_listener(position) {
        return listens(&socket).then_some(Socket::Tcp(socket));
    }
    match given.take_unix_listener(position) {
        Ok(Some(socket)) => listens(&socket).then_some(Socket::Unix(socket)),
        _ => None,
    }
}

/// What a server listens on.
#[derive(Debug)]
pub(super) struct Listeners {
    pub(super) listeners: Vec<Listener>,
    pub(super) addresses: Vec<ListenAddress>,
    /// Names of Unix sockets that go with the server.
    pub(super) files: Vec<SocketFile>,
}

/// Takes over what was inherited; opens what the settings say where nothing was.
pub(super) async fn open(inherited: Inherited, kind: Kind, listen: &[ListenAddress]) -> anyhow::Result<Listeners> {
    if let Some(refused) = inherited.refused {
        return Err(refused.into());
    }
    let mut open = Listeners { listeners: Vec::new(), addresses: Vec::new(), files: Vec::new() };
    if let Some((other, _)) = inherited.sockets.iter().find(|(other, _)| *other != kind) {
        let why = "is for another command: conveyor server takes http and notify, conveyor notify server takes notify";
        let key = format!("an inherited socket named {}", other.name());
        return Err(ConfigError::Value { key, why: why.into() }.into());
    }
    for (_, socket) in inherited.sockets {
        let (listener, address) = socket.registered().context("cannot use an inherited socket")?;
        open.listeners.push(listener);
        open.addresses.push(address);
    }
    if !open.listeners.is_empty() {
        tracing::info!(
            sockets = open.listeners.len(),
            "sockets named {} were handed over by who started this server; {} and --listen are not looked at",
            kind.name(),
            kind.setting()
        );
        return Ok(open);
    }
    for address in listen {
        match address {
            ListenAddress::Tcp(tcp) => {
                let listener = TcpListener::bind(tcp).await.with_context(|| format!("cannot listen on {address}"))?;
                open.addresses.push(listener.local_addr()?.into());
                open.listeners.push(listener.into());
            }
            ListenAddress::Unix(path) => {
                refuse_another(kind, path).await?;
                let (listener, file) =
                    socket_file::listen(path, MODE).with_context(|| format!("cannot listen on {address}"))?;
                open.addresses.push(address.clone());
                open.listeners.push(listener.into());
                open.files.push(file);
            }
        }
    }
    Ok(open)
}

impl Socket {
    /// The socket in the event loop, and where it is.
    fn registered(self) -> io::Result<(Listener, ListenAddress)> {
        match self {
            Self::Tcp(socket) => {
                socket.set_nonblocking(true)?;
                let address = socket.local_addr()?.into();
                Ok((TcpListener::from_std(socket)?.into(), address))
            }
            Self::Unix(socket) => {
                socket.set_nonblocking(true)?;
                // One without a name in the file system is shown as Linux shows it.
                let path = socket.local_addr()?.as_pathname().map_or_else(|| PathBuf::from("@"), Path::to_owned);
                Ok((UnixListener::from_std(socket)?.into(), ListenAddress::Unix(path)))
            }
        }
    }
}

/// Fails where a path is in use: by a server that lives, or by something that is no socket.
async fn refuse_another(kind: Kind, path: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::FileTypeExt;
    let found = match std::fs::symlink_metadata(path) {
        Ok(metadata) => metadata.file_type(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error).with_context(|| format!("cannot listen on {}", path.display())),
    };
    let refuse = |why: &str| ConfigError::Value { key: kind.setting().into(), why: why.to_owned() };
    if !found.is_socket() {
        let why = format!("names {}, which is there and is no socket; remove it or name another path", path.display());
        return Err(refuse(&why).into());
    }
    match tokio::time::timeout(ANSWER, UnixStream::connect(path)).await {
        // What a dead server left behind.
        Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
        _ => anyhow::bail!(
            "cannot listen on {}: another process listens there; end it, or name another path",
            path.display()
        ),
    }
}
