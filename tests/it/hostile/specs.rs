//! Jobs that are none.

use serde_json::{Value, json};
use uuid::Uuid;

use super::{Target, refused};
use crate::harness::REPOSITORY;

const ABSENT: &str = "sha256:00000000000000000000000000000000000000000000000000000000000000ff";

/// A good job to spoil.
fn good() -> Value {
    let work = json!({"kind": "publish", "repository": REPOSITORY, "lease_path": "/x", "payload": {"type": "empty"}});
    json!({"id": Uuid::now_v7(), "name": "x", "work": work})
}

/// A good job with one field replaced: `/` separates the levels.
fn with(path: &str, value: Value) -> Value {
    let mut job = good();
    let pointer = format!("/{}", path.trim_start_matches('/'));
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    job.pointer_mut(parent).unwrap()[key] = value;
    job
}

fn payload(payload: Value) -> Value {
    with("work/payload", payload)
}

fn source(source: Value) -> Value {
    payload(json!({"type": "tarball", "source": source}))
}

fn without(field: &str) -> Value {
    let mut job = good();
    job.as_object_mut().unwrap().remove(field).unwrap();
    job
}

#[test]
fn a_job_that_makes_no_sense_is_refused_with_its_reason() {
    let target = Target::start();
    let (one, other) = (good(), good());
    let depends = |on: &Value| json!([{"job_id": on["id"]}]);
    let (mut first, mut second) = (one.clone(), other.clone());
    first["dependencies"] = depends(&other);
    second["dependencies"] = depends(&one);
    let mut itself = good();
    itself["dependencies"] = depends(&itself);
    let long = "x".repeat(300);
    let field = |pointer: &str, value: Value| with(pointer, value);

    let mut cases: Vec<(String, Value, u16, &str)> = Vec::new();
    let mut case =
        |name: &str, job: Value, status: u16, code: &'static str| cases.push((name.into(), job, status, code));
    let names = [
        "-h",
        "../x",
        "Test.Example.org",
        "test.example.org/",
        "test.example.org\n",
        "nodots",
        "",
        "a..b",
        "a.b\0",
        "тест.org",
        &long,
        "--.-",
        "/etc",
    ];
    for name in names {
        case(&format!("repository {name:?}"), field("work/repository", json!(name)), 400, "bad_json");
    }
    for path in ["/..", "/a/../b", "/./a", "../../etc", "/a\nb", "/a\0b", "/\u{1b}[31m", &long, &"/a".repeat(600)] {
        case(&format!("lease path {path:?}"), field("work/lease_path", json!(path)), 400, "bad_json");
    }
    for (pointer, value) in [
        ("/name", json!(5)),
        ("/name", json!(null)),
        ("/id", json!("1; DROP TABLE jobs")),
        ("/id", json!(7)),
        ("/work", json!([])),
        ("work/kind", json!("destroy")),
        ("work/repository", json!([REPOSITORY])),
        ("work/surprise", json!(1)),
        ("/surprise", json!(1)),
        ("/attempts", json!("4")),
        ("/attempts", json!(-1)),
        ("/attempts", json!(4_294_967_296_u64)),
        ("/attempts", json!(1.5)),
        ("/priority", json!(u64::MAX)),
        ("/labels", json!(["a"])),
        ("/labels", json!({"a": 1})),
        ("/dependencies", json!("all")),
        ("/dependencies", json!([{"job_id": Uuid::now_v7(), "condition": "maybe"}])),
        ("work/payload", json!({"type": "tarball"})),
        ("work/payload", json!({"type": "rm -rf"})),
        ("work/payload", json!({"type": "delete", "paths": "/x"})),
    ] {
        case(&format!("{pointer} {value}"), field(pointer, value.clone()), 400, "bad_json");
    }
    for (pointer, value) in [
        ("/attempts", json!(0)),
        ("/attempts", json!(101)),
        ("/priority", json!(101)),
        ("/timeout_s", json!(0)),
        ("/timeout_s", json!(u32::MAX)),
        ("/name", json!("")),
        ("/name", json!("a\u{7}b")),
        ("/name", json!(long)),
        ("/submitter", json!("a\nb")),
        ("/labels", json!({"a b": ""})),
        ("/labels", json!({"": ""})),
        ("/labels", json!({"a": "x\ny"})),
        ("/labels", (0..33).map(|n| (format!("k{n}"), json!("v"))).collect()),
        ("/id", json!("2d1b5b60-44a5-4f7c-8f0e-9a5b0c6d7e8f")),
        ("work/payload", json!({"type": "delete", "paths": []})),
        ("work/payload", json!({"type": "delete", "paths": ["/"]})),
        ("work/payload", json!({"type": "delete", "paths": ["/y"]})),
        ("work/payload", json!({"type": "delete", "paths": ["/x/../../y"]})),
        ("work/payload", json!({"type": "script", "source": {"from": "blob", "digest": ABSENT}, "args": ["a\0b"]})),
        (
            "work/payload",
            json!({"type": "script", "source": {"from": "blob", "digest": ABSENT}, "args": vec!["a"; 257]}),
        ),
    ] {
        case(&format!("{pointer} {value}"), field(pointer, value.clone()), 422, "bad_job");
    }
    for url in ["file:///etc/passwd", "ftp://example.org/x", "http://user:secret@example.org/x"] {
        case(url, source(json!({"from": "url", "url": url})), 422, "bad_job");
    }
    for bad in [
        json!({"from": "url", "url": "not a url"}),
        json!({"from": "url", "url": "http://x/", "checksum": "md5:1"}),
        json!({"from": "disk"}),
    ] {
        case(&bad.to_string(), source(bad.clone()), 400, "bad_json");
    }
    for digest in ["sha256:00", "../../../etc/passwd", "md5:d41d8cd98f00b204e9800998ecf8427e"] {
        case(digest, source(json!({"from": "blob", "digest": digest})), 400, "bad_json");
    }
    case("unknown blob", source(json!({"from": "blob", "digest": ABSENT})), 422, "unknown_blob");
    case("unknown repository", field("work/repository", json!("other.example.org")), 422, "unknown_repository");
    case("unknown dependency", field("/dependencies", json!([{"job_id": Uuid::now_v7()}])), 422, "unknown_dependency");
    case("itself", itself, 422, "bad_job");
    case("a cycle", json!([first, second]), 422, "bad_dependencies");
    case("the same id twice", json!([one, one]), 422, "bad_dependencies");
    case("no jobs", json!([]), 422, "bad_submission");
    case("too many", Value::Array((0..10_001).map(|_| good()).collect()), 422, "bad_submission");
    for field in ["id", "name", "work"] {
        case(&format!("no {field}"), without(field), 400, "bad_json");
    }
    for other in [json!(null), json!(true), json!(1), json!("job"), json!([1]), json!([[good()]]), json!({})] {
        case(&other.to_string(), other.clone(), 400, "bad_json");
    }

    assert!(cases.len() >= 60, "{}", cases.len());
    for (name, job, status, code) in cases {
        refused(&name, &target.http.post("/api/v1/jobs", job.to_string().as_bytes()), status, code);
    }
    // A good job in bad company is refused with it.
    let company = json!([good(), field("/attempts", json!(0))]);
    refused("all or none", &target.http.post("/api/v1/jobs", company.to_string().as_bytes()), 422, "bad_job");
    let id = company[0]["id"].as_str().unwrap();
    refused("never accepted", &target.http.get(&format!("/api/v1/jobs/{id}")), 404, "not_found");
    target.stays_unharmed();
}

#[test]
fn an_id_is_never_given_to_another_job() {
    let target = Target::start();
    let mut first = good();
    first["dependencies"] = json!([]);
    assert_eq!(target.http.post("/api/v1/jobs", first.to_string().as_bytes()).status, 201);
    assert_eq!(target.http.post("/api/v1/jobs", first.to_string().as_bytes()).status, 200);
    first["name"] = json!("another");
    refused("same id", &target.http.post("/api/v1/jobs", first.to_string().as_bytes()), 409, "different_job");
    target.ended(first["id"].as_str().unwrap().parse().unwrap());
}
