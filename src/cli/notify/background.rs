//! What the service of notifications does beside answering requests: it announces what jobs published, watches what others
//! publish, and exchanges messages with other servers.

use std::sync::Arc;

use tokio::task::JoinSet;

use crate::app::Engine;
use crate::app::notifications::Notifications;
use crate::config::{BrokerConfig, NotifyConfig, Watched};
use crate::notify::watch::{Place, Watcher};

/// Begins all of it; it ends when the set is dropped.
pub(super) fn drive(
    notifications: &Arc<Notifications>,
    config: &NotifyConfig,
    broker: Option<&BrokerConfig>,
    engine: &Arc<Engine>,
) -> anyhow::Result<JoinSet<()>> {
    let mut tasks = JoinSet::new();
    for (repository, Watched { place, every }) in config.watched.clone() {
        let place = if place.contains("://") { Place::Url(place) } else { Place::Directory(place.into()) };
        tracing::info!(%repository, %place, "watched for new revisions");
        let (watcher, notifications) = (Watcher::new(place, every)?, Arc::clone(notifications));
        tasks.spawn(async move { match notifications.watch(&repository, watcher).await {} });
    }
    let (announcing, of) = (Arc::clone(engine), Arc::clone(notifications));
    tasks.spawn(async move { match announcing.drive_announcements(&of).await {} });
    if let (Some(broker), Some(exchange)) = (broker, config.exchange.clone()) {
        let settings = crate::cli::broker::settings(broker);
        let (engine, notifications, watched) = (Arc::clone(engine), Arc::clone(notifications), config.watched.clone());
        tasks.spawn(async move {
            let wanted = || watched.keys().chain(engine.rules().repositories.keys()).cloned().collect();
            match notifications.drive_exchange(&settings, &exchange, wanted, engine.exchange()).await {}
        });
    }
    Ok(tasks)
}
