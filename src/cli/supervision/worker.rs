//! The worker under a service manager.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::time::Duration;

use tokio::signal::unix::Signal;
use tokio::sync::watch;
use tokio::time::Instant;

use super::notifier::Notifier;
use super::{count, followed, refused, watchdog, with_note};
use crate::config::{Config, NodePublisher, WorkerConfig};
use crate::worker::control::{DrainedBy, Status};
use crate::worker::{Adjustable, Halt, Handle};

/// How often it is looked how the worker stands.
const LOOK: Duration = Duration::from_secs(1);
/// How long the service manager is asked to wait at a time, while a worker drains.
const PATIENCE: Duration = Duration::from_secs(30);
/// What a worker takes beyond its drain timeout to give back what it has, where nothing is being published.
const GIVING_BACK: Duration = Duration::from_secs(30);
/// How long a publish of the native publisher may take at the end of a worker, before that is taken for one that hangs.
const NATIVE_PUBLISH: Duration = Duration::from_secs(3600);
/// Repositories that a status names.
const NAMED: usize = 3;

/// Reads the settings again.
type Again = Box<dyn Fn() -> anyhow::Result<(Config, WorkerConfig)> + Send + Sync>;

/// Tells the service manager about a worker for as long as it is polled, and brings its settings into force again when `hangups`
/// says so.
pub(in crate::cli) async fn supervise(
    in_force: (Config, WorkerConfig),
    again: Again,
    handle: Handle,
    mut hangups: Signal,
    mut halt: watch::Receiver<Halt>,
) -> Infallible {
    let (file, config) = in_force;
    let mut supervisor = Supervisor { notifier: Notifier::of_process(), file, config, again, handle, note: None };
    tokio::select! {
        () = supervisor.handle.until_ready() => {}
        // Told to end before it began to work.
        Ok(_) = halt.wait_for(|halt| *halt != Halt::No) => {
            supervisor.notifier.stopping("ending");
            return std::future::pending().await;
        }
    }
    supervisor.notifier.ready(&supervisor.status());
    let feeding = supervisor.feed();
    let working = async {
        tokio::select! {
            _ = halt.wait_for(|halt| *halt != Halt::No) => {}
            () = supervisor.look(&mut hangups) => {}
        }
        supervisor.drain().await
    };
    tokio::select! {
        never = feeding => never,
        never = working => never,
    }
}

struct Supervisor {
    notifier: Notifier,
    /// What is in force: what was read at the start and followed since.
    file: Config,
    config: WorkerConfig,
    again: Again,
    handle: Handle,
    /// What the last reading of the settings left to be said.
    note: Option<String>,
}

impl Supervisor {
    /// Feeds the watchdog, where there is one, as long as the heartbeats' task goes on. Whether the server can be reached is no
    /// part of it.
    fn feed(&self) -> impl Future<Output = Infallible> + use<> {
        let (handle, notifier) = (self.handle.clone(), self.notifier.clone());
        async move {
            let Some(interval) = watchdog::asked_for() else { return std::future::pending().await };
            watchdog::feed(interval, || handle.beaten(), || notifier.alive()).await
        }
    }

    async fn look(&mut self, hangups: &mut Signal) {
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
        let (file, config) = match (self.again)() {
            Ok(read) => read,
            Err(error) => {
                self.note = Some(refused(&error));
                return;
            }
        };
        let left = self.file.worker_needs_restart(&self.config, &file, &config);
        self.config.follow(config);
        self.handle.adjust(adjustable(&self.config)).await;
        self.note = followed(&left);
    }

    /// Says that the worker ends, and asks for the time that this may take; what hangs is left to the service manager.
    async fn drain(&self) -> Infallible {
        let began = Instant::now();
        let drain_timeout = self.config.drain_timeout;
        let publish = match &self.config.publisher {
            NodePublisher::Native => NATIVE_PUBLISH,
            NodePublisher::CvmfsServer(driven) => driven.publish_limit + driven.remount_limit + driven.fence_limit,
        };
        // The worker itself hears of it only now.
        let used = self.handle.status().map_or(0, |status| status.used);
        self.notifier.stopping(&draining(used));
        let (mut look, mut asked) = (tokio::time::interval(LOOK), None::<Instant>);
        loop {
            look.tick().await;
            let is_publishing = self.handle.status().is_some_and(|status| is_publishing(&status));
            let limit = limit(drain_timeout, is_publishing.then_some(publish));
            if began.elapsed() < limit && asked.is_none_or(|asked| asked.elapsed() >= PATIENCE / 3) {
                self.notifier.extend(PATIENCE);
                asked = Some(Instant::now());
            }
            self.notifier.status(&self.status());
        }
    }

    fn status(&self) -> String {
        let status = match self.handle.status() {
            Some(status) => tell(&status),
            None => "starting".to_owned(),
        };
        with_note(status, self.note.as_deref())
    }
}

/// How long a drain may take; `publish`: how long what is being published may. What takes longer hangs.
fn limit(drain_timeout: Duration, publish: Option<Duration>) -> Duration {
    drain_timeout + GIVING_BACK + publish.unwrap_or_default()
}

/// What of a worker's settings can change while it runs.
pub(in crate::cli) fn adjustable(config: &WorkerConfig) -> Adjustable {
    Adjustable {
        slots: config.slots,
        repositories: config.repositories.clone(),
        drain_timeout: config.drain_timeout,
        whitelist_warning_days: config.whitelist_warning_days,
    }
}

fn is_publishing(status: &Status) -> bool {
    status.batches.iter().any(|batch| batch.step == "publishing")
}

/// What is told of a worker that ends.
fn draining(used: u32) -> String {
    format!("draining: {}", left(used))
}

fn left(used: u32) -> String {
    format!("{} left", count(used.into(), "batch"))
}

/// How a worker stands, for people.
fn tell(status: &Status) -> String {
    let server = match (&status.server.error, status.server.is_heard) {
        (Some(error), _) => Some(format!("waiting for the server at {}: {error}", status.server.url)),
        (None, false) => Some(format!("waiting for the server at {}", status.server.url)),
        (None, true) => None,
    };
    let work = match &status.draining {
        Some(drain) if drain.by == DrainedBy::Signal => Some(draining(status.used)),
        Some(drain) => {
            let why = if drain.why.is_empty() { String::new() } else { format!(" ({})", drain.why) };
            Some(format!("drained by an operator{why}: {}", left(status.used)))
        }
        None if status.used > 0 => Some(working(status)),
        None if server.is_none() => Some(format!("idle, {}", count(status.slots.into(), "slot"))),
        None => None,
    };
    let faults = status.faults.first().map(|fault| format!("wrong on this machine: {fault}"));
    [work, server, faults].into_iter().flatten().collect::<Vec<_>>().join("; ")
}

fn working(status: &Status) -> String {
    let mut jobs: BTreeMap<(&str, &str), u64> = BTreeMap::new();
    for batch in &status.batches {
        *jobs.entry((batch.repository.as_str(), &batch.step)).or_default() += batch.jobs.len() as u64;
    }
    let mut told: Vec<String> = jobs
        .iter()
        .take(NAMED)
        .map(|((repository, step), jobs)| {
            let step = if *step == "claimed" { "preparing" } else { step };
            format!("{step} {} in {repository}", count(*jobs, "job"))
        })
        .collect();
    if jobs.len() > NAMED {
        told.push(format!("{} more", jobs.len() - NAMED));
    }
    if told.is_empty() { "claiming a batch".to_owned() } else { told.join(", ") }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;

    fn status(change: impl FnOnce(&mut Status)) -> String {
        let zero = "01900000-0000-7000-8000-000000000000";
        let mut status: Status = serde_json::from_value(json!({
            "node": "n", "fleet": "f", "publisher": "native", "version": "1", "instance": zero, "pid": 1,
            "started_at": "2026-01-01T00:00:00Z", "repositories": null, "slots": 4, "used": 0, "batches": [], "draining": null,
            "server": {"url": "http://s", "heard_s_ago": 1, "is_heard": true}, "broker_connected": null, "faults": [],
        }))
        .unwrap();
        change(&mut status);
        tell(&status)
    }

    fn batch(repository: &str, step: &str, jobs: usize) -> serde_json::Value {
        let id = "01900000-0000-7000-8000-000000000001";
        json!({
            "id": id, "repository": repository, "lease_path": "/", "jobs": vec![id; jobs], "step": step,
            "since": "2026-01-01T00:00:00Z", "files": 0, "bytes": 0,
        })
    }

    #[test]
    fn a_drain_is_given_the_time_that_it_may_take_and_no_more() {
        let minute = Duration::from_secs(60);
        assert_eq!(limit(minute, None), minute + GIVING_BACK);
        assert_eq!(limit(Duration::ZERO, Some(NATIVE_PUBLISH)), GIVING_BACK + NATIVE_PUBLISH);
    }

    #[test]
    fn a_worker_s_status_reads_as_a_sentence() {
        assert_eq!(status(|_| {}), "idle, 4 slots");
        let away = |status: &mut Status| {
            (status.server.is_heard, status.server.error) = (false, Some("connection refused".into()));
        };
        assert_eq!(status(away), "waiting for the server at http://s: connection refused");
        let works = |status: &mut Status| {
            let batches = [batch("a.b", "publishing", 1), batch("a.b", "publishing", 1), batch("c.d", "claimed", 1)];
            (status.batches, status.used) = (serde_json::from_value(json!(batches)).unwrap(), 3);
        };
        assert_eq!(status(works), "publishing 2 jobs in a.b, preparing 1 job in c.d");
        let ends = |status: &mut Status| {
            works(status);
            status.used = 1;
            let signal = json!({"by": "signal", "since": "2026-01-01T00:00:00Z", "why": "it was told to end"});
            status.draining = Some(serde_json::from_value(signal).unwrap());
            away(status);
        };
        assert_eq!(status(ends), "draining: 1 batch left; waiting for the server at http://s: connection refused");
        let drained = |status: &mut Status| {
            let operator = json!({"by": "operator", "since": "2026-01-01T00:00:00Z", "why": "new disk"});
            status.draining = Some(serde_json::from_value(operator).unwrap());
            status.faults = vec!["the whitelist of a.b expires".into()];
        };
        assert_eq!(
            status(drained),
            "drained by an operator (new disk): 0 batches left; wrong on this machine: the whitelist of a.b expires"
        );
    }
}
