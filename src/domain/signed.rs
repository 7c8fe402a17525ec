//! A signed manifest with what proves it, as it goes from who published to who announces.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Bytes that each part may have. Manifests and whitelists have some hundreds, certificates one or two thousand.
pub const MAX_PART: usize = 64 << 10;

/// `.cvmfspublished` with the certificate it is signed with and the whitelist that names this: whoever has the repository's public
/// key can verify it without asking the repository.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SignedManifest {
    /// The file `.cvmfspublished`, base64.
    pub manifest: String,
    /// The certificate, PEM, base64.
    pub certificate: String,
    /// The file `.cvmfswhitelist`, base64.
    pub whitelist: String,
}

/// The parts of a [`SignedManifest`] as they are in the repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedParts {
    /// The file `.cvmfspublished`.
    pub manifest: Vec<u8>,
    /// The certificate, PEM.
    pub certificate: Vec<u8>,
    /// The file `.cvmfswhitelist`.
    pub whitelist: Vec<u8>,
}

impl std::fmt::Debug for SignedManifest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let revision = self.decode().as_ref().and_then(SignedParts::revision);
        f.debug_struct("SignedManifest").field("revision", &revision).finish_non_exhaustive()
    }
}

impl SignedManifest {
    /// Takes the parts as they are in the repository; nothing where one is larger than any can be.
    pub fn new(manifest: &[u8], certificate: &[u8], whitelist: &[u8]) -> Option<Self> {
        let parts = [manifest, certificate, whitelist];
        parts.iter().all(|part| part.len() <= MAX_PART).then(|| Self {
            manifest: STANDARD.encode(manifest),
            certificate: STANDARD.encode(certificate),
            whitelist: STANDARD.encode(whitelist),
        })
    }

    /// The parts; nothing where one is no base64 or larger than any can be.
    pub fn decode(&self) -> Option<SignedParts> {
        let part = |text: &str| {
            let fits = text.len() <= MAX_PART.div_ceil(3) * 4;
            fits.then(|| STANDARD.decode(text).ok()).flatten().filter(|bytes| bytes.len() <= MAX_PART)
        };
        Some(SignedParts {
            manifest: part(&self.manifest)?,
            certificate: part(&self.certificate)?,
            whitelist: part(&self.whitelist)?,
        })
    }
}

impl SignedParts {
    /// The revision that the manifest claims; it is proven by verifying only.
    pub fn revision(&self) -> Option<u64> {
        Some(claims(&self.manifest)?.revision)
    }
}

/// What a manifest says of itself; it is proven by verifying only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claims {
    /// The repository's fully qualified name; empty where the manifest has none.
    pub repository: String,
    /// The revision.
    pub revision: u64,
    /// The root catalog's hash, hexadecimal.
    pub root_hash: String,
    /// When it was published, seconds since 1970.
    pub published_at: Option<i64>,
}

/// Reads what stands above a manifest's signature; nothing where there is no revision.
pub fn claims(manifest: &[u8]) -> Option<Claims> {
    let field = |key| {
        let mut lines = manifest.split(|byte| *byte == b'\n').take_while(|line| *line != b"--");
        std::str::from_utf8(lines.find_map(|line| line.strip_prefix(&[key]))?).ok()
    };
    Some(Claims {
        repository: field(b'N').unwrap_or_default().to_owned(),
        revision: field(b'S')?.parse().ok()?,
        root_hash: field(b'C').unwrap_or_default().to_owned(),
        published_at: field(b'T').and_then(|seconds| seconds.parse().ok()),
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn parts_come_back_as_they_were_and_none_is_larger_than_any_can_be() {
        let signed = SignedManifest::new(b"Cab\nS7\n--\nhash\n\xff", b"PEM", b"list").unwrap();
        let parts = signed.decode().unwrap();
        assert_eq!((parts.revision(), &*parts.certificate, &*parts.whitelist), (Some(7), &b"PEM"[..], &b"list"[..]));
        assert_eq!(format!("{signed:?}"), "SignedManifest { revision: Some(7), .. }");
        let full = vec![0; MAX_PART];
        assert!(SignedManifest::new(&full, &full, &full).unwrap().decode().is_some());
        let over = vec![0; MAX_PART + 1];
        assert!(SignedManifest::new(&over, b"", b"").is_none());
        let large = STANDARD.encode(over);
        assert!(SignedManifest { whitelist: large, ..signed.clone() }.decode().is_none());
        assert!(SignedManifest { manifest: "no base64".into(), ..signed }.decode().is_none());
    }

    #[test]
    fn what_stands_below_the_line_of_a_manifest_is_no_revision() {
        for (manifest, revision) in [
            (&b"Cab\nS12\nNa.b\n--\n"[..], Some(12)),
            (b"Cab\n--\nS12\n", None),
            (b"S-1\n--\n", None),
            (b"S99999999999999999999\n--\n", None),
            (b"", None),
        ] {
            assert_eq!(claims(manifest).map(|claims| claims.revision), revision, "{}", manifest.escape_ascii());
        }
    }
}
