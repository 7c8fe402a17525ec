//! Keys and tokens of a gateway, and what they sign.

use std::fmt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;

use super::GatewayError;

/// Largest key file that is read, in bytes: what is larger is something else.
const MAX_KEY_FILE: u64 = 4096;

/// A gateway key: who asks, and the secret that proves it. `Debug` hides the secret.
#[derive(Clone, PartialEq, Eq)]
pub struct GatewayKey {
    id: String,
    secret: String,
}

impl GatewayKey {
    /// Takes a key apart from its id and secret: one visible word each.
    pub fn new(id: &str, secret: &str) -> Option<Self> {
        let word = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic());
        (word(id) && word(secret)).then(|| Self { id: id.to_owned(), secret: secret.to_owned() })
    }

    /// Reads a key file, such as `/etc/cvmfs/keys/REPO.gw`: `plain_text ID SECRET`.
    ///
    /// A file that everybody on the machine can read is used, since `cvmfs_server` uses it too, and warned of.
    pub fn read(path: &Path) -> Result<Self, GatewayError> {
        use std::io::Read;

        let failed = |source| GatewayError::KeyFile { path: path.to_owned(), source };
        let file = std::fs::File::open(path).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        if metadata.is_file() && metadata.permissions().mode() & 0o004 != 0 {
            tracing::warn!(path = %path.display(), "everybody on this machine can read this gateway key: chmod o-r it");
        }
        let mut text = String::new();
        file.take(MAX_KEY_FILE).read_to_string(&mut text).map_err(failed)?;
        Self::parse(&text).ok_or_else(|| GatewayError::Key { path: path.to_owned() })
    }

    /// The key in a key file's text.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let words: Vec<&str> = text.split_whitespace().collect();
        match words[..] {
            ["plain_text", id, secret] => Self::new(id, secret),
            _ => None,
        }
    }

    /// Its id, which leases carry.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The value of the `Authorization` header for a request that signs `message`.
    pub(super) fn authorization(&self, message: &[u8]) -> String {
        // A key of any length is fine for HMAC, so that this cannot fail.
        let Ok(mut mac) = Hmac::<Sha1>::new_from_slice(self.secret.as_bytes()) else { return self.id.clone() };
        mac.update(message);
        format!("{} {}", self.id, STANDARD.encode(hex::encode(mac.finalize().into_bytes())))
    }
}

impl fmt::Debug for GatewayKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GatewayKey").field("id", &self.id).finish_non_exhaustive()
    }
}

/// The token of a lease, as `cvmfs_server` keeps it in the spool's `session_token`: whoever has it, and a key, commits or drops
/// the lease. Nothing shows it.
#[derive(Clone, PartialEq, Eq)]
pub struct SessionToken(String);

impl SessionToken {
    /// Takes a token as it stands in a file. `None` if that is no token; white space around it does not count.
    pub fn new(text: &str) -> Option<Self> {
        let text = text.trim();
        // Of base32 or base64, as gateways of any version make them: never anything that changes a URL by itself.
        let fits = |b: u8| b.is_ascii_alphanumeric() || b"=+/-_".contains(&b);
        (!text.is_empty() && text.len() <= 512 && text.bytes().all(fits)).then(|| Self(text.to_owned()))
    }

    /// Reads the token of an open transaction, `SPOOL/session_token`; `None` where there is none.
    pub fn read(path: &Path) -> Result<Option<Self>, GatewayError> {
        match std::fs::read_to_string(path) {
            Ok(text) => Ok(Self::new(&text)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(GatewayError::KeyFile { path: path.to_owned(), source }),
        }
    }

    /// The token itself: for the gateway, and for the journal of the node that must find it again.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SessionToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionToken(…)")
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_signed_as_gateways_check_it() {
        let key = GatewayKey::parse("plain_text key1 secret1\n").unwrap();
        let body = br#"{"path" : "test.repo.org/a", "api_version" : "2", "hostname" : "h"}"#;
        let expected = "key1 OTIwZGMwMDFhNGNmZGIwYmE0ZGRiYzJlOTRmNGFlMjhiMjIxMDJhMg==";
        assert_eq!(key.authorization(body), expected);
    }

    #[test]
    fn a_key_file_has_three_words_and_the_first_is_its_kind() {
        assert_eq!(GatewayKey::parse("plain_text k s").unwrap().id(), "k");
        for bad in ["", "plain_text", "plain_text k", "plain_text k s t", "file k s", "plain_text é s"] {
            assert!(GatewayKey::parse(bad).is_none(), "{bad:?}");
        }
    }

    #[test]
    fn a_key_file_is_read_and_a_fault_names_it_without_its_content() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("test.repo.org.gw");
        assert!(GatewayKey::read(&path).unwrap_err().to_string().contains("test.repo.org.gw"));
        std::fs::write(&path, "plain_text only-the-seCret").unwrap();
        let error = GatewayKey::read(&path).unwrap_err();
        assert!(error.to_string().contains("test.repo.org.gw"));
        assert!(!format!("{error} {error:?}").contains("seCret"));
        std::fs::write(&path, "plain_text k s").unwrap();
        assert_eq!(GatewayKey::read(&path).unwrap().id(), "k");
    }

    #[test]
    fn secrets_are_not_shown() {
        let key = GatewayKey::new("key1", "sEcret").unwrap();
        let token = SessionToken::new(" TOkEN= \n").unwrap();
        assert_eq!(token.expose(), "TOkEN=");
        let shown = format!("{key:?} {token:?}");
        assert!(shown.contains("key1") && !shown.contains("sEcret") && !shown.contains("TOkEN"), "{shown}");
        assert_eq!(SessionToken::new("a b"), None);
        assert_eq!(SessionToken::new("a?b"), None);
    }
}
