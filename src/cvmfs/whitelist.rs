//! The whitelist `.cvmfswhitelist`: which certificates may sign manifests, and until when (`cvmfs/whitelist.cc`).

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use rsa::RsaPrivateKey;

use super::Error;
use super::hash::ContentHash;
use super::signature::{Letter, Scheme, seal};

/// Its name below the repository's base.
pub const FILE: &str = ".cvmfswhitelist";

/// Ten years; `cvmfs_server` warns of more than 30 days.
const MAX_DAYS: u32 = 3650;

const TIME: &str = "%Y%m%d%H%M%S";

/// What a whitelist says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Whitelist {
    /// When it was signed, seconds since 1970.
    pub signed_at: i64,
    /// From when on it is void, seconds since 1970: the full hour, since clients ignore minutes and seconds.
    pub expires_at: i64,
    /// The repository that it is for.
    pub repository: String,
    /// Hashes of the certificates (in DER) that may sign.
    pub fingerprints: Vec<ContentHash>,
}

impl Whitelist {
    /// Reads the lines of a letter; verifying it is the caller's. PKCS#7 and CA chains are refused.
    pub fn parse(letter: &Letter) -> Result<Self, Error> {
        let bad = |why: &str| Error::malformed("the whitelist", why);
        let mut lines = letter.lines();
        let signed_at = lines.next().and_then(parse_time).ok_or_else(|| bad("no time in the first line"))?;
        let expiry = lines.next().and_then(|line| line.strip_prefix('E')).and_then(parse_time);
        let expires_at = expiry.ok_or_else(|| bad("no expiry in the second line"))?;
        let repository =
            lines.next().and_then(|line| line.strip_prefix('N')).ok_or_else(|| bad("no repository name"))?;
        let mut fingerprints = Vec::new();
        for line in lines {
            match line {
                "Vpkcs7" => return Err(Error::Unsupported("a whitelist signed with PKCS#7".into())),
                "Wcachain" => return Err(Error::Unsupported("a whitelist that demands a chain of CAs".into())),
                // Lines that are no fingerprint are comments to the clients too.
                _ => fingerprints.extend(ContentHash::parse_fingerprint(line)),
            }
        }
        Ok(Self {
            signed_at,
            expires_at: expires_at - expires_at.rem_euclid(3600),
            repository: repository.into(),
            fingerprints,
        })
    }

    /// Refuses an expired whitelist, by the rule of the clients: it is void from its hour of expiry on.
    pub fn check_time(&self, now: i64) -> Result<(), Error> {
        if now < self.expires_at { Ok(()) } else { Err(Error::Expired { at: rfc3339(self.expires_at) }) }
    }

    /// The whole file for some certificates, signed by the master key. Days that make no sense are refused.
    pub fn seal(
        repository: &str,
        fingerprints: &[ContentHash],
        now: i64,
        valid_days: u32,
        key: &RsaPrivateKey,
    ) -> Result<Vec<u8>, Error> {
        if !(1..=MAX_DAYS).contains(&valid_days) {
            let why = format!("{valid_days} days: it is valid for 1 to {MAX_DAYS} days");
            return Err(Error::malformed("the new whitelist", why));
        }
        let [first, ..] = fingerprints else { return Err(Error::malformed("the new whitelist", "no certificate")) };
        let lines: String = fingerprints.iter().map(|print| print.fingerprint() + "\n").collect();
        let expires_at = now + i64::from(valid_days) * 86_400;
        let body = format!("{}\nE{}\nN{repository}\n{lines}", format_time(now)?, format_time(expires_at)?,);
        seal(&body, first.algorithm(), Scheme::Text, key)
    }
}

fn parse_time(text: &str) -> Option<i64> {
    let time = DateTime::strptime(TIME, text).ok()?;
    Some(time.to_zoned(TimeZone::UTC).ok()?.timestamp().as_second())
}

fn format_time(seconds: i64) -> Result<String, Error> {
    let time = Timestamp::from_second(seconds).map_err(|error| Error::malformed("a time", error.to_string()))?;
    Ok(time.strftime(TIME).to_string())
}

/// A time for people.
pub(crate) fn rfc3339(seconds: i64) -> String {
    Timestamp::from_second(seconds).map_or_else(|_| seconds.to_string(), |time| time.to_string())
}
