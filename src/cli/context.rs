//! What every command works with.

use std::time::Duration;

use super::output::Output;
use crate::client::{Client, ClientError};
use crate::config::{ClientConfig, ClientFlags, Config};

/// The configuration, the flags that all commands share, and the way out.
#[derive(Debug)]
pub struct Context {
    /// What was read.
    pub config: Config,
    /// `--url` and `--token-file`.
    pub flags: ClientFlags,
    /// Standard output.
    pub output: Output,
    retry_for: Duration,
}

impl Context {
    pub(super) fn new(config: Config, flags: ClientFlags, retry_for: Duration, output: Output) -> Self {
        Self { config, flags, output, retry_for }
    }

    /// A client of the server that flags, environment and file lead to.
    pub fn client(&self) -> anyhow::Result<Client> {
        let ClientConfig { url, token } = self.config.client(&self.flags)?;
        let client: Result<Client, ClientError> = Client::new(&url, token);
        Ok(client?.with_retry_for(self.retry_for))
    }
}
