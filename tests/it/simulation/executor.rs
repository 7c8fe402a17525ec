//! Drives futures on this thread. Nothing in the simulation waits for anything outside of it.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

/// Polls a future to its end.
pub(super) fn block_on<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    for _ in 0..10_000 {
        if let Poll::Ready(value) = future.as_mut().poll(&mut context) {
            return value;
        }
    }
    panic!("a future waits for something that is not simulated");
}

/// Polls a future `times` times and drops it: its caller went away in the middle, or the server died there.
pub(super) fn abandon<T>(future: impl Future<Output = T>, times: usize) {
    let mut future = pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    for _ in 0..times {
        if future.as_mut().poll(&mut context).is_ready() {
            return;
        }
    }
}

/// Polls the first future `times` times, then the second to its end, then the first to its end.
pub(super) fn overlap<A, B>(first: impl Future<Output = A>, times: usize, second: impl Future<Output = B>) -> (B, A) {
    let mut first = pin!(first);
    let mut context = Context::from_waker(Waker::noop());
    for _ in 0..times {
        if let Poll::Ready(value) = first.as_mut().poll(&mut context) {
            return (block_on(second), value);
        }
    }
    (block_on(second), block_on(first))
}

/// Lets whoever drives this future do something else here, or drop it.
pub(super) async fn pause() {
    let mut paused = false;
    std::future::poll_fn(|_| if std::mem::replace(&mut paused, true) { Poll::Ready(()) } else { Poll::Pending }).await;
}
