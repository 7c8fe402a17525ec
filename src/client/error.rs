//! What can go wrong between a client and its server.

use std::io::ErrorKind;
use std::path::PathBuf;

use super::socket;
use crate::domain::address::unix_path;
use crate::domain::digest::Sha256Digest;
use crate::domain::protocol::{ErrorBody, ErrorDetail};

/// Why a call to the server came to nothing. No variant shows the token.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The address cannot be used.
    #[error("server address {url:?} is not usable: {why}")]
    Address {
        /// What was given, without a user and password.
        url: String,
        /// Which rule it breaks.
        why: String,
    },
    /// No client could be set up on this machine.
    #[error("cannot set up the HTTP client")]
    Setup(#[source] reqwest::Error),
    /// No answer: refused, cut off, timed out.
    #[error("cannot {action}: no answer from {url}")]
    Unreachable {
        /// What was tried.
        action: &'static str,
        /// The server.
        url: String,
        /// Why.
        #[source]
        source: reqwest::Error,
    },
    /// A stream fell silent: not even its heartbeats came.
    #[error("cannot {action}: {url} has been silent for {seconds} s")]
    Silent {
        /// What was tried.
        action: &'static str,
        /// The server.
        url: String,
        /// How long.
        seconds: u64,
    },
    /// The server said no.
    #[error("cannot {action}: {} ({})", .detail.message, .detail.code)]
    Refused {
        /// What was tried.
        action: &'static str,
        /// The HTTP status.
        status: u16,
        /// What the server says about it.
        detail: Box<ErrorDetail>,
        /// Where the log ends, when the refusal is about a gap in a log.
        log_end: Option<u64>,
    },
    /// The server said something that this client does not understand.
    #[error("cannot {action}: the answer of {url} makes no sense to this version of conveyor ({what})")]
    Answer {
        /// What was tried.
        action: &'static str,
        /// The server.
        url: String,
        /// What is wrong with it.
        what: String,
    },
    /// A local file could not be read or written.
    #[error("cannot {action} {path}", path = .path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A blob is not what its name says.
    #[error("blob {expected} arrived as {got}: the transfer or the server's storage is damaged")]
    Damaged {
        /// What was asked for.
        expected: Sha256Digest,
        /// What came.
        got: Sha256Digest,
    },
    /// The jobs did not end in the time given.
    #[error("{pending} of {jobs} jobs have not ended after {seconds} s")]
    WaitedTooLong {
        /// Jobs not ended.
        pending: usize,
        /// Jobs waited for.
        jobs: usize,
        /// How long.
        seconds: u64,
    },
}

impl ClientError {
    /// Tells whether the same call may work later, unchanged.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { .. } if self.is_about_certificate() || self.is_locked_out() => false,
            Self::Unreachable { .. } | Self::Silent { .. } | Self::Damaged { .. } | Self::WaitedTooLong { .. } => true,
            Self::Refused { status, .. } => matches!(status, 429 | 502 | 503 | 504),
            Self::Address { .. } | Self::Setup(_) | Self::Answer { .. } | Self::File { .. } => false,
        }
    }

    /// Tells whether no server answered at all.
    pub fn is_unreachable(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::Silent { .. })
    }

    /// Tells whether we may not connect to the Unix socket.
    fn is_locked_out(&self) -> bool {
        matches!(self, Self::Unreachable { url, source, .. }
            if unix_path(url).is_some() && socket::cause(source) == Some(ErrorKind::PermissionDenied))
    }

    /// Tells whether the server was there and its certificate was refused: asking again does not help.
    fn is_about_certificate(&self) -> bool {
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            if error.to_string().contains("invalid peer certificate") {
                return true;
            }
            cause = error.source();
        }
        false
    }

    /// The HTTP status, where the server answered with one.
    pub fn status(&self) -> Option<u16> {
        if let Self::Refused { status, .. } = self { Some(*status) } else { None }
    }

    /// The server's stable word for the error, where it gave one.
    pub fn code(&self) -> Option<&str> {
        if let Self::Refused { detail, .. } = self { Some(&detail.code) } else { None }
    }

    /// The next step.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Refused { detail, .. } => Some(detail.hint.clone()).filter(|hint| !hint.is_empty()),
            Self::Unreachable { url, .. } | Self::Silent { url, .. } => Some(match unix_path(url) {
                Some(path) => socket::hint(path, std::error::Error::source(self).and_then(socket::cause)),
                None => {
                    format!("check the address (--url or CONVEYOR_URL) and that the server runs: curl -i {url}/healthz")
                }
            }),
            Self::Address { .. } => Some(
                "give it as --url http://HOST:PORT or --url unix:/PATH, in CONVEYOR_URL or as url in [client]".into(),
            ),
            Self::Setup(_) => {
                Some("install the system's CA certificates, or point SSL_CERT_FILE at a bundle of them".into())
            }
            Self::Answer { .. } => {
                Some("check that the address is that of a Conveyor server, and compare versions".into())
            }
            Self::WaitedTooLong { .. } => Some("the jobs go on; look again with: conveyor check --wait --ids …".into()),
            Self::Damaged { .. } => Some("try again; if it stays so, upload the file anew".into()),
            Self::File { .. } => None,
        }
    }
}

/// Where a log ends, in the refusal of a piece that would leave a gap: `end` beside `error` or within it.
pub(super) fn log_end_of(body: &[u8]) -> Option<u64> {
    let body: serde_json::Value = serde_json::from_slice(body).ok()?;
    body.get("end").or_else(|| body.get("error")?.get("end"))?.as_u64()
}

/// What the server says in an answer that is not a success, also where it is a proxy's page and no error body.
pub(super) fn detail_of(status: reqwest::StatusCode, location: Option<&str>, body: &[u8]) -> ErrorDetail {
    if let Ok(body) = serde_json::from_slice::<ErrorBody>(body) {
        return body.error;
    }
    let text = String::from_utf8_lossy(body);
    let line: String =
        text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or("").chars().take(200).collect();
    let says = if line.is_empty() || line.starts_with('<') { String::new() } else { format!(": {line}") };
    let hint = match (location, status.as_u16()) {
        (Some(to), 300..=399) => format!("the address moved; use the one behind {to}"),
        (_, 401 | 403) => "check the token: --token-file, CONVEYOR_TOKEN_FILE or token_file in [client]".into(),
        (_, 404) => "check that the address is that of a Conveyor server".into(),
        (_, 500..) => "try again later; the server's log tells why".into(),
        _ => String::new(),
    };
    ErrorDetail {
        code: format!("http_{}", status.as_u16()),
        message: format!("the server answered {status}{says}"),
        hint,
    }
}

#[cfg(test)]
mod tests {
    use reqwest::StatusCode;

    use super::*;

    #[test]
    fn an_error_body_is_taken_word_for_word() {
        let body = br#"{"error":{"code":"unknown_job","message":"no job x","hint":"list them"}}"#;
        let detail = detail_of(StatusCode::NOT_FOUND, None, body);
        assert_eq!(
            (detail.code.as_str(), detail.message.as_str(), detail.hint.as_str()),
            ("unknown_job", "no job x", "list them")
        );
    }

    #[test]
    fn a_proxys_page_becomes_one_line() {
        let detail = detail_of(StatusCode::BAD_GATEWAY, None, b"<html><body>nginx</body></html>");
        assert_eq!(detail.message, "the server answered 502 Bad Gateway");
        assert_eq!(
            detail_of(StatusCode::BAD_REQUEST, None, b"\n bad thing \nmore").message,
            "the server answered 400 Bad Request: bad thing"
        );
        assert!(detail_of(StatusCode::FOUND, Some("https://new/"), b"").hint.contains("https://new/"));
    }

    #[test]
    fn only_what_may_pass_is_transient() {
        let refused = |status| ClientError::Refused {
            action: "x",
            status,
            detail: Box::new(detail_of(StatusCode::OK, None, b"")),
            log_end: None,
        };
        assert!([429, 502, 503, 504].into_iter().all(|status| refused(status).is_transient()));
        assert!([400, 401, 404, 409, 500].into_iter().all(|status| !refused(status).is_transient()));
    }
}
