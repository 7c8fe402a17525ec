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

/// `FileDescriptorName=` of the sockets that requests come by.
const NAME: &str = "http";
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
    sockets: Vec<Socket>,
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
            match (socket(&mut given, position), name) {
                (Some(socket), NAME) => inherited.sockets.push(socket),
                (socket, name) => {
                    let why = refusal(name, socket.is_some());
                    let key = format!("the inherited descriptor {} (name {name:?})", FIRST + position);
                    inherited.refused.get_or_insert(ConfigError::Value { key, why });
                }
            }
        }
        inherited
    }
}

/// Why a descriptor is not taken.
fn refusal(name: &str, listens: bool) -> String {
    match name {
        NAME => "is no stream socket that listens; write ListenStream= into the socket unit, and no Accept=yes".into(),
        "connection" => "is of a socket unit with Accept=yes; the server accepts by itself, so write Accept=no".into(),
        "stored" => "was stored by somebody else; the server stores none".into(),
        _ if listens => format!(
            "is not one that the server knows; write FileDescriptorName={NAME} into the socket unit \
             (systemd-socket-activate has --fdname={NAME})"
        ),
        _ => {
            format!("is not one that the server knows, and no stream socket that listens; it takes those named {NAME}")
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
pub(super) async fn open(inherited: Inherited, listen: &[ListenAddress]) -> anyhow::Result<Listeners> {
    if let Some(refused) = inherited.refused {
        return Err(refused.into());
    }
    let mut open = Listeners { listeners: Vec::new(), addresses: Vec::new(), files: Vec::new() };
    for socket in inherited.sockets {
        let (listener, address) = socket.registered().context("cannot use an inherited socket")?;
        open.listeners.push(listener);
        open.addresses.push(address);
    }
    if !open.listeners.is_empty() {
        tracing::info!(
            sockets = open.listeners.len(),
            "sockets were handed over by who started this server; [server] listen and --listen are not looked at"
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
                refuse_another(path).await?;
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
async fn refuse_another(path: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::FileTypeExt;
    let kind = match std::fs::symlink_metadata(path) {
        Ok(metadata) => metadata.file_type(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error).with_context(|| format!("cannot listen on {}", path.display())),
    };
    let refuse = |why: &str| ConfigError::Value { key: "[server] listen".into(), why: why.to_owned() };
    if !kind.is_socket() {
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
