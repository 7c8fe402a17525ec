//! Runs the routes on listeners: a task for each connection, limits for slow clients, an orderly end.

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::body::Incoming;
use hyper::rt::{Read, Write};
use hyper::server::conn::http1;
use hyper::service::{HttpService, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Semaphore;
use tokio_util::either::Either;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Limits;
use super::closing::{self, Activity, Heard, ReplyBody, Stream};
use super::stall::Impatient;

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
    async fn accept(&self) -> io::Result<Stream> {
        match self {
            Self::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                // Replies are small and somebody waits for them. Where the client is gone already, the first read tells.
                let _ = stream.set_nodelay(true);
                Ok(Either::Left(stream))
            }
            Self::Unix(listener) => Ok(Either::Right(listener.accept().await?.0)),
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
            Ok(stream) => {
                let (router, limits, shutdown) = (router.clone(), limits.clone(), shutdown.clone());
                connections.spawn(async move {
                    connection(stream, router, limits, shutdown).await;
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

async fn connection(stream: Stream, router: Router, limits: Limits, shutdown: CancellationToken) {
    let activity = Activity::new();
    let io = TokioIo::new(Impatient::new(Heard::new(stream, Arc::clone(&activity)), limits.write_idle));
    let service = service_fn(|request| closing::answer(router.clone(), Arc::clone(&activity), request));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_timeout)
        .serve_connection(io, service);
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

impl<I, S> closing::Closable for http1::Connection<I, S>
where
    S: HttpService<Incoming, ResBody = ReplyBody, Error = Infallible>,
    I: Read + Write + Unpin,
{
    fn close(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}
