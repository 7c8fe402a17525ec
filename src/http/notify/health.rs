//! How the service of notifications stands, on a listener of its own: the same three routes as a server has.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Json, Router};

use super::super::health::{self, Readiness};
use super::{Notify, Refused};
use crate::app::Engine;
use crate::app::notifications::{Dialect, Fate, Figures};
use crate::domain::access::Role;

pub(super) fn routes() -> Router<Arc<Notify>> {
    Router::new().route("/healthz", get(health::healthz)).route("/readyz", get(readyz)).route("/metrics", get(metrics))
}

/// Tells whether messages are accepted: the database's writer answers in time.
async fn readyz(State(notify): State<Arc<Notify>>) -> (axum::http::StatusCode, Json<Readiness>) {
    health::readiness(&notify.engine, notify.shutdown.is_cancelled()).await
}

/// Tells figures about notifications, to whom may read.
async fn metrics(State(notify): State<Arc<Notify>>, headers: HeaderMap) -> Result<impl IntoResponse, Refused> {
    let is_open = *notify.anonymous_read.borrow();
    notify.authorize(&headers, is_open, Role::Read)?;
    let text = figures(notify.notifications.figures(), &notify.engine);
    Ok(([(header::CONTENT_TYPE, health::PROMETHEUS)], text))
}

/// The figures about notifications, in the text form of Prometheus.
pub(in crate::http) fn figures(figures: &Figures, engine: &Engine) -> String {
    let mut text = String::new();
    let mut family = |name: &str, kind: &str, help: &str, values: &[(String, u64)]| {
        text.push_str(&format!("# HELP conveyor_notify_{name} {help}\n# TYPE conveyor_notify_{name} {kind}\n"));
        for (labels, value) in values {
            text.push_str(&format!("conveyor_notify_{name}{labels} {value}\n"));
        }
    };
    let by_dialect = |of: &dyn Fn(Dialect) -> u64| {
        Dialect::ALL.map(|dialect| (format!("{{dialect=\"{}\"}}", dialect.as_str()), of(dialect)))
    };
    let one = |value: u64| [(String::new(), value)];
    family("subscribers", "gauge", "Subscribers now.", &by_dialect(&|dialect| figures.subscribers(dialect)));
    let fates = Fate::ALL.map(|fate| (format!("{{outcome=\"{}\"}}", fate.as_str()), figures.messages(fate)));
    family("messages_total", "counter", "Messages that came, whichever way, by what became of them.", &fates);
    family("sent_total", "counter", "Messages given to subscribers.", &by_dialect(&|dialect| figures.sent(dialect)));
    family(
        "dropped_total",
        "counter",
        "Subscribers that were dropped since they took nothing.",
        &one(figures.dropped()),
    );
    let turned_away = one(figures.all_turned_away());
    family("turned_away_total", "counter", "Subscribers for whom there was no place.", &turned_away);
    let unannounced = one(engine.unannounced().len() as u64);
    family("unannounced", "gauge", "Repositories of which a publish could not be announced.", &unannounced);
    if let Some(is_up) = engine.exchanges() {
        let help = "1 where notifications are exchanged with other servers.";
        family("exchange_up", "gauge", help, &one(is_up.into()));
    }
    text
}
