//! What `cvmfs_server` says to a gateway.

use std::fs;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use reqwest::blocking::{Client, RequestBuilder};
use serde_json::{Value, json};
use sha1::{Digest, Sha1};

use crate::lab::Repository;
use crate::signature::authorization;

/// A gateway as a repository's `server.conf` names it, and the key for it.
pub(crate) struct Gateway {
    api: String,
    key: String,
    secret: String,
}

/// Why there is no answer.
pub(crate) struct Unreachable;

impl Gateway {
    /// `None` where there is no key.
    pub(crate) fn of(repository: &Repository) -> Option<Self> {
        let text = fs::read_to_string(repository.keys().join(format!("{}.gw", repository.name))).ok()?;
        let mut words = text.split_whitespace().skip(1);
        let (key, secret) = (words.next()?.to_owned(), words.next()?.to_owned());
        Some(Self { api: repository.gateway()?.to_owned(), key, secret })
    }

    fn send(&self, request: RequestBuilder, signed: &[u8]) -> Result<Value, Unreachable> {
        let request = request.header("Authorization", authorization(&self.key, &self.secret, signed));
        request.send().and_then(|response| response.json()).map_err(|_| Unreachable)
    }

    pub(crate) fn acquire(&self, path: &str) -> Result<Value, Unreachable> {
        let body = json!({"path": path, "api_version": "3", "hostname": "stand-in"}).to_string();
        self.send(client().post(format!("{}/leases", self.api)).body(body.clone()), body.as_bytes())
    }

    pub(crate) fn drop_lease(&self, token: &str) -> Result<Value, Unreachable> {
        self.send(client().delete(format!("{}/leases/{token}", self.api)), token.as_bytes())
    }

    /// The format's own frame around one object, which is the archive of changes.
    pub(crate) fn send_payload(&self, token: &str, archive: &[u8]) -> Result<Value, Unreachable> {
        let digest = hex::encode(Sha1::digest(archive));
        let name = STANDARD.encode("changes.tar");
        let header = format!("V2\nS{0}\nN1\n--\nN {digest} {0} {name}\n", archive.len());
        let message = json!({
            "session_token": token,
            "payload_digest": hex::encode(Sha1::digest(&header)),
            "header_size": header.len().to_string(),
            "api_version": "2",
        });
        let message = message.to_string();
        let body = [message.as_bytes(), header.as_bytes(), archive].concat();
        let request = client().post(format!("{}/payloads", self.api)).header("Message-Size", message.len());
        self.send(request.body(body), message.as_bytes())
    }

    pub(crate) fn commit(
        &self,
        token: &str,
        old: &str,
        new: &str,
        tag: &str,
        text: &str,
    ) -> Result<Value, Unreachable> {
        let body = json!({"old_root_hash": old, "new_root_hash": new, "tag_name": tag, "tag_description": text});
        self.send(client().post(format!("{}/leases/{token}", self.api)).body(body.to_string()), token.as_bytes())
    }
}

fn client() -> Client {
    // Without a limit of time: a commit is waited for.
    Client::builder().no_proxy().timeout(None).build().unwrap()
}
