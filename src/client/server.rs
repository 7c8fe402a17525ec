//! The server itself: is it there, is it ready, what does it speak.

use std::time::Duration;

use reqwest::Method;

use super::{Client, ClientError, Repeat};

impl Client {
    /// Asks once, without a retry, whether the server is alive.
    pub async fn healthy(&self) -> Result<(), ClientError> {
        self.probe("see whether the server is alive", "healthz").await.map(drop)
    }

    /// Asks once, without a retry, whether the server is ready; the text says what is wrong where it is not.
    pub async fn ready(&self) -> Result<String, ClientError> {
        self.probe("see whether the server is ready", "readyz").await
    }

    async fn probe(&self, action: &'static str, route: &str) -> Result<String, ClientError> {
        let url = self.raw_route(&[route]);
        let once = self.with_retry_for(Duration::ZERO);
        let response = once
            .send(action, Repeat::Always, || {
                Ok(self.request(Method::GET, url.clone()).timeout(Duration::from_secs(10)))
            })
            .await?;
        response.text().await.map_err(|error| self.unreachable(action, error))
    }

    /// The API's own description.
    pub async fn openapi(&self) -> Result<serde_json::Value, ClientError> {
        let url = self.route(&["openapi.json"]);
        self.call("read the API's description", Repeat::Always, || self.request(Method::GET, url.clone())).await
    }
}
