//! The end of a connection, such that no request is dropped: what was sent before the client can know of the end is
//! answered, and the answer says that it is the last.
//!
//! hyper's `graceful_shutdown` closes an idle connection at once, also where a request lies in the socket unread; the
//! kernel then answers it with a reset.

use std::future::{Future, poll_fn};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::header::CONNECTION;
use axum::http::{HeaderValue, Request, Response};
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_util::either::Either;
use tower::ServiceExt;

/// A connection of either kind.
pub(super) type Stream = Either<TcpStream, UnixStream>;

/// What happens on one connection, as seen by its reader, its requests and whoever ends it.
#[derive(Debug)]
pub(super) struct Activity {
    born: Instant,
    /// When a byte came last, or a reply ended: microseconds since `born`.
    last: AtomicU64,
    /// Requests whose reply is not done.
    running: AtomicU32,
    closing: AtomicBool,
}

impl Activity {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            born: Instant::now(),
            last: AtomicU64::new(0),
            running: AtomicU32::new(0),
            closing: AtomicBool::new(false),
        })
    }

    /// From now on replies say that they are the last.
    pub(super) fn begin_closing(&self) {
        self.closing.store(true, Ordering::Relaxed);
    }

    fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Relaxed)
    }

    fn touch(&self) {
        self.last.store(u64::try_from(self.born.elapsed().as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// How long nothing has come and no request has run.
    fn idle_for(&self) -> Option<Duration> {
        let last = Duration::from_micros(self.last.load(Ordering::Relaxed));
        (self.running.load(Ordering::Relaxed) == 0).then(|| self.born.elapsed().saturating_sub(last))
    }
}

/// A request of a connection, until its reply is done.
struct Running(Arc<Activity>);

impl Running {
    fn new(activity: &Arc<Activity>) -> Self {
        activity.running.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(activity))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.touch();
        self.0.running.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Answers a request of a connection.
pub(super) async fn answer(
    router: Router,
    activity: Arc<Activity>,
    request: Request<Incoming>,
) -> Result<Response<ReplyBody>, std::convert::Infallible> {
    let running = Running::new(&activity);
    let mut response = router.oneshot(request).await?;
    if activity.is_closing() {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(response.map(|body| ReplyBody { body, _running: running }))
}

/// A reply's body; the request runs until it is sent.
pub(super) struct ReplyBody {
    body: Body,
    _running: Running,
}

impl HttpBody for ReplyBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A connection that hyper drives.
pub(super) trait Closable: Future<Output = hyper::Result<()>> {
    /// As hyper's: at once where it is idle, else behind the reply that is on its way.
    fn close(self: Pin<&mut Self>);
}

/// Ends a connection once it has been idle for `grace`; whatever comes until then is answered.
pub(super) async fn close(
    mut connection: Pin<&mut impl Closable>,
    activity: &Activity,
    grace: Duration,
) -> hyper::Result<()> {
    activity.begin_closing();
    loop {
        let wait = grace.saturating_sub(activity.idle_for().unwrap_or_default());
        tokio::select! {
            ended = connection.as_mut() => return ended,
            () = tokio::time::sleep(wait) => {}
        }
        // Reads what has come by this moment.
        if let Poll::Ready(ended) = poll_fn(|context| Poll::Ready(connection.as_mut().poll(context))).await {
            return ended;
        }
        if activity.idle_for().is_some_and(|idle| idle >= grace) {
            connection.as_mut().close();
            return connection.await;
        }
    }
}

/// A stream that tells when something came; on a connection that is to end it does not wait for the event loop to
/// hear of it.
pub(super) struct Heard {
    stream: Stream,
    activity: Arc<Activity>,
}

impl Heard {
    pub(super) fn new(stream: Stream, activity: Arc<Activity>) -> Self {
        Self { stream, activity }
    }

    fn descriptor(&self) -> BorrowedFd<'_> {
        match &self.stream {
            Either::Left(stream) => stream.as_fd(),
            Either::Right(stream) => stream.as_fd(),
        }
    }
}

impl AsyncRead for Heard {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let mut read = Pin::new(&mut self.stream).poll_read(context, buf);
        if read.is_pending() && self.activity.is_closing() && buf.remaining() > 0 {
            // The descriptor does not block, and where there is nothing the stream has registered for what will come.
            match nix::unistd::read(self.descriptor(), buf.initialize_unfilled()) {
                Ok(n) => {
                    buf.advance(n);
                    read = Poll::Ready(Ok(()));
                }
                Err(nix::errno::Errno::EAGAIN | nix::errno::Errno::EINTR) => {}
                Err(error) => read = Poll::Ready(Err(error.into())),
            }
        }
        if buf.filled().len() > before {
            self.activity.touch();
        }
        read
    }
}

impl AsyncWrite for Heard {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_the_event_loop_has_not_heard_of_is_read_where_the_connection_is_to_end() {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let activity = Activity::new();
        let mut heard = Heard::new(Either::Right(UnixStream::from_std(ours).unwrap()), Arc::clone(&activity));
        let mut storage = [0; 8];
        let mut buf = ReadBuf::new(&mut storage);
        let mut context = Context::from_waker(std::task::Waker::noop());
        let mut read = |buf: &mut ReadBuf<'_>| Pin::new(&mut heard).poll_read(&mut context, buf).is_ready();
        assert!(!read(&mut buf));
        nix::unistd::write(&theirs, b"GET").unwrap();
        // Nothing is awaited here, so that the event loop cannot hear of it.
        assert!(!read(&mut buf), "this test shows nothing");
        activity.begin_closing();
        assert!(read(&mut buf));
        assert_eq!(buf.filled(), b"GET");
        drop(theirs);
        assert!(read(&mut buf), "the end is read, too");
        assert_eq!(buf.filled(), b"GET");
    }
}
