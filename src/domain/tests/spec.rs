use proptest::prelude::*;
use serde_json::{Value, json};

use super::{job_id, spec};
use crate::domain::job::spec::JobSpec;
use crate::domain::job::spec::{Payload, Work};
use crate::domain::names::LeasePath;
use crate::domain::visible::VisibleUrls;

/// The good job with one field replaced.
fn with(field: &str, value: Value) -> Value {
    let mut job = serde_json::to_value(spec(1)).unwrap();
    let mut place = &mut job;
    for part in field.split('.') {
        place = &mut place[part];
    }
    *place = value;
    job
}

/// What is said to this job: `None` when it is accepted.
fn complaint(job: Value) -> Option<String> {
    match serde_json::from_value::<JobSpec>(job) {
        Err(error) => Some(format!("json: {error}")),
        Ok(spec) => spec.validate().err().map(|error| error.to_string()),
    }
}

fn url(url: &str) -> Value {
    json!({"type": "tarball", "source": {"from": "url", "url": url}})
}

fn delete(paths: Value) -> Value {
    json!({"type": "delete", "paths": paths})
}

#[test]
fn hostile_and_careless_values_are_refused_with_the_field_that_is_wrong() {
    let dependency = |number| json!({"job_id": job_id(number)});
    let many_labels: serde_json::Map<String, Value> = (0..33).map(|n| (format!("k{n}"), json!("v"))).collect();
    let script = |args: Value| json!({"type": "script", "args": args, "source": {"from": "url", "url": "http://h/s"}});
    let cases = [
        ("id", json!("not a uuid"), "json"),
        ("id", json!("00000000-0000-0000-0000-000000000000"), "id"),
        ("id", json!("f47ac10b-58cc-4372-a567-0e02b2c3d479"), "id"),
        ("name", json!(""), "name"),
        ("name", json!("   "), "name"),
        ("name", json!("a\u{1b}[31mred"), "name"),
        ("name", json!("line\nbreak"), "name"),
        ("name", json!("n".repeat(201)), "name"),
        ("priority", json!(101), "priority"),
        ("priority", json!(-101), "priority"),
        ("priority", json!(1e30), "json"),
        ("attempts", json!(0), "attempts"),
        ("attempts", json!(101), "attempts"),
        ("attempts", json!(-1), "json"),
        ("timeout_s", json!(0), "timeout_s"),
        ("timeout_s", json!(604_801), "timeout_s"),
        ("submitter", json!("a\u{0}b"), "submitter"),
        ("labels", Value::Object(many_labels), "labels"),
        ("labels", json!({"": "v"}), "labels"),
        ("labels", json!({"a b": "v"}), "labels"),
        ("labels", json!({"a": "\u{7}"}), "labels"),
        ("labels", json!({"a": "v".repeat(257)}), "labels"),
        ("dependencies", json!([dependency(1)]), "dependencies"),
        ("dependencies", json!([dependency(2), dependency(2)]), "dependencies"),
        ("dependencies", json!([{"job_id": job_id(2), "condition": "maybe"}]), "json"),
        ("work.kind", json!("destroy"), "json"),
        ("work.repository", json!("../../etc"), "json"),
        ("work.repository", json!("-rf.example.org"), "json"),
        ("work.repository", json!("a.org; rm -rf /"), "json"),
        ("work.lease_path", json!("/../other"), "json"),
        ("work.lease_path", json!("/a\u{0}b"), "json"),
        ("work.payload", url("file:///etc/shadow"), "payload.source.url"),
        ("work.payload", url("ftp://h/x"), "payload.source.url"),
        ("work.payload", url("https://user:secret@h/x"), "payload.source.url"),
        ("work.payload", url("https://token@h/x"), "payload.source.url"),
        ("work.payload", url("not a url"), "json"),
        ("work.payload", json!({"type": "tarball", "source": {"from": "blob", "digest": "sha256:12"}}), "json"),
        ("work.payload", json!({"type": "empty", "surprise": 1}), "json"),
        ("work.payload", script(json!(["a\u{0}b"])), "payload.args"),
        ("work.payload", script(json!(vec!["a"; 257])), "payload.args"),
        ("work.payload", script(json!(["a".repeat(4097)])), "payload.args"),
        ("work.payload", delete(json!([])), "payload.paths"),
        ("work.payload", delete(json!(["/"])), "payload.paths"),
        ("work.payload", delete(json!(["."])), "payload.paths"),
        ("work.payload", delete(json!(["/rel/../../x"])), "payload.paths"),
        ("work.payload", delete(json!(["/other/x"])), "payload.paths"),
        ("work.payload", delete(json!(["/release/x"])), "payload.paths"),
        ("work.payload", delete(json!(vec!["/rel/x"; 10_001])), "payload.paths"),
        ("unknown", json!(1), "json"),
        ("work.unknown", json!(1), "json"),
    ];
    for (field, value, wanted) in cases {
        let shown = value.to_string().chars().take(80).collect::<String>();
        let Some(said) = complaint(with(field, value)) else { panic!("{field} = {shown} was accepted") };
        let names_it =
            if wanted == "json" { said.starts_with("json: ") } else { said.contains(&format!("): {wanted} ")) };
        assert!(names_it, "{field} = {shown}: {said}");
        assert!(said.len() < 700, "{field}: a complaint of {} bytes", said.len());
    }
}

#[test]
fn values_at_the_limits_are_accepted() {
    for (field, value) in [
        ("name", json!("ü".repeat(200))),
        ("priority", json!(-100)),
        ("attempts", json!(100)),
        ("timeout_s", json!(604_800)),
        ("labels", json!({"a/b.c-d_E9": "any text: ünïcode"})),
        ("dependencies", json!([{"job_id": job_id(2)}, {"job_id": job_id(3), "condition": "always"}])),
        ("work.payload", url("https://h:8443/x?y=z#f")),
        ("work.payload", delete(json!(["/rel", "rel/x", "/rel//y/"]))),
    ] {
        assert_eq!(complaint(with(field, value)), None, "{field}");
    }
    assert_eq!(complaint(serde_json::to_value(spec(1)).unwrap()), None);
}

#[test]
fn defaults_are_what_the_documents_say() {
    let spec = spec(1);
    assert_eq!((spec.attempts, spec.timeout_s, spec.priority), (4, 7200, 0));
}

proptest! {
    #[test]
    fn a_spec_means_the_same_after_its_json(name in "\\PC{1,20}", priority in -100..=100i32) {
        let spec = JobSpec { name, priority, ..spec(1) };
        let text = serde_json::to_string(&spec).unwrap();
        prop_assert_eq!(serde_json::from_str::<JobSpec>(&text).unwrap(), spec);
    }

    #[test]
    fn what_is_deleted_never_lies_outside_the_lease_path(path in "[a./]{0,12}", lease in "(/[a.]{1,3}){0,2}") {
        let Ok(lease) = LeasePath::new(&lease) else { return Ok(()) };
        if let Ok(paths) = Payload::delete_paths(&[path], &lease) {
            let inside = format!("/{}/", paths[0]);
            prop_assert!(lease.as_str() == "/" || inside.starts_with(&format!("{lease}/")), "{inside} of {lease}");
            prop_assert!(inside.split('/').all(|part| part != ".."));
            prop_assert!(!paths[0].is_base());
        }
    }
}

#[test]
fn the_urls_that_a_job_waits_for_must_be_bases_of_a_repository() {
    let with = |urls: &[&str], within: Option<u32>| {
        let visible_at = urls.iter().map(|url| url.parse().unwrap()).collect();
        JobSpec { visible_at, visible_within_s: within, ..spec(1) }.validate().map_err(|error| error.to_string())
    };
    let a = "http://a.example.org/cvmfs/x";
    assert_eq!(with(&[a, "https://b.example.org:8000/cvmfs/x"], Some(1)), Ok(()));
    let many: Vec<String> = (0..17).map(|number| format!("{a}{number}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    for (urls, within, why) in [
        (&["file:///etc/passwd"][..], None, "only http and https"),
        (&["http://me:secret@a.example.org/x"], None, "user or password"),
        (&["http://a.example.org/x?y"], None, "without ?"),
        (&[a, a], None, "twice"),
        (&many, None, "at most 16"),
        (&[], Some(5), "names no URL"),
        (&[a], Some(0), "between 1 and"),
    ] {
        let error = with(urls, within).unwrap_err();
        assert!(error.contains(why), "{urls:?}: {error}");
        assert!(!error.contains("secret"), "{error}");
    }
    let mut dry = JobSpec { visible_at: vec![a.parse().unwrap()], ..spec(1) };
    let Work::Publish(publish) = &mut dry.work;
    publish.dry_run = true;
    assert!(dry.validate().is_err());
}

#[test]
fn a_url_is_allowed_below_one_that_is_named_and_nowhere_else() {
    let allowed = |texts: &[&str], url: &str| {
        let texts: Vec<_> = texts.iter().map(|text| (*text).to_owned()).collect();
        VisibleUrls::parse(&texts).unwrap().allows(&url.parse().unwrap())
    };
    let base = "http://a.example.org/cvmfs/";
    assert!(allowed(&[base], "http://a.example.org/cvmfs/x") && allowed(&["http://a.example.org"], base));
    assert!(allowed(&["*"], "http://127.0.0.1/"));
    for other in [
        "http://a.example.org/cvmfsx",
        "http://a.example.org/cvmfs/../x",
        "http://a.example.org/cvmfs/%2e%2e/x",
        "http://a.example.org:81/cvmfs/x",
        "https://a.example.org/cvmfs/x",
        "http://a.example.org.evil.org/cvmfs/x",
    ] {
        assert!(!allowed(&[base], other), "{other}");
    }
    assert!(!allowed(&[], base));
    assert!(VisibleUrls::parse(&["ftp://a.example.org".into()]).is_err());
    assert!(VisibleUrls::parse(&["a.example.org".into()]).is_err());
}
