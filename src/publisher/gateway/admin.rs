//! What only a key with `admin: true` in the gateway's `repo.json` may do, and what tells whether it was done.

use std::collections::BTreeMap;

use jiff::Timestamp;
use reqwest::Method;
use serde::{Deserialize, Serialize};

use super::{Gateway, GatewayError, Signed};

/// A repository as the gateway sees it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct RepositoryState {
    /// Whether leases are given. A disabled one is enabled again when the gateway restarts.
    #[serde(default)]
    pub enabled: bool,
    /// The keys that may have leases, each with the path at or below which.
    #[serde(default)]
    pub keys: Option<BTreeMap<String, String>>,
}

/// What a garbage collection keeps.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Collection {
    /// This many revisions before the newest; 0: what the gateway's host has set.
    #[serde(rename = "num_revisions")]
    pub revisions: u32,
    /// Everything that is newer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timestamp: Option<Timestamp>,
    /// Only tell what would go.
    pub dry_run: bool,
    /// Name each object.
    pub verbose: bool,
}

#[derive(Serialize)]
struct CollectionBody<'a> {
    repo: &'a str,
    #[serde(flatten)]
    keep: &'a Collection,
}

impl Gateway {
    /// The repositories that the gateway has, by name.
    pub fn repositories(&self) -> Result<BTreeMap<String, RepositoryState>, GatewayError> {
        let what = "list the repositories";
        let answer = self.call(what, Method::GET, &["repos"], None, Signed::No, self.timeouts.answer)?;
        self.data(what, answer)
    }

    /// Enables or disables a repository: a disabled one gets no new leases, and what has one goes on.
    ///
    /// The gateway says `ok` even where it did nothing, so that it is asked afterwards.
    pub fn set_enabled(&self, repository: &str, enabled: bool) -> Result<(), GatewayError> {
        let what = format!("{} {repository}", if enabled { "enable" } else { "disable" });
        // Asked for one that it does not have, the gateway cuts the connection.
        if !self.repositories()?.contains_key(repository) {
            return Err(self.refused(&what, "invalid_repo".into()));
        }
        let body = format!("{{\"enable\":{enabled}}}");
        let signed = Signed::By(body.as_bytes());
        let path = ["repos", repository];
        self.call(&what, Method::POST, &path, Some(body.clone()), signed, self.timeouts.answer)?;
        match self.repositories()?.get(repository) {
            Some(state) if state.enabled == enabled => Ok(()),
            _ => Err(self.refused(&what, "ok, and did not do it".into())),
        }
    }

    /// Drops all leases of a repository whose path *begins with* `path` as text, as the gateway compares them: `/rel-1` drops
    /// that of `/rel-10` too ([`Gateway::leases_that_begin`]). Their tokens are not needed.
    pub fn drop_by_path(&self, repository: &str, path: &str) -> Result<(), GatewayError> {
        let path = path.trim_start_matches('/');
        let what = format!("drop the leases of {repository}/{path}");
        // Signed is the path before it is escaped.
        let signed = format!("{}/leases-by-path/{repository}/{path}", self.base.path());
        let mut segments = vec!["leases-by-path", repository];
        segments.extend(path.split('/'));
        let signed = Signed::By(signed.as_bytes());
        self.call(&what, Method::DELETE, &segments, None, signed, self.timeouts.commit)?;
        Ok(())
    }

    /// The leases that [`Gateway::drop_by_path`] would drop, by repository and path in one.
    pub fn leases_that_begin(&self, repository: &str, path: &str) -> Result<Vec<super::Lease>, GatewayError> {
        let path = format!("/{}", path.trim_start_matches('/'));
        let begins = |lease: &super::Lease| {
            lease.repository() == repository && starts_as_gateway_compares(lease.path_in_repository(), &path)
        };
        Ok(self.leases()?.into_values().filter(begins).collect())
    }

    /// Runs a garbage collection on the gateway's host and waits for its end; its output.
    pub fn collect(&self, repository: &str, keep: &Collection) -> Result<String, GatewayError> {
        let what = format!("collect the garbage of {repository}");
        let body = serde_json::to_string(&CollectionBody { repo: repository, keep })
            .map_err(|error| self.refused(&what, error.to_string()))?;
        let signed = Signed::By(body.as_bytes());
        let answer = self.call(&what, Method::POST, &["gc"], Some(body.clone()), signed, self.timeouts.commit)?;
        Ok(answer.output.unwrap_or_default())
    }
}

/// SQL's `path LIKE prefix || '%'`: `_` is any character, `%` any text, and the case of ASCII letters does not count.
fn starts_as_gateway_compares(path: &str, prefix: &str) -> bool {
    fn matches(path: &[char], prefix: &[char]) -> bool {
        match (prefix.first(), path.first()) {
            (None, _) => true,
            (Some('%'), _) => (0..=path.len()).any(|skip| matches(&path[skip..], &prefix[1..])),
            (Some('_'), Some(_)) => matches(&path[1..], &prefix[1..]),
            (Some(p), Some(c)) => p.eq_ignore_ascii_case(c) && matches(&path[1..], &prefix[1..]),
            (Some(_), None) => false,
        }
    }
    matches(&path.chars().collect::<Vec<_>>(), &prefix.chars().collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_are_compared_as_the_gateways_database_does() {
        for (path, prefix) in [("/rel-10", "/rel-1"), ("/A/b", "/a"), ("/axb", "/a_b"), ("/a/b/c", "/a%c"), ("/a", "/")]
        {
            assert!(starts_as_gateway_compares(path, prefix), "{path} {prefix}");
        }
        for (path, prefix) in [("/rel-1", "/rel-10"), ("/ab", "/a_b"), ("/b", "/a")] {
            assert!(!starts_as_gateway_compares(path, prefix), "{path} {prefix}");
        }
    }
}
