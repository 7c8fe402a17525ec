//! Serving repositories.

use std::fs;
use std::os::unix::fs::symlink;

use axum::http::StatusCode;

use super::{REPOSITORY, Server};

const OBJECT: &str = "data/0a/99999999999999999999999999999999999999";

async fn server() -> Server {
    let server = Server::start().await;
    let directory = server.directory.path().join("repositories");
    let repository = directory.join(REPOSITORY);
    fs::create_dir_all(repository.join("data/0a")).unwrap();
    fs::create_dir_all(repository.join("data/0b/88888888888888888888888888888888888888")).unwrap();
    fs::write(repository.join(".cvmfspublished"), "Cmanifest").unwrap();
    fs::write(repository.join(OBJECT), "object").unwrap();
    fs::write(repository.join("secret.key"), "key").unwrap();
    fs::write(directory.join("secret.key"), "key").unwrap();
    symlink("../../../secret.key", repository.join("data/0a/77777777777777777777777777777777777777")).unwrap();
    nix::unistd::mkfifo(&repository.join(".cvmfsreflog"), nix::sys::stat::Mode::S_IRUSR).unwrap();
    server
}

#[tokio::test]
async fn clients_get_what_they_ask_for() {
    let server = server().await;
    let manifest = server.get(&format!("/cvmfs/{REPOSITORY}/.cvmfspublished")).await;
    assert_eq!((manifest.status, manifest.text().as_str()), (StatusCode::OK, "Cmanifest"));
    assert_eq!(manifest.headers["cache-control"], "no-cache, max-age=0");
    let object = server.get(&format!("/cvmfs/{REPOSITORY}/{OBJECT}")).await;
    assert_eq!((object.status, object.text().as_str()), (StatusCode::OK, "object"));
    assert!(object.headers["cache-control"].to_str().unwrap().contains("immutable"));
    assert_eq!(object.headers["content-length"], "6");
}

#[tokio::test]
async fn nothing_else_can_be_reached() {
    let server = server().await;
    let escapes = [
        "secret.key",
        "../secret.key",
        "..%2fsecret.key",
        "%2e%2e/secret.key",
        "data/../secret.key",
        "data%2f..%2fsecret.key",
        "data/0a/..%2f..%2fsecret.key",
        ".cvmfspublished/../secret.key",
        "data",
        "data/",
        "data/0a",
        "data/0a/",
        "./secret.key",
        "%2fetc%2fpasswd",
        "//etc/passwd",
        "secret.key%00.cvmfspublished",
        ".cvmfspublished%00",
        "..%5csecret.key",
        "%c0%ae%c0%ae/secret.key",
        ".cvmfswhitelist",
        ".cvmfsreflog",
        "data/0a/77777777777777777777777777777777777777",
        "data/0b/88888888888888888888888888888888888888",
    ];
    for escape in escapes {
        let reply = server.get(&format!("/cvmfs/{REPOSITORY}/{escape}")).await;
        assert!(matches!(reply.status.as_u16(), 400 | 404), "{escape}: {}", reply.status);
        reply.code();
    }
    for repository in ["..", "%2e%2e", ".", "%2e", "", "a%2f..%2fsoftware.example.org", "..%2frepositories"] {
        let reply = server.get(&format!("/cvmfs/{repository}/.cvmfspublished")).await;
        assert!(matches!(reply.status.as_u16(), 400 | 404), "{repository}: {}", reply.status);
    }
    let without = Server::with(|state| state.repositories_dir = None).await;
    assert_eq!(without.get(&format!("/cvmfs/{REPOSITORY}/.cvmfspublished")).await.code(), "no_such_file");
}
