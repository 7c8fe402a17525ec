//! The lease of a transaction through a gateway.

use jiff::{SignedDuration, Timestamp};

use super::journal::Lease;
use super::settings::Settings;
use super::site::Site;
use crate::cvmfs::settings::Upstream;
use crate::publisher::PublisherError;
use crate::publisher::gateway::{Fence, Gateway, GatewayError, GatewayKey, Refreshed, SessionToken, Timeouts};

/// A lease is refreshed, where the gateway offers that, when less than this part of it is left.
const REFRESH_AT: i32 = 2;

impl Site {
    fn gateway(&self, settings: &Settings) -> Result<Option<Gateway>, PublisherError> {
        let Upstream::Gateway { url } = &self.node.upstream else { return Ok(None) };
        let path = self.keys.join(format!("{}.gw", self.name));
        let key = GatewayKey::read(&path).map_err(|error| self.gateway_failed("read the gateway's key", error))?;
        let timeouts = Timeouts { commit: settings.fence_limit, ..Timeouts::default() };
        Gateway::new(url, Some(key), timeouts).map(Some).map_err(|error| self.gateway_failed("ask the gateway", error))
    }

    fn gateway_failed(&self, what: &str, error: GatewayError) -> PublisherError {
        // Whatever it is, asking again later is right: nothing is known of an outcome.
        PublisherError::Io { what: format!("{what} ({})", self.name), source: std::io::Error::other(error) }
    }

    /// Whether it is published through a gateway, which answers and has a key for us.
    pub(super) fn gateway_answers(&self, settings: &Settings) -> Result<bool, PublisherError> {
        let Some(gateway) = self.gateway(settings)? else { return Ok(false) };
        gateway.leases().map(|_| true).map_err(|error| self.gateway_failed("ask the gateway", error))
    }

    /// The lease of the transaction that is open: `cvmfs_server` keeps its token as long.
    pub(super) fn lease(&self, settings: &Settings) -> Result<Option<Lease>, PublisherError> {
        let Some(gateway) = self.gateway(settings)? else { return Ok(None) };
        let token = SessionToken::read(&self.node.spool.join("session_token"))
            .map_err(|error| self.gateway_failed("read the token of the lease", error))?;
        let Some(token) = token else { return Ok(None) };
        // A gateway that does not say tells it by refusing a publish that comes too late.
        let expires = gateway.lease(&token).ok().flatten().map(|lease| lease.expires);
        Ok(Some(Lease { token, expires }))
    }

    /// Asks for more time, where the gateway offers that and half of the lease is over. Gives the end, where that is new.
    pub(super) fn refresh(&self, settings: &Settings, lease: &Lease, began: Timestamp) -> Option<Timestamp> {
        let expires = lease.expires?;
        let (left, whole) = (expires.duration_since(Timestamp::now()), expires.duration_since(began));
        if left > whole / REFRESH_AT {
            return None;
        }
        match self.gateway(settings).ok()??.refresh(&lease.token) {
            Ok(Refreshed::Until(expires)) => Some(expires),
            Ok(Refreshed::NotOffered | Refreshed::Gone) | Err(_) => None,
        }
    }

    /// Drops a lease, and comes back when nothing can be committed with it any more. An error leaves that open.
    pub(super) fn drop_lease(&self, settings: &Settings, lease: &Lease) -> Result<(), PublisherError> {
        let Some(gateway) = self.gateway(settings)? else { return Ok(()) };
        let fence = gateway.fence(&lease.token, lease.expires);
        let open = |until: String| {
            let why = format!("a commit with its lease may still run{until}");
            let source = std::io::Error::other(why);
            Err(PublisherError::Io { what: format!("fence the lease ({})", self.name), source })
        };
        match fence.map_err(|error| self.gateway_failed("drop the lease", error))? {
            Fence::Closed => Ok(()),
            Fence::Open { until } => open(format!(" until {until:.0}")),
            Fence::Unknown => open(String::new()),
        }
    }
}

/// How long is left of a lease, less what the publish needs.
pub(super) fn time_left(expires: Timestamp, reserve: std::time::Duration) -> std::time::Duration {
    let reserve = SignedDuration::try_from(reserve).unwrap_or(SignedDuration::ZERO);
    let left = expires.duration_since(Timestamp::now()).saturating_sub(reserve);
    left.try_into().unwrap_or(std::time::Duration::ZERO)
}
