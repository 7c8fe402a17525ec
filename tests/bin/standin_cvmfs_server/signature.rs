//! How requests to a gateway are signed.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;

/// The header `Authorization` for what a request has to have signed.
pub(crate) fn authorization(key: &str, secret: &str, message: &[u8]) -> String {
    let mut mac = Hmac::<Sha1>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(message);
    format!("{key} {}", STANDARD.encode(hex::encode(mac.finalize().into_bytes())))
}
