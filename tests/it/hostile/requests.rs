//! Requests that are none.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use super::{Target, refused};
use crate::harness::{Http, REPOSITORY, noise};

const JOBS: &str = "/api/v1/jobs";
const NOBODYS: &str = "01900000-0000-7000-8000-000000000001";

#[test]
fn a_body_that_is_no_json_is_refused() {
    let target = Target::start();
    let deep = [vec![b'['; 200_000], vec![b']'; 200_000]].concat();
    let objects = "{\"work\":".repeat(50_000);
    let bodies: [&[u8]; 15] = [
        b"",
        b" ",
        b"{",
        b"[",
        b"\"",
        b"{\"id\":",
        b"NaN",
        b"[Infinity]",
        b"{'id': 1}",
        b"{\"name\":\"\xff\xfe\"}",
        b"\xef\xbb\xbf{}",
        b"[{}] trailing",
        b"[1e999999]",
        &deep,
        objects.as_bytes(),
    ];
    for body in bodies {
        let shown = String::from_utf8_lossy(&body[..body.len().min(40)]).into_owned();
        refused(&shown, &target.http.post(JOBS, body), 400, "bad_json");
    }
    let text = target.http.send("POST", JOBS, "Content-Type: text/plain\r\n", b"[]");
    refused("text/plain", &text, 415, "bad_content_type");
    refused("no content type", &target.http.send("POST", JOBS, "", b"[]"), 415, "bad_content_type");
    target.stays_unharmed();
}

#[test]
fn an_address_that_leads_nowhere_is_refused() {
    let target = Target::start();
    let long = "x".repeat(20_000);
    for (path, status, code) in [
        ("/api/v1/jobs/x", 400, "bad_path"),
        ("/api/v1/jobs/%00", 400, "bad_path"),
        ("/api/v1/jobs/%ff%fe", 400, "bad_path"),
        (&format!("/api/v1/jobs/{NOBODYS}"), 404, "not_found"),
        (&format!("/api/v1/jobs/{NOBODYS}/log"), 404, "not_found"),
        (&format!("/api/v1/jobs/{NOBODYS}/log/stream"), 404, "not_found"),
        ("/api/v1/jobs?state=happy", 400, "bad_query"),
        ("/api/v1/jobs?limit=999999999999999999999", 400, "bad_query"),
        ("/api/v1/jobs?cursor=-1", 400, "bad_query"),
        ("/api/v1/jobs?label=nothing", 400, "bad_query"),
        ("/api/v1/jobs?repository=..%2F..", 400, "bad_query"),
        ("/api/v1/jobs?submission=1", 400, "bad_query"),
        ("/api/v1/jobs?surprise=1", 400, "bad_query"),
        ("/api/v1/blobs/x", 400, "bad_path"),
        ("/api/v1/blobs/..%2F..%2Ftoken", 400, "bad_path"),
        ("/api/v1/nothing", 404, "no_such_route"),
        ("/api/v2/jobs", 404, "no_such_route"),
        (&format!("/{long}"), 404, "no_such_route"),
        (&format!("/cvmfs/{REPOSITORY}/../../token"), 404, "no_such_file"),
        (&format!("/cvmfs/{REPOSITORY}/..%2F..%2Ftoken"), 404, "no_such_file"),
        (&format!("/cvmfs/{REPOSITORY}/data/..%2F..%2F..%2Ftoken"), 404, "no_such_file"),
        (&format!("/cvmfs/..%2F..%2F/{REPOSITORY}"), 404, "no_such_file"),
        (&format!("/cvmfs/..%2Fkeys/{REPOSITORY}.key"), 404, "no_such_file"),
        ("/cvmfs/other.example.org/.cvmfspublished", 404, "no_such_file"),
        (&format!("/cvmfs/{REPOSITORY}/data"), 404, "no_such_file"),
    ] {
        refused(path, &target.http.get(path), status, code);
    }
    for (method, path) in [("DELETE", "/healthz"), ("PUT", JOBS), ("PATCH", JOBS), ("BREW", JOBS)] {
        refused(&format!("{method} {path}"), &target.http.send(method, path, "", b""), 405, "wrong_method");
    }
    for action in ["cancel", "retry"] {
        let path = format!("/api/v1/jobs/{NOBODYS}/{action}");
        refused(&path, &target.http.post(&path, b""), 404, "not_found");
    }
    target.stays_unharmed();
}

#[test]
fn nobody_gets_in_without_the_token() {
    let target = Target::start();
    let job = format!("/api/v1/jobs/{NOBODYS}/cancel");
    let almost = &target.token()[1..];
    for token in ["", "x", "Bearer", almost] {
        let http = Http::new(target.url(), token);
        for (method, path) in [
            ("POST", JOBS),
            ("POST", &job[..]),
            ("POST", "/api/v1/workers/heartbeat"),
            ("GET", "/api/v1/fleets/default/offers?wait=0&max=1&node=x"),
            ("PUT", "/api/v1/blobs/sha256:00"),
        ] {
            let headers = "Content-Type: application/json\r\n";
            refused(&format!("{method} {path}"), &http.send(method, path, headers, b"{}"), 401, "unauthorized");
        }
    }
    target.stays_unharmed();
}

#[test]
fn what_is_no_http_ends_the_connection_and_nothing_else() {
    let target = Target::start();
    let noise = noise(100_000);
    let endless = format!("GET / HTTP/1.1\r\n{}", "X-Header: y\r\n".repeat(100_000));
    let both = "POST /api/v1/jobs HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /x";
    let attacks: [&[u8]; 8] = [
        &noise,
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"POST /api/v1/jobs HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"POST /api/v1/jobs HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nZZZ\r\n",
        both.as_bytes(),
        endless.as_bytes(),
    ];
    for attack in attacks {
        let mut stream = TcpStream::connect(target.address()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let _ = stream.write_all(attack);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let text = String::from_utf8_lossy(&answer);
        assert!(text.is_empty() || text.starts_with("HTTP/1.1 4"), "{text}");
    }
    target.stays_unharmed();
}
