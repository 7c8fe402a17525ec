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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use axum::body::{Body, to_bytes};
    use axum::http::{Request, StatusCode};
    use tokio_util::sync::CancellationToken;
    use tower::ServiceExt;

    use super::super::{NotifySettings, Peer, Stalled, notify_router, tests};
    use super::*;
    use crate::app::Settings;
    use crate::app::clock::{SystemClock, SystemEntropy};
    use crate::app::notifications::unverified_message;
    use crate::domain::notification::{Message, Origin};
    use crate::domain::token::Token;
    use crate::store::Store;
    use crate::store::logs::LogStore;

    const TOKEN: &str = "a-secret-of-the-test";

    async fn service(shutdown: &CancellationToken) -> Arc<Notify> {
        let (clock, entropy) = (Arc::new(SystemClock::default()), Arc::new(SystemEntropy));
        let (store, logs) = (Store::in_memory().unwrap(), LogStore::in_memory().unwrap());
        let engine = Engine::start(store, logs, None, Default::default(), clock, entropy, Settings::default());
        let engine = Arc::new(engine.await.unwrap());
        engine.set_bootstrap_token(&Token::new(TOKEN).unwrap());
        let one = NotifySettings { subscribers: 1, ..NotifySettings::default() };
        tests::notify(&engine, shutdown, one).await
    }

    async fn get(notify: &Arc<Notify>, path: &str, token: &str) -> (StatusCode, String) {
        let request = Request::get(path).header("authorization", format!("Bearer {token}")).body(Body::empty());
        let response = notify_router(Arc::clone(notify)).oneshot(request.unwrap()).await.unwrap();
        let (parts, body) = response.into_parts();
        (parts.status, String::from_utf8(to_bytes(body, usize::MAX).await.unwrap().to_vec()).unwrap())
    }

    #[tokio::test]
    async fn figures_follow_what_happens_and_are_for_those_who_may_read() {
        let shutdown = CancellationToken::new();
        let notify = service(&shutdown).await;
        let publish = |message: Message| notify.notifications.publish(message, None, Origin::Posted);
        for revision in [2, 1, 3] {
            publish(unverified_message("a.example.org", revision)).await.unwrap();
        }
        publish(Message::about("a.example.org".parse().unwrap(), b"no manifest", "now")).await.unwrap_err();
        let headers = HeaderMap::new();
        let admit = |stalled: Stalled| notify.admit(&headers, (Peer(None), stalled), Dialect::WebSocket);
        let slow = Stalled::default();
        let (_, seat) = admit(slow.clone()).ok().unwrap();
        seat.counted.sent();
        assert!(admit(Stalled::default()).is_err());
        let figures = || async { get(&notify, "/metrics", TOKEN).await.1 };
        let text = figures().await;
        for line in [
            "subscribers{dialect=\"events\"} 0",
            "subscribers{dialect=\"websocket\"} 1",
            "messages_total{outcome=\"told\"} 2",
            "messages_total{outcome=\"not_newer\"} 1",
            "messages_total{outcome=\"refused\"} 1",
            "messages_total{outcome=\"not_stored\"} 0",
            "sent_total{dialect=\"websocket\"} 1",
            "dropped_total 0",
            "turned_away_total 1",
            "unannounced 0",
        ] {
            assert!(text.contains(&format!("\nconveyor_notify_{line}\n")), "{line}: {text}");
        }
        // Each family is described once, before its first value.
        assert_eq!(text.matches("# TYPE").count(), text.matches("# HELP").count());
        slow.set();
        drop(seat);
        let text = figures().await;
        assert!(text.contains("dropped_total 1\n") && text.contains("dialect=\"websocket\"} 0\n"), "{text}");
        assert_eq!(get(&notify, "/metrics", "another").await.0, StatusCode::UNAUTHORIZED);
    }

    #[tokio::test]
    async fn a_service_is_ready_until_it_stops() {
        let shutdown = CancellationToken::new();
        let notify = service(&shutdown).await;
        assert_eq!(get(&notify, "/healthz", "").await, (StatusCode::OK, "ok\n".to_owned()));
        assert_eq!(get(&notify, "/readyz", "").await, (StatusCode::OK, "{\"ready\":true}".to_owned()));
        shutdown.cancel();
        let (status, said) = get(&notify, "/readyz", "").await;
        assert!(status == StatusCode::SERVICE_UNAVAILABLE && said.contains("stopping"), "{said}");
    }
}
