//! Requests that nobody should send: each is refused with its reason, and nothing of it is stored.

use axum::body::Body;
use axum::http::{Request, StatusCode};
use serde_json::{Value, json};

use super::{Server, job, request};

/// A submission's body, and what it is answered with.
fn bodies() -> Vec<(&'static str, Vec<u8>, u16, &'static str)> {
    let good = job("good");
    let changed = |change: &dyn Fn(&mut Value)| {
        let mut job = job("changed");
        change(&mut job);
        job.to_string().into_bytes()
    };
    let text = good.to_string();
    let twice = json!([good, good]).to_string();
    vec![
        ("nothing", vec![], 400, "bad_json"),
        ("spaces", b" \n\t ".to_vec(), 400, "bad_json"),
        ("not JSON", b"name=one".to_vec(), 400, "bad_json"),
        ("half", text.as_bytes()[..text.len() / 2].to_vec(), 400, "bad_json"),
        ("more after the end", format!("{text} {text}").into_bytes(), 400, "bad_json"),
        (
            "not UTF-8",
            text.replace("good", "g\u{1}d").into_bytes().into_iter().map(|b| if b == 1 { 0xFF } else { b }).collect(),
            400,
            "bad_json",
        ),
        ("deep", "[".repeat(100_000).into_bytes(), 400, "bad_json"),
        ("deep in a field", format!("{{\"id\":{}", "[".repeat(10_000)).into_bytes(), 400, "bad_json"),
        ("a number", b"7".to_vec(), 400, "bad_json"),
        ("a field twice", text.replacen('{', "{\"name\":\"other\",", 1).into_bytes(), 400, "bad_json"),
        ("an unknown field", changed(&|job| job["run_as"] = json!("root")), 400, "bad_json"),
        ("an unknown kind of work", changed(&|job| job["work"]["kind"] = json!("format")), 400, "bad_json"),
        ("an unknown payload", changed(&|job| job["work"]["payload"] = json!({"type": "rm"})), 400, "bad_json"),
        ("an id that is none", changed(&|job| job["id"] = json!("../../etc/passwd")), 400, "bad_json"),
        ("a priority beyond all", changed(&|job| job["priority"] = json!(1e300)), 400, "bad_json"),
        ("attempts below zero", changed(&|job| job["attempts"] = json!(-1)), 400, "bad_json"),
        ("a repository that is a path", changed(&|job| job["work"]["repository"] = json!("../x.y")), 400, "bad_json"),
        ("a lease path that climbs", changed(&|job| job["work"]["lease_path"] = json!("/a/../../b")), 400, "bad_json"),
        ("an array in an array", json!([[good]]).to_string().into_bytes(), 400, "bad_json"),
        ("an empty array", b"[]".to_vec(), 422, "bad_submission"),
        ("the same job twice", twice.into_bytes(), 422, "bad_dependencies"),
        (
            "an id of another version",
            changed(&|job| job["id"] = json!("6ba7b810-9dad-41d1-80b4-00c04fd430c8")),
            422,
            "bad_job",
        ),
        ("no name", changed(&|job| job["name"] = json!("  ")), 422, "bad_job"),
        ("a name with a line break", changed(&|job| job["name"] = json!("a\nb")), 422, "bad_job"),
        ("a name too long", changed(&|job| job["name"] = json!("é".repeat(201))), 422, "bad_job"),
        ("no attempts", changed(&|job| job["attempts"] = json!(0)), 422, "bad_job"),
        ("a repository of nobody", changed(&|job| job["work"]["repository"] = json!("a.b")), 422, "unknown_repository"),
        (
            "a file for a source",
            changed(&|job| {
                job["work"]["payload"] =
                    json!({"type": "tarball", "source": {"from": "url", "url": "file:///etc/shadow"}})
            }),
            422,
            "bad_job",
        ),
        (
            "a password in a URL",
            changed(&|job| {
                job["work"]["payload"] = json!({"type": "tarball", "source": {"from": "url", "url": "https://a:b@c/"}})
            }),
            422,
            "bad_job",
        ),
        (
            "a blob that is not there",
            changed(&|job| {
                job["work"]["payload"] = json!({"type": "tarball", "source": {"from": "blob", "digest": format!("sha256:{}", "1".repeat(64))}})
            }),
            422,
            "unknown_blob",
        ),
        (
            "a delete of everything",
            changed(&|job| job["work"]["payload"] = json!({"type": "delete", "paths": ["/"]})),
            422,
            "bad_job",
        ),
        (
            "a dependency of nobody",
            changed(&|job| job["dependencies"] = json!([{"job_id": "01890000-0000-7000-8000-000000000000"}])),
            422,
            "unknown_dependency",
        ),
        (
            "a dependency on itself",
            changed(&|job| job["dependencies"] = json!([{"job_id": job["id"]}])),
            422,
            "bad_job",
        ),
    ]
}

#[tokio::test]
async fn bad_submissions_are_refused_and_leave_nothing() {
    let server = Server::start().await;
    for (what, body, status, code) in bodies() {
        let request = request("POST", "/api/v1/jobs").header("content-type", "application/json");
        let reply = server.raw(request.body(Body::from(body)).unwrap()).await;
        assert_eq!((reply.status.as_u16(), reply.code().as_str()), (status, code), "{what}: {}", reply.text());
        assert!(reply.text().len() < 4000, "{what}");
    }
    assert_eq!(server.get("/api/v1/jobs").await.json()["jobs"], json!([]));
    assert_eq!(*server.engine.store().committed().borrow(), 0);
}

#[tokio::test]
async fn a_refusal_names_the_job_and_the_field() {
    let server = Server::start().await;
    let mut bad = job("bad");
    bad["atempts"] = json!(1);
    let reply = server.post("/api/v1/jobs", json!([job("good"), bad])).await;
    let text = reply.text();
    assert!(text.contains("[1].atempts") && text.contains("line 1 column"), "{text}");
}

#[tokio::test]
async fn bad_queries_and_paths_are_refused() {
    let server = Server::start().await;
    let id = server.submit("one").await;
    let offers = "/api/v1/fleets/default/offers";
    let life = "01890000-0000-7000-8000-000000000000";
    let cases = [
        ("/api/v1/jobs?limit=many".to_owned(), 400, "bad_query"),
        ("/api/v1/jobs?limit=-1".into(), 400, "bad_query"),
        ("/api/v1/jobs?limit=1&limit=2".into(), 400, "bad_query"),
        ("/api/v1/jobs?cursor=99999999999999999999999".into(), 400, "bad_query"),
        ("/api/v1/jobs?state=done".into(), 400, "bad_query"),
        ("/api/v1/jobs?repository=..%2F..".into(), 400, "bad_query"),
        ("/api/v1/jobs?submission=x".into(), 400, "bad_query"),
        ("/api/v1/jobs?label=novalue".into(), 400, "bad_query"),
        ("/api/v1/jobs?stat=queued".into(), 400, "bad_query"),
        ("/api/v1/jobs/none".into(), 400, "bad_path"),
        ("/api/v1/jobs/%ff".into(), 400, "bad_path"),
        ("/api/v1/jobs/%2e%2e%2f".into(), 400, "bad_path"),
        (format!("/api/v1/jobs/{life}"), 404, "not_found"),
        (format!("/api/v1/jobs/{life}/events"), 404, "not_found"),
        (format!("/api/v1/jobs/{life}/log"), 404, "not_found"),
        (format!("/api/v1/jobs/{life}/log/stream"), 404, "not_found"),
        (format!("/api/v1/jobs/{id}/log?attempt=9"), 404, "no_such_attempt"),
        (format!("/api/v1/jobs/{id}/log?attempt=0"), 404, "no_such_attempt"),
        (format!("/api/v1/jobs/{id}/log?tail=-5"), 400, "bad_query"),
        (format!("/api/v1/jobs/{id}/log/stream?after=5"), 400, "bad_query"),
        (format!("/api/v1/jobs/{id}/log/stream?after=1:18446744073709551615"), 400, "bad_query"),
        ("/api/v1/events?after=now".into(), 400, "bad_query"),
        ("/api/v1/blobs/md5:d41d8cd98f00b204e9800998ecf8427e".into(), 400, "bad_path"),
        ("/api/v1/blobs/..%2f..%2fconveyor.db".into(), 400, "bad_path"),
        (offers.into(), 400, "bad_query"),
        (format!("{offers}?node=n&instance=1"), 400, "bad_query"),
        (format!("{offers}?node=n&instance={life}&max=x"), 400, "bad_query"),
        (format!("{offers}?node=%00&instance={life}"), 400, "bad_query"),
        (format!("{offers}?node={}&instance={life}", "n".repeat(300)), 400, "bad_query"),
        ("/api/v2/jobs".into(), 404, "no_such_route"),
        ("/api/v1/jobs/".into(), 404, "no_such_route"),
        ("//".into(), 404, "no_such_route"),
        ("/assets/..%2fmod.rs".into(), 404, "no_such_route"),
        ("/assets/none".into(), 404, "no_such_route"),
    ];
    for (path, status, code) in cases {
        let reply = server.get(&path).await;
        assert_eq!((reply.status.as_u16(), reply.code().as_str()), (status, code), "{path}: {}", reply.text());
    }
}

#[tokio::test]
async fn wrong_methods_headers_and_sizes_are_refused() {
    let server = Server::with(|state| state.limits.json_bytes = 1000).await;
    let life = "01890000-0000-7000-8000-000000000000";
    let claim = format!("/api/v1/batches/{life}/claim");
    let log = format!("/api/v1/batches/{life}/jobs/{life}/log?offset=0");
    let typed = |method: &str, path: &str, kind: &str| request(method, path).header("content-type", kind);
    let json = "application/json";
    let large = vec![b' '; 1001];
    let cases: Vec<(Request<Body>, u16, &str)> = vec![
        (request("DELETE", "/api/v1/jobs").body(Body::empty()).unwrap(), 405, "wrong_method"),
        (request("PATCH", "/healthz").body(Body::empty()).unwrap(), 405, "wrong_method"),
        (request("POST", "/api/v1/jobs").body(Body::from("{}")).unwrap(), 415, "bad_content_type"),
        (typed("POST", "/api/v1/jobs", "text/plain").body(Body::from("{}")).unwrap(), 415, "bad_content_type"),
        (
            typed("POST", &claim, "application/x-www-form-urlencoded").body(Body::from("a=b")).unwrap(),
            415,
            "bad_content_type",
        ),
        (typed("POST", &claim, json).body(Body::from("{}")).unwrap(), 400, "bad_json"),
        (typed("POST", &claim, json).body(Body::from(large.clone())).unwrap(), 413, "too_large"),
        (typed("POST", &claim, json).header("content-length", "1001").body(Body::empty()).unwrap(), 413, "too_large"),
        (typed("POST", "/api/v1/workers/heartbeat", json).body(Body::from("[]")).unwrap(), 400, "bad_json"),
        (typed("POST", "/api/v1/batches/x/claim", json).body(Body::from("{}")).unwrap(), 400, "bad_path"),
        (request("PUT", &log).body(Body::from("x")).unwrap(), 400, "bad_header"),
        (request("PUT", &log).header("conveyor-claim", "t").body(Body::from("x")).unwrap(), 404, "not_found"),
        (
            request("PUT", &log).header("conveyor-claim", "t").body(Body::from(vec![0; (1 << 20) + 1])).unwrap(),
            413,
            "too_large",
        ),
        (
            request("PUT", &log.replace("=0", "=-1")).header("conveyor-claim", "t").body(Body::from("x")).unwrap(),
            400,
            "bad_query",
        ),
        (
            request("PUT", &log.replace("?offset=0", "")).header("conveyor-claim", "t").body(Body::from("x")).unwrap(),
            400,
            "bad_query",
        ),
        (request("GET", "/api/v1/events").header("last-event-id", "x").body(Body::empty()).unwrap(), 400, "bad_header"),
        (
            request("GET", "/api/v1/events").header("last-event-id", "-1").body(Body::empty()).unwrap(),
            400,
            "bad_header",
        ),
    ];
    for (request, status, code) in cases {
        let what = format!("{} {}", request.method(), request.uri());
        let reply = server.raw(request).await;
        assert_eq!((reply.status.as_u16(), reply.code().as_str()), (status, code), "{what}: {}", reply.text());
    }
    let reply = server
        .raw(
            typed("POST", "/api/v1/jobs", "Application/JSON; charset=utf-8")
                .body(Body::from(job("ok").to_string()))
                .unwrap(),
        )
        .await;
    assert_eq!(reply.status, StatusCode::CREATED);
}

#[tokio::test]
async fn a_submission_beyond_its_limit_is_refused() {
    let server = Server::with(|state| state.limits.submission_bytes = 2000).await;
    let jobs: Vec<_> = (0..20).map(|_| job("one")).collect();
    let reply = server.post("/api/v1/jobs", json!(jobs)).await;
    assert_eq!((reply.status, reply.code().as_str()), (StatusCode::PAYLOAD_TOO_LARGE, "too_large"));
    assert_eq!(server.post("/api/v1/jobs", jobs[0].clone()).await.status, StatusCode::CREATED);
}

#[tokio::test]
async fn a_large_submission_is_accepted() {
    let server = Server::start().await;
    let jobs: Vec<_> = (0..2000).map(|number| job(&format!("one of many, number {number}"))).collect();
    let reply = server.post("/api/v1/jobs", json!(jobs)).await;
    assert_eq!(reply.status, StatusCode::CREATED);
    assert_eq!(reply.json()["jobs"].as_array().unwrap().len(), 2000);
}
