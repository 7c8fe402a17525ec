//! Keeps repositories from being served: pauses, holds for maintenance, and windows of the configuration.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::app::dispatch::Dispatcher;
use crate::app::repositories::{live_batches, view};
use crate::app::{AppError, Engine, withdraw_offer};
use crate::domain::batch::BatchState;
use crate::domain::hold::{Hold, HoldKind, LONGEST_HOLD_S, SHORTEST_HOLD_S};
use crate::domain::ids::HoldId;
use crate::domain::names::RepositoryName;
use crate::domain::repository::{HoldReply, HoldRequest, PauseRequest, RepositoryView};
use crate::store::Tx;
use crate::store::repositories::{StoredHold, of_kind};

/// Characters of a reason that are kept.
const REASON: usize = 1000;

impl Engine {
    /// Offers nothing more of a repository, and takes back what nobody has claimed; what runs ends. `by`: who says so.
    pub async fn pause(
        &self,
        repository: RepositoryName,
        request: PauseRequest,
        by: &str,
    ) -> Result<RepositoryView, AppError> {
        let (by, reason) = (by.to_owned(), shorten(&request.reason));
        tracing::info!(repository = %repository, by, reason, until = request.until.map(|at| at.to_string()), "repository paused");
        self.write(move |tx, now, dispatcher| {
            check_known(dispatcher, &repository)?;
            if request.until.is_some_and(|until| until <= now) {
                let message = "the pause would be over before it begins";
                return Err(AppError::invalid("bad_until", message, "give it a later end, or none"));
            }
            let holds = tx.holds()?;
            let before = of_kind(&holds, &repository, HoldKind::Pause);
            let since = before.map_or(now, |before| before.hold.since);
            let hold = Hold { kind: HoldKind::Pause, by, reason, since, until: request.until };
            let id = HoldId(dispatcher.entropy.uuid(now));
            tx.put_hold(&StoredHold { repository: repository.clone(), id, lease_s: 0, hold })?;
            withdraw_offers(tx, now, dispatcher, &repository)?;
            view(tx, dispatcher, &repository, now)
        })
        .await
    }

    /// Ends whatever somebody put in a repository's way; a window of the configuration stays.
    pub async fn resume(&self, repository: RepositoryName, by: &str) -> Result<RepositoryView, AppError> {
        tracing::info!(repository = %repository, by, "repository resumed");
        self.write(move |tx, now, dispatcher| {
            check_known(dispatcher, &repository)?;
            tx.remove_holds(&repository)?;
            dispatcher.touch_repository(&repository);
            view(tx, dispatcher, &repository, now)
        })
        .await
    }

    /// Holds a repository for maintenance, or renews that. The reply says whether anything of it still runs: until then the
    /// holder must wait, and from then on nothing begins while the hold lasts.
    pub async fn hold(
        &self,
        repository: RepositoryName,
        request: HoldRequest,
        by: &str,
    ) -> Result<HoldReply, AppError> {
        if !(SHORTEST_HOLD_S..=LONGEST_HOLD_S).contains(&request.lease_s) {
            let message = format!("a hold lasts {SHORTEST_HOLD_S} to {LONGEST_HOLD_S} s, not {}", request.lease_s);
            return Err(AppError::invalid("bad_hold", message, "ask for less, and renew it"));
        }
        let (by, lease) = (by.to_owned(), Duration::from_secs(request.lease_s.into()));
        let (id, until) = (request.id, self.clock.monotonic() + lease);
        let name = repository.clone();
        let (reply, is_new) = self
            .write(move |tx, now, dispatcher| {
                check_known(dispatcher, &repository)?;
                let holds = tx.holds()?;
                let before = of_kind(&holds, &repository, HoldKind::Maintenance);
                if let Some(other) = before.filter(|before| before.id != request.id) {
                    let message = format!("repository {repository} is {}", other.hold);
                    let hint = "wait until that is over; an operator ends it with: conveyor repository resume";
                    return Err(AppError::conflict("held", message, hint));
                }
                if before.is_none() && request.renew {
                    let message = format!(
                        "the hold of repository {repository} is over: it was not renewed in time, or somebody ended it"
                    );
                    return Err(AppError::conflict("hold_lost", message, "stop what you do to the repository"));
                }
                let is_new = before.is_none();
                let hold = Hold {
                    kind: HoldKind::Maintenance,
                    by: before.map_or(by, |before| before.hold.by.clone()),
                    reason: shorten(&request.reason),
                    since: before.map_or(now, |before| before.hold.since),
                    until: now.checked_add(SignedDuration::from_secs(request.lease_s.into())).ok(),
                };
                let (id, lease_s) = (request.id, request.lease_s);
                tx.put_hold(&StoredHold { repository: repository.clone(), id, lease_s, hold: hold.clone() })?;
                withdraw_offers(tx, now, dispatcher, &repository)?;
                // What reserves a path and cannot be read counts: nobody knows what became of it.
                let exclusive = tx.reserved(&repository)?.is_empty();
                Ok((HoldReply { hold, exclusive, running: live_batches(tx, &repository)? }, is_new))
            })
            .await?;
        self.live().holds.insert(id, until);
        if is_new {
            tracing::info!(repository = %name, by = reply.hold.by, reason = reply.hold.reason, "repository held for maintenance");
        }
        Ok(reply)
    }

    /// Ends a hold for maintenance; that it is over already is no error.
    pub async fn release(&self, repository: RepositoryName, id: HoldId, by: &str) -> Result<RepositoryView, AppError> {
        tracing::info!(repository = %repository, by, "hold for maintenance released");
        let view = self
            .write(move |tx, now, dispatcher| {
                check_known(dispatcher, &repository)?;
                tx.remove_hold(&repository, id)?;
                dispatcher.touch_repository(&repository);
                view(tx, dispatcher, &repository, now)
            })
            .await?;
        self.live().holds.remove(&id);
        Ok(view)
    }

    /// Ends holds whose time is over, and takes back what is offered where a window opens. Holds for maintenance count on the
    /// monotonic clock, and get their full time anew after a restart, as claims do; pauses end at a time of day.
    pub(super) async fn look_at_holds(&self, now: Duration) -> Result<(), AppError> {
        let holds = self.store.read(|db| Ok::<_, AppError>(db.holds()?)).await?;
        let (of_day, in_window) = (self.clock.now(), self.dispatcher.in_window(self.clock.now()));
        let (over, opened, closed) = {
            let mut live = self.live();
            live.holds.retain(|id, _| holds.iter().any(|stored| stored.id == *id));
            let mut is_over = |stored: &StoredHold| match stored.hold.kind {
                HoldKind::Maintenance => {
                    let lease = Duration::from_secs(stored.lease_s.into());
                    *live.holds.entry(stored.id).or_insert(now + lease) <= now
                }
                HoldKind::Pause | HoldKind::Window => stored.hold.until.is_some_and(|until| until <= of_day),
            };
            let over: Vec<StoredHold> = holds.into_iter().filter(|stored| is_over(stored)).collect();
            let opened: Vec<_> = in_window.difference(&live.in_window).cloned().collect();
            let closed: Vec<_> = live.in_window.difference(&in_window).cloned().collect();
            (over, opened, closed)
        };
        if over.is_empty() && opened.is_empty() && closed.is_empty() {
            return Ok(());
        }
        let ended = self
            .write(move |tx, now, dispatcher| {
                let mut ended = Vec::new();
                for stored in over {
                    if tx.expire_hold(&stored)? {
                        dispatcher.touch_repository(&stored.repository);
                        ended.push(stored);
                    }
                }
                for repository in &opened {
                    withdraw_offers(tx, now, dispatcher, repository)?;
                }
                closed.iter().for_each(|repository| dispatcher.touch_repository(repository));
                Ok(ended)
            })
            .await?;
        for StoredHold { repository, hold, .. } in ended {
            tracing::info!(repository = %repository, kind = hold.kind.as_str(), by = hold.by, "a hold is over: its time has passed");
        }
        self.live().in_window = in_window;
        Ok(())
    }
}

fn check_known(dispatcher: &Dispatcher, repository: &RepositoryName) -> Result<(), AppError> {
    match dispatcher.repositories().contains_key(repository) {
        true => Ok(()),
        false => Err(AppError::NotFound { what: "repository", id: repository.to_string() }),
    }
}

/// Takes back what is offered of a repository and nobody has claimed.
fn withdraw_offers(
    tx: &mut Tx<'_>,
    now: Timestamp,
    dispatcher: &Dispatcher,
    repository: &RepositoryName,
) -> Result<(), AppError> {
    for mut batch in tx.live_batches()? {
        let is_open = matches!(batch.state, BatchState::Unsent | BatchState::Offered { .. });
        if is_open && batch.repository == *repository {
            withdraw_offer(tx, now, dispatcher, &mut batch)?;
        }
    }
    Ok(())
}

fn shorten(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(REASON).collect()
}
