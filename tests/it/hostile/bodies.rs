//! Bodies without end, and such as come too slowly.

use std::io::Write;
use std::net::TcpStream;

use conveyor::domain::digest::Sha256Digest;

use super::{Target, refused};

const GIB: u64 = 1 << 30;
/// The server's limit for a submission, and what may be on its way when it refuses.
const READ_AT_MOST: u64 = (64 << 20) + (32 << 20);

#[test]
fn a_body_that_is_announced_as_too_large_is_refused_unread() {
    let target = Target::start();
    let piece = vec![b' '; 1 << 20];
    let head = target.http.head(
        "POST",
        "/api/v1/jobs",
        &format!("Content-Type: application/json\r\nContent-Length: {GIB}\r\n"),
    );
    let answer = target.http.raw(&head, std::iter::repeat_n(&piece[..], 1024));
    refused("1 GiB", &answer, 413, "too_large");
    assert!(answer.sent < 32 << 20, "{} bytes were taken", answer.sent);

    let blob = format!("/api/v1/blobs/{}", Sha256Digest::of(b"x"));
    let head = target.http.head("PUT", &blob, &format!("Content-Length: {}\r\n", 1_u64 << 40));
    refused("1 TiB", &target.http.raw(&head, std::iter::repeat_n(&piece[..], 1024)), 413, "too_large");
    target.stays_unharmed();
}

#[test]
fn a_body_without_end_is_refused_at_the_limit() {
    let target = Target::start();
    let piece = [&b"100000\r\n"[..], &vec![b' '; 1 << 20], b"\r\n"].concat();
    let head =
        target.http.head("POST", "/api/v1/jobs", "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n");
    let answer = target.http.raw(&head, std::iter::repeat_n(&piece[..], 1024));
    refused("endless", &answer, 413, "too_large");
    assert!(answer.sent < READ_AT_MOST, "{} bytes were taken", answer.sent);
    // Routes that take little take less.
    let head = target.http.head(
        "POST",
        "/api/v1/workers/heartbeat",
        "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n",
    );
    let answer = target.http.raw(&head, std::iter::repeat_n(&piece[..], 1024));
    refused("endless heartbeat", &answer, 413, "too_large");
    assert!(answer.sent < 32 << 20, "{} bytes were taken", answer.sent);
    target.stays_unharmed();
}

#[test]
fn a_blob_is_taken_only_under_its_own_name() {
    let target = Target::start();
    let blob = |content: &[u8]| format!("/api/v1/blobs/{}", Sha256Digest::of(content));
    refused("other bytes", &target.http.send("PUT", &blob(b"a"), "", b"b"), 422, "digest_mismatch");
    refused("not kept", &target.http.get(&blob(b"a")), 404, "not_found");
    refused("no digest", &target.http.send("PUT", "/api/v1/blobs/..%2f..%2fx", "", b"b"), 400, "bad_path");

    // Cut off in the middle: nothing is kept under the name.
    let head = target.http.head("PUT", &blob(b"abc"), "Content-Length: 3\r\n");
    let mut stream = TcpStream::connect(target.address()).unwrap();
    stream.write_all(&[&head[..], b"ab"].concat()).unwrap();
    drop(stream);
    refused("cut off", &target.http.get(&blob(b"abc")), 404, "not_found");
    target.stays_unharmed();
}

#[test]
fn senders_that_fall_silent_hold_up_nobody() {
    let target = Target::start();
    let head = target.http.head("POST", "/api/v1/jobs", "Content-Type: application/json\r\nContent-Length: 100\r\n");
    let silent: Vec<_> = (0..300)
        .map(|number| {
            let mut stream = TcpStream::connect(target.address()).unwrap();
            // Some stop within the head, some within the body.
            let sent = if number % 2 == 0 { &head[..20] } else { &head[..] };
            stream.write_all(sent).unwrap();
            stream
        })
        .collect();
    target.stays_unharmed();
    drop(silent);
}
