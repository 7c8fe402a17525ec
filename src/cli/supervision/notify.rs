//! The service of notifications, alone, under a service manager.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::Signal;
use tokio::sync::{mpsc, oneshot, watch};

use super::notifier::Notifier;
use super::{count, followed, refused, watchdog, with_note};
use crate::app::Engine;
use crate::app::notifications::{Dialect, Notifications};
use crate::broker::{Link, Snapshot};
use crate::cli::token_lists::TokenLists;
use crate::config::{Config, NotifyConfig, ServerConfig};

/// How often it is looked how the service stands.
const LOOK: Duration = Duration::from_secs(1);

/// Settings of the service, with every file read.
pub(in crate::cli) struct NotifyLoaded {
    pub(in crate::cli) file: Config,
    pub(in crate::cli) config: NotifyConfig,
    /// Where its tokens and its broker are.
    pub(in crate::cli) server: ServerConfig,
    pub(in crate::cli) lists: TokenLists,
    /// What of the old service's settings does nothing, a sentence each.
    pub(in crate::cli) warnings: Vec<String>,
}

/// A service that is served, as far as it can be changed.
pub(in crate::cli) struct NotifyServing {
    pub(in crate::cli) engine: Arc<Engine>,
    pub(in crate::cli) notifications: Arc<Notifications>,
    pub(in crate::cli) anonymous_read: watch::Sender<bool>,
    /// Other token lists, and who waits until they are in force.
    pub(in crate::cli) lists: mpsc::UnboundedSender<(TokenLists, oneshot::Sender<()>)>,
    /// The broker's address, where there is a broker.
    pub(in crate::cli) broker: Option<String>,
}

/// Reads the settings again.
type Again = Box<dyn Fn() -> anyhow::Result<NotifyLoaded> + Send + Sync>;

/// Tells the service manager about a service that is served until it is told to stop, and brings its settings into force again when
/// `hangups` says so.
pub(in crate::cli) async fn supervise(
    in_force: (Config, NotifyConfig, ServerConfig),
    again: Again,
    serving: NotifyServing,
    mut hangups: Signal,
    mut shutdown: watch::Receiver<bool>,
) {
    let notifier = Notifier::of_process();
    let (file, config, server) = in_force;
    let mut supervisor = Supervisor { notifier: notifier.clone(), file, config, server, again, serving, note: None };
    // It may have been told to stop before it began.
    if !*shutdown.borrow() {
        notifier.ready(&supervisor.status());
        let feeding = supervisor.feed();
        tokio::select! {
            _ = shutdown.wait_for(|stop| *stop) => {}
            never = feeding => match never {},
            never = supervisor.look(&mut hangups) => match never {},
        }
    }
    notifier.stopping("stopping");
}

struct Supervisor {
    notifier: Notifier,
    /// What is in force: what was read at the start and followed since.
    file: Config,
    config: NotifyConfig,
    server: ServerConfig,
    again: Again,
    serving: NotifyServing,
    /// What the last reading of the settings left to be said.
    note: Option<String>,
}

impl Supervisor {
    /// Feeds the watchdog, where there is one, after answers of the database's writer. An error is an answer.
    fn feed(&self) -> impl Future<Output = Infallible> + use<> {
        let (engine, notifier) = (Arc::clone(&self.serving.engine), self.notifier.clone());
        async move {
            let Some(interval) = watchdog::asked_for() else { return std::future::pending().await };
            let answered = || async { drop(engine.store().probe().await) };
            watchdog::feed(interval, answered, || notifier.alive()).await
        }
    }

    async fn look(&mut self, hangups: &mut Signal) -> Infallible {
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                Some(()) = hangups.recv() => {
                    self.notifier.reloading();
                    self.reload().await;
                    self.notifier.ready(&self.status());
                }
                _ = look.tick() => self.notifier.status(&self.status()),
            }
        }
    }

    /// Reads the settings again. Where they cannot be used, all stays as it is.
    async fn reload(&mut self) {
        let NotifyLoaded { file, config, server, lists, warnings } = match (self.again)() {
            Ok(loaded) => loaded,
            Err(error) => {
                self.note = Some(refused(&error));
                return;
            }
        };
        warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
        let left = self.file.notify_needs_restart((&self.config, &self.server), &file, (&config, &server));
        self.server.follow(server);
        self.serving.engine.set_bootstrap_token(self.server.token.as_ref());
        self.serving.anonymous_read.send_replace(self.server.anonymous_read);
        let (told, done) = oneshot::channel();
        if self.serving.lists.send((lists, told)).is_ok() {
            let _ = done.await;
        }
        self.note = followed(&left);
    }

    fn status(&self) -> String {
        let NotifyServing { engine, notifications, broker, .. } = &self.serving;
        let figures = notifications.figures();
        let mut told = vec![tell(Dialect::ALL.map(|dialect| figures.subscribers(dialect)), notifications.announced())];
        if engine.store().is_unwritable() {
            told.push("messages are refused: the database cannot be written".to_owned());
        }
        // There is an exchange unless the settings want none.
        if let (Some(address), Some(_)) = (broker, &self.config.exchange) {
            told.push(exchange(engine.exchange().snapshot(), address));
        }
        with_note(told.join("; "), self.note.as_deref())
    }
}

/// Who is told of how many repositories, for people.
fn tell([events, sockets]: [u64; Dialect::ALL.len()], announced: usize) -> String {
    let all = count(events + sockets, "subscriber");
    let how = if events > 0 && sockets > 0 {
        format!(" ({events} by events, {sockets} by WebSocket)")
    } else {
        String::new()
    };
    format!("{all}{how}, {} announced", count(announced as u64, "repository"))
}

fn exchange(now: Snapshot, address: &str) -> String {
    let reason = now.reason.map(|reason| format!(": {reason}")).unwrap_or_default();
    match now.link {
        Link::Connecting | Link::Down => format!("waiting for RabbitMQ at {address}{reason}"),
        Link::Blocked => format!("RabbitMQ: blocked{reason}"),
        Link::Up => "RabbitMQ: connected".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_s_status_reads_as_a_sentence() {
        assert_eq!(tell([0, 0], 0), "0 subscribers, 0 repositories announced");
        assert_eq!(tell([1, 0], 1), "1 subscriber, 1 repository announced");
        assert_eq!(tell([2, 5], 3), "7 subscribers (2 by events, 5 by WebSocket), 3 repositories announced");
    }
}
