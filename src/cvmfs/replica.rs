//! What a replica (stratum 1) says of its own state (`cvmfs/server/cvmfs_server_snapshot.sh`).

use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use super::Error;
use super::certificate::SigningCertificate;
use super::fetch::{Fetch, fetch_small};
use super::hash::ContentHash;
use super::manifest::{self, Manifest};
use super::signature::{Letter, Scheme};

/// When the last snapshot ended, as `date --utc` tells it.
const LAST_SNAPSHOT: &str = ".cvmfs_last_snapshot";

/// When the snapshot that is being taken began; there is no such file otherwise.
const IS_SNAPSHOTTING: &str = ".cvmfs_is_snapshotting";

/// A JSON object with `last_snapshot`, `last_gc` and others, the first the same time as above.
const STATUS: &str = ".cvmfs_status.json";

/// The files below a replica's base that are looked at.
pub const FILES: [&str; 4] = [manifest::FILE, LAST_SNAPSHOT, IS_SNAPSHOTTING, STATUS];

/// Bytes that any of them may have.
pub const MAX_FILE: u64 = 1 << 20;

/// The state of a replica.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replica {
    /// The revision that its clients get.
    pub revision: u64,
    /// That one's root catalog.
    pub root_hash: ContentHash,
    /// When that was published, seconds since 1970.
    pub published_at: i64,
    /// When the last snapshot ended; `None` if none ever did, or on a stratum 0.
    pub last_snapshot: Option<Moment>,
    /// When the snapshot began that is being taken.
    pub snapshotting_since: Option<Moment>,
}

/// A time in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moment {
    /// As it stands there.
    pub text: String,
    /// Seconds since 1970, where the text makes sense.
    pub seconds: Option<i64>,
}

impl Replica {
    /// Reads the files. The manifest must be the repository's, signed with the certificate that the stratum 0 has.
    pub fn read(fetch: &dyn Fetch, repository: &str, certificate: &SigningCertificate) -> Result<Self, Error> {
        let letter = Letter::parse(&fetch_small(fetch, manifest::FILE, MAX_FILE)?, "manifest")?;
        letter.verify(Scheme::Digest, std::slice::from_ref(certificate.public_key()))?;
        let manifest = Manifest::parse(&letter)?;
        if manifest.repository != repository {
            let why = format!("it is for the repository {:?}, not for {repository:?}", manifest.repository);
            return Err(Error::Untrusted { what: "manifest", why });
        }
        let from_status = || -> Result<Option<Moment>, Error> {
            let Some(text) = optional(fetch, STATUS)? else { return Ok(None) };
            let status: serde_json::Value =
                serde_json::from_str(&text).map_err(|error| Error::malformed(STATUS, error.to_string()))?;
            Ok(status.get("last_snapshot").and_then(|value| value.as_str()).map(Moment::new))
        };
        let last_snapshot = match optional(fetch, LAST_SNAPSHOT)? {
            Some(text) => Some(Moment::new(&text)),
            None => from_status()?,
        };
        Ok(Self {
            revision: manifest.revision,
            root_hash: manifest.root_hash,
            published_at: manifest.published_at,
            last_snapshot,
            snapshotting_since: optional(fetch, IS_SNAPSHOTTING)?.map(|text| Moment::new(&text)),
        })
    }
}

/// A file's text; `None` where there is none, or an empty one.
fn optional(fetch: &dyn Fetch, path: &str) -> Result<Option<String>, Error> {
    match fetch_small(fetch, path, MAX_FILE) {
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).trim().to_owned()).filter(|text| !text.is_empty())),
        Err(Error::Missing(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

impl Moment {
    fn new(text: &str) -> Self {
        // `date --utc` in the locales C, en_US and with a 12-hour clock.
        let formats = ["%a %b %e %H:%M:%S UTC %Y", "%a %d %b %Y %I:%M:%S %p UTC", "%a %b %e %I:%M:%S %p UTC %Y"];
        let time = formats.iter().find_map(|format| DateTime::strptime(format, text).ok());
        let seconds = time.and_then(|time| time.to_zoned(TimeZone::UTC).ok()).map(|at| at.timestamp().as_second());
        Self { text: text.to_owned(), seconds }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_date_prints_them() {
        for text in
            ["Sat Nov 21 05:46:40 UTC 2026", "Sat 21 Nov 2026 05:46:40 AM UTC", "Sat Nov 21 05:46:40 AM UTC 2026"]
        {
            assert_eq!(Moment::new(text).seconds, Some(1_795_240_000), "{text}");
        }
        assert_eq!(Moment::new("Sun Nov  1 00:00:00 UTC 2026").seconds, Some(1_793_491_200));
        assert_eq!(Moment::new("yesterday"), Moment { text: "yesterday".into(), seconds: None });
    }
}
