//! Serves repositories to CernVM-FS clients, for `conveyor dev`: only what clients ask for, never a key.

use axum::body::Body;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use tokio_util::io::ReaderStream;

use super::AppState;
use super::body::Path;
use super::error::{ApiError, ApiResult};
use crate::domain::names::RepositoryName;

/// Files beside `data/`.
const NAMED: [&str; 4] = [".cvmfspublished", ".cvmfswhitelist", ".cvmfsreflog", ".cvmfs_master_replica"];

pub(super) async fn file(
    State(state): State<AppState>,
    Path((repository, path)): Path<(String, String)>,
) -> ApiResult<Response> {
    let missing = || {
        ApiError::new(
            StatusCode::NOT_FOUND,
            "not_found",
            format!("there is no {repository}/{path} here"),
            "check the name",
        )
    };
    let root = state.repositories_dir.as_ref().ok_or_else(missing)?;
    let name = RepositoryName::new(repository.as_str()).map_err(|_| missing())?;
    if !NAMED.contains(&path.as_str()) && !is_object(&path) {
        return Err(missing());
    }
    let file = tokio::fs::File::open(root.join(name.as_str()).join(&path)).await.map_err(|_| missing())?;
    let size = file.metadata().await.ok().filter(std::fs::Metadata::is_file).ok_or_else(missing)?.len();
    let cache = if is_object(&path) { "public, max-age=259200, immutable" } else { "no-cache, max-age=0" };
    let headers = [
        (header::CONTENT_TYPE, "application/octet-stream".to_owned()),
        (header::CONTENT_LENGTH, size.to_string()),
        (header::CACHE_CONTROL, cache.to_owned()),
    ];
    Ok((headers, Body::from_stream(ReaderStream::with_capacity(file, 64 * 1024))).into_response())
}

/// `data/ab/cdef…`: two hexadecimal digits, then the rest of the hash and what may follow it.
fn is_object(path: &str) -> bool {
    let parts: Vec<_> = path.split('/').collect();
    let [data, folder, name] = parts[..] else { return false };
    let is_hex = |text: &str| text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    data == "data"
        && folder.len() == 2
        && is_hex(folder)
        && name.len() >= 30
        && name.get(..30).is_some_and(is_hex)
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

#[cfg(test)]
mod tests {
    use super::is_object;

    #[test]
    fn only_objects_are_objects() {
        let hash = "b48c86b7c7a4b3e7cdd2a04b3e1b1d2c3d4e5f";
        for good in [format!("data/0a/{hash}"), format!("data/0a/{hash}C"), format!("data/0a/{hash}-shake128C")] {
            assert!(is_object(&good), "{good}");
        }
        for bad in
            ["data/../../keys/x.key", "data/0a/..", "data/txn/x", "data", "keys/a.key", "data/0a/short", "/etc/passwd"]
        {
            assert!(!is_object(bad), "{bad}");
        }
    }
}
