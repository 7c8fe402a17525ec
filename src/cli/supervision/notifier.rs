//! What the service manager is told, by the socket that `NOTIFY_SOCKET` names; where there is none, all of this does nothing.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sd_notify::NotifyState;

/// Longest status, in characters: `systemctl status` shows one line.
const LONGEST: usize = 400;

/// Says things to the service manager.
#[derive(Debug, Clone, Default)]
pub(super) struct Notifier(Option<Arc<Said>>);

/// What was said last.
#[derive(Debug, Default)]
struct Said(Mutex<Last>);

#[derive(Debug, Default)]
struct Last {
    status: String,
    /// Whether it was complained about that nobody listens.
    complained: bool,
}

impl Notifier {
    /// Speaks to whoever started this process. The variable stays in its environment, of which children get nothing.
    pub(super) fn of_process() -> Self {
        Self(std::env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty()).map(|_| Arc::default()))
    }

    /// What was started does its work.
    pub(super) fn ready(&self, status: &str) {
        self.say_with(status, &[NotifyState::Ready]);
    }

    /// The settings are read again; [`Notifier::ready`] ends that.
    pub(super) fn reloading(&self) {
        // `Type=notify-reload` must know that this comes after its signal.
        match NotifyState::monotonic_usec_now() {
            Ok(now) => self.say(&[NotifyState::Reloading, now]),
            Err(_) => self.say(&[NotifyState::Reloading]),
        }
    }

    /// It ends.
    pub(super) fn stopping(&self, status: &str) {
        self.say_with(status, &[NotifyState::Stopping]);
    }

    /// It ends, which may take so long from now on without being taken for a failure.
    pub(super) fn extend(&self, by: Duration) {
        self.say(&[NotifyState::ExtendTimeoutUsec(u32::try_from(by.as_micros()).unwrap_or(u32::MAX))]);
    }

    /// How it stands, where that changed.
    pub(super) fn status(&self, status: &str) {
        let Some(said) = &self.0 else { return };
        let status = one_line(status);
        if said.last().status != status {
            self.say_with(&status, &[]);
        }
    }

    /// It lives.
    pub(super) fn alive(&self) {
        self.say(&[NotifyState::Watchdog]);
    }

    fn say_with(&self, status: &str, states: &[NotifyState<'_>]) {
        let Some(said) = &self.0 else { return };
        let status = one_line(status);
        let mut all = states.to_vec();
        all.push(NotifyState::Status(&status));
        self.say(&all);
        said.last().status.clone_from(&status);
    }

    fn say(&self, states: &[NotifyState<'_>]) {
        let Some(said) = &self.0 else { return };
        if let Err(error) = sd_notify::notify(states)
            && !std::mem::replace(&mut said.last().complained, true)
        {
            tracing::warn!(error = &error as &dyn std::error::Error, "cannot speak to the service manager");
        }
    }
}

impl Said {
    fn last(&self) -> std::sync::MutexGuard<'_, Last> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
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
