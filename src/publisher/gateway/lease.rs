//! Leases, as a gateway tells of them.

use jiff::Timestamp;
use serde::Deserialize;

/// A lease: somebody's right to publish below a path of a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// Repository and path in one, as the gateway writes it: `software.example.org/a/b`; `software.example.org/` is the whole.
    pub path: String,
    /// The key that it was taken with.
    pub key_id: String,
    /// Its end, unless it is refreshed.
    pub expires: Timestamp,
    /// The machine that took it, as that calls itself; older gateways do not tell.
    pub hostname: Option<String>,
}

impl Lease {
    /// The repository.
    pub fn repository(&self) -> &str {
        self.path.split('/').next().unwrap_or_default()
    }

    /// The path in the repository, with its leading slash.
    pub fn path_in_repository(&self) -> &str {
        match self.path.find('/') {
            Some(at) => &self.path[at..],
            None => "/",
        }
    }
}

/// A lease in the gateway's JSON.
#[derive(Debug, Deserialize)]
pub(super) struct LeaseBody {
    #[serde(default)]
    key_id: String,
    #[serde(default)]
    path: String,
    #[serde(default)]
    pub(super) expires: String,
    #[serde(default)]
    hostname: String,
}

impl LeaseBody {
    /// The lease; `path` is taken where the body has none. `None` if its time makes no sense.
    pub(super) fn lease(self, path: &str) -> Option<Lease> {
        Some(Lease {
            expires: go_time(&self.expires)?,
            path: if self.path.is_empty() { path.to_owned() } else { self.path },
            key_id: self.key_id,
            hostname: Some(self.hostname).filter(|name| !name.is_empty()),
        })
    }
}

/// Reads a time as Go prints it, in whatever zone the gateway's machine has: `2026-11-21 04:52:37.871 +0000 UTC`, perhaps
/// with a reading of the monotonic clock behind it.
pub(super) fn go_time(text: &str) -> Option<Timestamp> {
    let mut parts = text.split(' ');
    let text = [parts.next()?, parts.next()?, parts.next()?].join(" ");
    Timestamp::strptime("%Y-%m-%d %H:%M:%S%.f %z", text).ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_go_prints_them() {
        let expected: Timestamp = "2026-11-21T04:52:37.871Z".parse().unwrap();
        assert_eq!(go_time("2026-11-21 04:52:37.871 +0000 UTC"), Some(expected));
        assert_eq!(go_time("2026-11-21 05:52:37.871 +0100 CET"), Some(expected));
        assert_eq!(go_time("2026-11-21 05:52:37.871 +0100 CET m=+3.21"), Some(expected));
        assert_eq!(go_time("2026-11-21 04:52:37 +0000 UTC"), Some("2026-11-21T04:52:37Z".parse().unwrap()));
        for bad in ["", "2026-11-21", "2026-11-21 04:52:37.871", "tomorrow at ten"] {
            assert_eq!(go_time(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn a_lease_is_of_a_repository_and_a_path_in_it() {
        let lease = |path: &str| Lease {
            path: path.into(),
            key_id: "k".into(),
            expires: Timestamp::UNIX_EPOCH,
            hostname: None,
        };
        assert_eq!(lease("r.org/a/b").repository(), "r.org");
        assert_eq!(lease("r.org/a/b").path_in_repository(), "/a/b");
        assert_eq!(lease("r.org/").path_in_repository(), "/");
        assert_eq!(lease("r.org").path_in_repository(), "/");
    }
}
