//! Runs the routes on listeners: a task for each connection, limits for slow clients, an orderly end.

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::Request;
use hyper::body::Incoming;
use hyper::rt::{Read, Write};
use hyper::server::conn::http1;
use hyper::service::{HttpService, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use nix::sys::socket::{setsockopt, sockopt};
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::sync::Semaphore;
use tokio_util::either::Either;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Limits;
use super::closing::{self, Activity, Heard, ReplyBody, Stream};
use super::notify::Peer;
use super::stall::{Impatient, Stalled};

/// A socket that connections come from; whoever calls has bound it.
#[derive(Debug)]
pub enum Listener {
    /// TCP.
    Tcp(TcpListener),
    /// A Unix socket.
    Unix(UnixListener),
}

impl From<TcpListener> for Listener {
    fn from(listener: TcpListener) -> Self {
        Self::Tcp(listener)
    }
}

impl From<UnixListener> for Listener {
    fn from(listener: UnixListener) -> Self {
        Self::Unix(listener)
    }
}

impl Listener {
    /// A connection, and the address at its other end.
    async fn accept(&self) -> io::Result<(Stream, Peer)> {
        match self {
            Self::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                // Replies are small and somebody waits for them. Where the client is gone already, the first read tells.
                let _ = stream.set_nodelay(true);
                let _ = keep_alive(&stream);
                Ok((Either::Left(stream), Peer(Some(peer.ip().to_canonical()))))
            }
            Self::Unix(listener) => Ok((Either::Right(listener.accept().await?.0), Peer(None))),
        }
    }
}

/// Serves until `shutdown`; then accepts nothing more, lets requests that run, or come on a connection that is open, come to
/// their end, for a while, and returns.
///
/// Streams and long polls end by [`super::AppState::shutdown`], which is meant to be the same or cancelled before.
pub async fn serve(
    listeners: impl IntoIterator<Item = impl Into<Listener>>,
    router: Router,
    limits: Limits,
    shutdown: CancellationToken,
) {
    let slots = Arc::new(Semaphore::new(limits.connections));
    let connections = TaskTracker::new();
    let acceptors = TaskTracker::new();
    for listener in listeners {
        let (listener, router, limits) = (listener.into(), router.clone(), limits.clone());
        let (slots, connections, shutdown) = (Arc::clone(&slots), connections.clone(), shutdown.clone());
        acceptors.spawn(async move {
            let accepting = accept(&listener, &router, &limits, &slots, &connections, &shutdown);
            shutdown.run_until_cancelled(accepting).await;
        });
    }
    acceptors.close();
    acceptors.wait().await;
    connections.close();
    if tokio::time::timeout(limits.shutdown_grace + Duration::from_secs(1), connections.wait()).await.is_err() {
        tracing::warn!(connections = connections.len(), "some connections did not end in time");
    }
}

async fn accept(
    listener: &Listener,
    router: &Router,
    limits: &Limits,
    slots: &Arc<Semaphore>,
    connections: &TaskTracker,
    shutdown: &CancellationToken,
) {
    loop {
        let Ok(slot) = Arc::clone(slots).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, peer)) => {
                let (router, limits, shutdown) = (router.clone(), limits.clone(), shutdown.clone());
                connections.spawn(async move {
                    connection(stream, peer, router, limits, shutdown).await;
                    drop(slot);
                });
            }
            // The client went away before we came.
            Err(error) if matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset) => {
            }
            Err(error) => {
                // Out of files or memory: others must end first.
                tracing::error!(error = &error as &dyn std::error::Error, "cannot accept connections; trying again");
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
    }
}

/// Finds clients that are gone without a word. Notifications may have nothing to say for days, and may say nothing else.
fn keep_alive(stream: &TcpStream) -> nix::Result<()> {
    setsockopt(stream, sockopt::KeepAlive, &true)?;
    setsockopt(stream, sockopt::TcpKeepIdle, &60)?;
    setsockopt(stream, sockopt::TcpKeepInterval, &15)?;
    setsockopt(stream, sockopt::TcpKeepCount, &4)?;
    setsockopt(stream, sockopt::TcpUserTimeout, &120_000)
}

async fn connection(stream: Stream, peer: Peer, router: Router, limits: Limits, shutdown: CancellationToken) {
    let activity = Activity::new();
    let stalled = Stalled::default();
    let heard = Heard::new(stream, Arc::clone(&activity));
    let io = TokioIo::new(Impatient::new(heard, limits.write_idle, stalled.clone()));
    let service = service_fn(|mut request: Request<Incoming>| {
        request.extensions_mut().insert(peer);
        request.extensions_mut().insert(stalled.clone());
        closing::answer(router.clone(), Arc::clone(&activity), request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_timeout)
        .serve_connection(io, service)
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = shutdown.cancelled() => {
            let closing = closing::close(connection, &activity, limits.last_request);
            tokio::time::timeout(limits.shutdown_grace, closing).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = ended {
        tracing::debug!(error = &error as &dyn std::error::Error, "connection ended");
    }
}

impl<I, S> closing::Closable for http1::UpgradeableConnection<I, S>
where
    S: HttpService<Incoming, ResBody = ReplyBody, Error = Infallible>,
    I: Read + Write + Unpin + Send + 'static,
{
    fn close(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use nix::sys::socket::getsockopt;

    use super::*;

    #[tokio::test]
    async fn who_is_gone_without_a_word_is_found_within_two_minutes() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let _client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (Either::Left(stream), _) = Listener::Tcp(listener).accept().await.unwrap() else { panic!("no TCP") };
        assert!(getsockopt(&stream, sockopt::KeepAlive).unwrap());
        let [idle, interval, count] = [
            getsockopt(&stream, sockopt::TcpKeepIdle).unwrap(),
            getsockopt(&stream, sockopt::TcpKeepInterval).unwrap(),
            getsockopt(&stream, sockopt::TcpKeepCount).unwrap(),
        ];
        assert!(idle + interval * count <= 120, "{idle} {interval} {count}");
        // What was sent and is not acknowledged.
        assert_eq!(getsockopt(&stream, sockopt::TcpUserTimeout).unwrap(), 120_000);
    }
}
