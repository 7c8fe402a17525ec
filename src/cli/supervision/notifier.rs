//! What the service manager is told, by the socket that `NOTIFY_SOCKET` names; where there is none, all of this does nothing.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sd_notify::NotifyState;

/// Longest status, in characters: `systemctl status` shows one line.
const LONGEST: usize = 400;
/// Messages that may wait to be sent; others are dropped.
const WAITING: usize = 16;
/// How long a message that counts is waited for.
const PATIENCE: Duration = Duration::from_secs(1);

/// Says things to the service manager. One that takes nothing (a process 1 that froze) holds up nobody: they are sent by a thread.
#[derive(Debug, Clone, Default)]
pub(super) struct Notifier(Option<Arc<Sending>>);

#[derive(Debug)]
struct Sending {
    messages: SyncSender<Message>,
    /// The status that was told last.
    status: Mutex<String>,
}

#[derive(Debug)]
struct Message {
    states: Vec<NotifyState<'static>>,
    status: Option<String>,
    /// Whoever waits until it was sent.
    sent: SyncSender<()>,
}

impl Notifier {
    /// Speaks to whoever started this process. The variable stays in its environment, of which children get nothing.
    pub(super) fn of_process() -> Self {
        if std::env::var_os("NOTIFY_SOCKET").is_none_or(|name| name.is_empty()) {
            return Self(None);
        }
        let (messages, to_send) = sync_channel(WAITING);
        match std::thread::Builder::new().name("notifier".into()).spawn(move || send(&to_send)) {
            Ok(_) => Self(Some(Arc::new(Sending { messages, status: Mutex::default() }))),
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "cannot speak to the service manager");
                Self(None)
            }
        }
    }

    /// What was started does its work.
    pub(super) fn ready(&self, status: &str) {
        self.say(vec![NotifyState::Ready], Some(status), true);
    }

    /// The settings are read again; [`Notifier::ready`] ends that.
    pub(super) fn reloading(&self) {
        let mut states = vec![NotifyState::Reloading];
        // `Type=notify-reload` must know that this comes after its signal.
        states.extend(NotifyState::monotonic_usec_now());
        self.say(states, None, true);
    }

    /// It ends.
    pub(super) fn stopping(&self, status: &str) {
        self.say(vec![NotifyState::Stopping], Some(status), true);
    }

    /// It ends, which may take so long from now on without being taken for a failure.
    pub(super) fn extend(&self, by: Duration) {
        let by = u32::try_from(by.as_micros()).unwrap_or(u32::MAX);
        self.say(vec![NotifyState::ExtendTimeoutUsec(by)], None, false);
    }

    /// How it stands, where that changed.
    pub(super) fn status(&self, status: &str) {
        let Some(sending) = &self.0 else { return };
        if *sending.status.lock().unwrap_or_else(PoisonError::into_inner) != one_line(status) {
            self.say(Vec::new(), Some(status), false);
        }
    }

    /// It lives.
    pub(super) fn alive(&self) {
        self.say(vec![NotifyState::Watchdog], None, false);
    }

    /// Says it; `counts` where the process must not go on, or end, before it was said.
    fn say(&self, states: Vec<NotifyState<'static>>, status: Option<&str>, counts: bool) {
        let Some(sending) = &self.0 else { return };
        let status = status.map(one_line);
        let (sent, done) = sync_channel(1);
        let is_queued = sending.messages.try_send(Message { states, status: status.clone(), sent }).is_ok();
        if is_queued && let Some(status) = status {
            *sending.status.lock().unwrap_or_else(PoisonError::into_inner) = status;
        }
        if is_queued && counts {
            let _ = done.recv_timeout(PATIENCE);
        }
    }
}

/// Sends messages for as long as there may be any.
fn send(messages: &Receiver<Message>) {
    let mut complained = false;
    for Message { mut states, status, sent } in messages {
        if let Some(status) = &status {
            states.push(NotifyState::Status(status));
        }
        if let Err(error) = sd_notify::notify(&states)
            && !std::mem::replace(&mut complained, true)
        {
            tracing::warn!(error = &error as &dyn std::error::Error, "cannot speak to the service manager");
        }
        // Nobody waits for most of them.
        let _ = sent.send(());
    }
}

/// A line feed would begin another message.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(LONGEST).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_one_line_and_not_too_long() {
        assert_eq!(one_line("a\nREADY=1\tb"), "a READY=1 b");
        assert_eq!(one_line(&"x".repeat(1000)).len(), LONGEST);
    }
}
