//! The server under a service manager.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::signal::unix::Signal;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use super::notifier::Notifier;
use super::{count, followed, refused, watchdog, with_note};
use crate::app::{Engine, Load, Rules};
use crate::broker::Link;
use crate::cli::token_lists::TokenLists;
use crate::config::{Config, ServerConfig};
use crate::domain::retention::Retention;

/// How often it is looked how the server stands.
const LOOK: Duration = Duration::from_secs(1);
/// Counting jobs takes no more than this part of the time.
const COUNTING: u32 = 50;

/// How far a server is.
#[derive(Clone)]
pub(in crate::cli) enum Phase {
    /// It is not served yet.
    Starting,
    /// Another one leads.
    StandingBy(Arc<Plan>),
    /// It leads, and its listeners are served.
    Leading(Arc<Leading>),
}

/// What a server that stands by will lead with; empty once it begins to.
pub(in crate::cli) struct Plan(Mutex<Option<(ServerConfig, TokenLists)>>);

/// A server that leads, as far as it can be changed.
pub(in crate::cli) struct Leading {
    pub(in crate::cli) engine: Arc<Engine>,
    pub(in crate::cli) anonymous_read: watch::Sender<bool>,
    pub(in crate::cli) retention: watch::Sender<Retention>,
    /// Other token lists, and who waits until they are in force.
    pub(in crate::cli) lists: mpsc::UnboundedSender<(TokenLists, oneshot::Sender<()>)>,
    /// The broker's address, where there is a broker.
    pub(in crate::cli) broker: Option<String>,
}

/// Settings of a server, with every file read.
pub(in crate::cli) struct Loaded {
    pub(in crate::cli) file: Config,
    pub(in crate::cli) config: ServerConfig,
    pub(in crate::cli) lists: TokenLists,
}

/// Reads the settings again.
type Again = Box<dyn Fn() -> anyhow::Result<Loaded> + Send + Sync>;

impl Plan {
    pub(in crate::cli) fn new(config: ServerConfig, lists: TokenLists) -> Self {
        Self(Mutex::new(Some((config, lists))))
    }

    /// What it leads with; nothing the second time.
    pub(in crate::cli) fn take(&self) -> Option<(ServerConfig, TokenLists)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Puts other settings in place of those that are there; gives them back where none are.
    fn replace(&self, config: ServerConfig, lists: TokenLists) -> Option<(ServerConfig, TokenLists)> {
        let mut there = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if there.is_none() {
            return Some((config, lists));
        }
        *there = Some((config, lists));
        None
    }
}

impl Leading {
    /// Brings settings into force.
    async fn follow(&self, config: &ServerConfig, lists: TokenLists) {
        // First who may do what.
        self.engine.set_bootstrap_token(config.token.as_ref());
        self.anonymous_read.send_replace(config.anonymous_read);
        let (told, done) = oneshot::channel();
        if self.lists.send((lists, told)).is_ok() {
            let _ = done.await;
        }
        self.retention.send_replace(config.retention.clone());
        self.engine.set_max_blob_bytes(config.max_blob_bytes);
        let rules = Rules {
            repositories: Arc::new(config.repositories.clone()),
            batches: config.batches,
            recovery_limit: config.recovery_limit,
            submitter_is_owner: config.submitter_is_owner,
            visible_urls: config.visible_urls.clone(),
        };
        if let Err(error) = self.engine.set_rules(rules).await {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "the settings are in force; offers that they make wrong could not be withdrawn yet, which is tried again"
            );
        }
        match self.engine.stranded().await {
            Ok(stranded) => {
                for (repository, jobs) in stranded {
                    tracing::warn!(repository, jobs, "jobs wait: their repository is not configured any more");
                }
            }
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "cannot count the jobs that wait");
            }
        }
    }
}

/// Tells the service manager about a server until that is told to stop, and brings its settings into force again when `hangups`
/// says so.
pub(in crate::cli) async fn supervise(
    in_force: (Config, ServerConfig),
    again: Again,
    phase: watch::Receiver<Phase>,
    hangups: Signal,
    mut shutdown: watch::Receiver<bool>,
) {
    let notifier = Notifier::of_process();
    let (file, config) = in_force;
    let supervisor = Supervisor { notifier: notifier.clone(), file, config, again, phase, note: None };
    let stopped = shutdown.wait_for(|stop| *stop);
    tokio::select! {
        _ = stopped => notifier.stopping("stopping"),
        () = supervisor.run(hangups) => {}
    }
}

struct Supervisor {
    notifier: Notifier,
    /// What is in force: what was read at the start and followed since.
    file: Config,
    config: ServerConfig,
    again: Again,
    phase: watch::Receiver<Phase>,
    /// What the last reading of the settings left to be said.
    note: Option<String>,
}

impl Supervisor {
    /// Ends with the server only.
    async fn run(mut self, mut hangups: Signal) {
        if self.phase.wait_for(|phase| !matches!(phase, Phase::Starting)).await.is_err() {
            return;
        }
        let mut counted = Counted::default();
        // What takes time to find out comes later: this is true already.
        self.notifier.ready(&self.status(&mut counted).await);
        let feeding = self.feed();
        tokio::select! {
            never = feeding => match never {},
            () = self.look(&mut hangups, counted) => {}
        }
    }

    /// Feeds the watchdog, where there is one.
    fn feed(&self) -> impl Future<Output = Infallible> + use<> {
        let (phase, notifier) = (self.phase.clone(), self.notifier.clone());
        async move {
            let Some(interval) = watchdog::asked_for() else { return std::future::pending().await };
            let answered = || {
                let phase = phase.borrow().clone();
                async move {
                    // While another one leads there is no writer.
                    if let Phase::Leading(leading) = phase {
                        // An error is an answer.
                        drop(leading.engine.store().probe().await);
                    }
                }
            };
            watchdog::feed(interval, answered, || notifier.alive()).await
        }
    }

    async fn look(&mut self, hangups: &mut Signal, mut counted: Counted) {
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                Some(()) = hangups.recv() => {
                    self.notifier.reloading();
                    self.reload().await;
                    let status = self.status(&mut counted).await;
                    self.notifier.ready(&status);
                }
                _ = look.tick() => {
                    let status = self.status(&mut counted).await;
                    self.notifier.status(&status);
                }
            }
        }
    }

    /// Reads the settings again. Where they cannot be used, all stays as it is.
    async fn reload(&mut self) {
        let Loaded { file, config, lists } = match (self.again)() {
            Ok(loaded) => loaded,
            Err(error) => {
                self.note = Some(refused(&error));
                return;
            }
        };
        let left = self.file.server_needs_restart(&self.config, &file, &config);
        self.config.follow(config);
        self.apply(lists).await;
        self.note = followed(&left);
    }

    async fn apply(&mut self, lists: TokenLists) {
        let mut lists = lists;
        loop {
            let phase = self.phase.borrow_and_update().clone();
            match phase {
                Phase::Leading(leading) => return leading.follow(&self.config, lists).await,
                Phase::StandingBy(plan) => match plan.replace(self.config.clone(), lists) {
                    None => return,
                    // It begins to lead with those before.
                    Some((_, back)) => lists = back,
                },
                Phase::Starting => {}
            }
            if self.phase.changed().await.is_err() {
                return;
            }
        }
    }

    async fn status(&self, counted: &mut Counted) -> String {
        let phase = self.phase.borrow().clone();
        let status = match phase {
            Phase::Starting => "starting".to_owned(),
            Phase::StandingBy(_) => {
                format!("standing by: another server leads on {}", self.config.state_dir.display())
            }
            Phase::Leading(leading) => counted.tell(&leading).await,
        };
        with_note(status, self.note.as_deref())
    }
}

/// The jobs as they were counted last.
#[derive(Default)]
struct Counted {
    load: Option<Load>,
    /// The last event then.
    event: u64,
    not_before: Option<Instant>,
}

impl Counted {
    /// How a leader stands. Jobs are counted only after something happened, and the more there are, the less often.
    async fn tell(&mut self, leading: &Leading) -> String {
        let engine = &leading.engine;
        let event = *engine.store().committed().borrow();
        let is_due = self.not_before.is_none_or(|at| Instant::now() >= at);
        if self.load.is_none() && self.not_before.is_none() {
            // Nobody waits for a number to be told that jobs are accepted.
            self.not_before = Some(Instant::now());
        } else if is_due && (self.load.is_none() || self.event != event) {
            let began = Instant::now();
            if let Ok(load) = engine.load().await {
                (self.load, self.event) = (Some(load), event);
            }
            self.not_before = Some(Instant::now() + began.elapsed() * COUNTING);
        }
        let mut told = vec![jobs(self.load, engine.living_workers())];
        if engine.store().is_unwritable() {
            told.push("jobs are refused: the database cannot be written".to_owned());
        }
        told.extend(leading.broker.as_deref().and_then(|address| broker(engine, address)));
        told.join("; ")
    }
}

fn jobs(load: Option<Load>, workers: usize) -> String {
    let workers = count(workers as u64, "worker");
    let Some(Load { queued, running, needs_operator }) = load else {
        return format!("accepting jobs, {workers}");
    };
    let mut text = format!("{} queued, {running} running, {workers}", count(queued, "job"));
    if needs_operator > 0 {
        let verb = if needs_operator == 1 { "needs" } else { "need" };
        text.push_str(&format!(", {} {verb} an operator", count(needs_operator, "job")));
    }
    text
}

fn broker(engine: &Engine, address: &str) -> Option<String> {
    let Some(now) = engine.rabbitmq().map(|status| status.snapshot()) else {
        return Some(format!("waiting for RabbitMQ at {address}"));
    };
    let reason = now.reason.map(|reason| format!(": {reason}")).unwrap_or_default();
    Some(match (now.link, now.fleets.first_key_value()) {
        (Link::Connecting | Link::Down, _) => format!("waiting for RabbitMQ at {address}{reason}"),
        (Link::Blocked, _) => format!("RabbitMQ: blocked{reason}"),
        (Link::Up, Some((fleet, why))) => format!("RabbitMQ: connected, but not for fleet {fleet}: {why}"),
        (Link::Up, None) => format!("RabbitMQ: connected{reason}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_s_status_reads_as_a_sentence() {
        let load = |queued, running, needs_operator| Some(Load { queued, running, needs_operator });
        assert_eq!(jobs(load(12, 3, 0), 4), "12 jobs queued, 3 running, 4 workers");
        assert_eq!(jobs(load(1, 0, 1), 1), "1 job queued, 0 running, 1 worker, 1 job needs an operator");
        assert_eq!(jobs(load(0, 0, 2), 0), "0 jobs queued, 0 running, 0 workers, 2 jobs need an operator");
        assert_eq!(jobs(None, 0), "accepting jobs, 0 workers");
    }
}
