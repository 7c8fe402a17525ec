//! Offers and events by a real RabbitMQ.

mod activity;
mod amqp;
mod command;
mod contract;
mod events;
mod leaderless;
mod outages;
mod tls;

use std::path::Path;

use serde_json::Value;

use crate::harness::{Http, PASSWORD, Server, USER, private, until};

/// The table `[broker]` for a test's virtual host.
pub(crate) fn table(base: &Path, port: u16, vhost: &str) -> String {
    private(&base.join("broker-password"), PASSWORD);
    let password = base.join("broker-password");
    format!(
        "\n[broker]\nurl = \"amqp://127.0.0.1:{port}/{vhost}\"\nuser = \"{USER}\"\npassword_file = {password:?}\nheartbeat_s = 5\n"
    )
}

/// A server whose workers get their offers by this broker, which is one node, as it is told.
pub(crate) fn server(port: u16, vhost: &str) -> Server {
    Server::start_with("", |base| format!("{}single_node = true\n", table(base, port, vhost)))
}

/// What the server says about its broker.
pub(crate) fn broker_of(server: &Server) -> Value {
    let body = Http::new(server.url(), server.token()).get("/readyz").body;
    let answer: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(answer["ready"], true, "without a broker jobs are accepted all the same: {answer}");
    answer["broker"].clone()
}

/// Waits until the broker is in this state; gives what is said about it.
pub(crate) fn until_broker(server: &Server, state: &str) -> Value {
    until(&format!("the broker is {state}"), || Some(broker_of(server)).filter(|broker| broker["state"] == state))
}
