//! Serves repositories to CernVM-FS clients, read-only, for development: what a web server does for a stratum 0.
//!
//! Only what a client asks for is reachable, by name: nothing else that lies in the directory, keys least of all.

use axum::body::Body;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use nix::fcntl::OFlag;
use tokio_util::io::ReaderStream;

use super::Shared;
use super::blobs::PIECE;
use super::error::ApiError;
use super::extract::ApiPath;
use crate::domain::names::RepositoryName;
use crate::domain::protocol::ErrorBody;

/// Gives a file of a repository.
#[utoipa::path(method(get, head), operation_id = "get_repository_file", path = "/cvmfs/{repository}/{*path}", tag = "repositories", security(()),
    params(
        ("repository" = String, Path, description = "fully qualified name"),
        ("path" = String, Path, description = "`.cvmfspublished`, `.cvmfswhitelist`, `.cvmfsreflog`, `.cvmfs_master_replica` or `data/XX/…`"),
    ),
    responses(
        (status = 200, description = "the file", body = String, content_type = "application/octet-stream"),
        (status = 404, description = "no such file", body = ErrorBody),
    ))]
pub(super) async fn file(
    State(state): State<Shared>,
    ApiPath((repository, path)): ApiPath<(String, String)>,
) -> Result<Response, ApiError> {
    let missing = || {
        ApiError::not_found(
            "no_such_file",
            "this server has no such repository file",
            "only the files that CernVM-FS clients ask for are served",
        )
    };
    let kind = Kind::of(&path).ok_or_else(missing)?;
    let directory = state.repositories_dir.as_ref().ok_or_else(missing)?;
    let repository = RepositoryName::new(repository).map_err(|_| missing())?;
    let path = directory.join(repository.as_str()).join(path);
    // A link is not followed, and a pipe does not make us wait.
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
    let file = tokio::fs::OpenOptions::new().read(true).custom_flags(flags.bits()).open(&path).await;
    let file = file.map_err(|_| missing())?;
    let meta = file.metadata().await.map_err(|_| missing())?;
    if !meta.is_file() {
        return Err(missing());
    }
    let headers = [
        (header::CONTENT_TYPE, "application/octet-stream".to_owned()),
        (header::CONTENT_LENGTH, meta.len().to_string()),
        (header::CACHE_CONTROL, kind.cache_control().to_owned()),
    ];
    Ok((headers, Body::from_stream(ReaderStream::with_capacity(file, PIECE))).into_response())
}

/// The two kinds of files in a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Replaced with every revision.
    Changing,
    /// Named by its content.
    Object,
}

impl Kind {
    /// The kind of a path; `None` for what is not served.
    fn of(path: &str) -> Option<Self> {
        if matches!(path, ".cvmfspublished" | ".cvmfswhitelist" | ".cvmfsreflog" | ".cvmfs_master_replica") {
            return Some(Self::Changing);
        }
        let (folder, name) = path.strip_prefix("data/")?.split_once('/')?;
        let is_hex = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
        // The rest of a hash, its algorithm where it is not SHA-1, and a letter for catalogs and the like.
        let is_object = folder.len() == 2
            && is_hex(folder)
            && (30..=120).contains(&name.len())
            && name.get(..30).is_some_and(is_hex)
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        is_object.then_some(Self::Object)
    }

    fn cache_control(self) -> &'static str {
        match self {
            Self::Changing => "no-cache, max-age=0",
            Self::Object => "public, max-age=31536000, immutable",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Kind;

    #[test]
    fn only_what_clients_ask_for_is_served() {
        let object = format!("data/0a/{}", "9".repeat(38));
        for good in [&object, &format!("{object}C"), &format!("{object}-rmd160"), &format!("{object}-shake128P")] {
            assert_eq!(Kind::of(good), Some(Kind::Object), "{good}");
        }
        assert_eq!(Kind::of(".cvmfspublished"), Some(Kind::Changing));
        let bad = [
            "",
            "/",
            ".",
            "..",
            "data",
            "data/",
            "data/0a",
            "data/0a/",
            "keys/software.example.org.masterkey",
            "software.example.org.key",
            ".cvmfspublished/",
            "./.cvmfspublished",
            "data/../.cvmfspublished",
            "data/0a/../../secret",
            "data/0A/99999999999999999999999999999999999999",
            "data//99",
            "data/txn/x",
            "data/éa/99999999999999999999999999999999999999",
            "data/0a/9999999999999999999999999999999999\u{e9}9",
            "data/0a/éééééééééééééééééééé",
            ".cvmfspublished\0",
            "data/0a/99999999999999999999999999999999999999/x",
        ];
        for bad in bad {
            assert_eq!(Kind::of(bad), None, "{bad:?}");
        }
    }
}
