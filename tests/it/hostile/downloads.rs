//! Servers that payloads are fetched from.

use conveyor::domain::job::spec::{JobSpec, Payload, Source};
use url::Url;

use super::Target;
use crate::harness::{Origin, Page, Port, REPOSITORY, job, until};

fn fetching(url: Url, checksum: Option<&str>) -> JobSpec {
    let checksum = checksum.map(|text| text.parse().unwrap());
    let source = Source::Url { url, checksum };
    job(REPOSITORY, "/hostile", Payload::Script { source, args: Vec::new() })
}

#[test]
fn a_download_that_goes_wrong_fails_its_job_with_the_reason() {
    let target = Target::start();
    let origin = Origin::start();
    let script = b"#!/bin/sh\necho x >hostile/x\n".to_vec();
    let page = |path: &str, page: Page| origin.page(path, page);
    let status = |code: u16| page(&format!("/status/{code}"), Page::Status(code));
    page("/b", Page::Redirect("/a".into()));
    let nobody = Port::reserve();
    let gone = format!("http://{}/x", nobody.address()).parse().unwrap();

    let cases = [
        ("404", status(404), None, "404"),
        ("500", status(500), None, "500"),
        ("204", status(204), None, "204"),
        ("401", status(401), None, "401"),
        ("a loop", page("/a", Page::Redirect("/b".into())), None, "redirected more than"),
        ("to a file", page("/f", Page::Redirect("file:///etc/passwd".into())), None, "only http and https"),
        ("to nothing", page("/n", Page::Redirect("http://".into())), None, "redirect"),
        ("a short body", page("/short", Page::Short(script.clone())), None, "broke off"),
        ("nobody there", gone, None, "connect"),
        (
            "md5",
            page("/m", Page::Content(script.clone())),
            Some("md5:d41d8cd98f00b204e9800998ecf8427e"),
            "does not match its checksum",
        ),
        (
            "sha256",
            origin.url("/m"),
            Some("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
            "does not match its checksum",
        ),
    ];
    for (case, url, checksum, said) in cases {
        let failure = target.fail(fetching(url, checksum));
        assert_eq!(failure.code, "fetch_failed", "{case}: {failure:?}");
        assert!(failure.message.contains(said), "{case}: {}", failure.message);
    }
    target.stays_unharmed();
}

#[test]
fn a_url_that_delivers_something_else_at_the_next_attempt_fails_the_job() {
    let target = Target::start();
    let origin = Origin::start();
    let (fails, succeeds) = (b"#!/bin/sh\nexit 1\n".to_vec(), b"#!/bin/sh\necho x >hostile/x\n".to_vec());
    let url = origin.page("/changing", Page::Changing(fails, succeeds));
    let failure = target.fail(JobSpec { attempts: 3, ..fetching(url, None) });
    assert_eq!(failure.code, "source_changed", "{failure:?}");
    target.stays_unharmed();
}

#[test]
fn a_server_that_drips_costs_no_more_than_the_jobs_time() {
    let target = Target::start();
    let origin = Origin::start();
    let url = origin.page("/drip", Page::Drip);
    let failure = target.fail(JobSpec { timeout_s: 2, ..fetching(url.clone(), None) });
    assert_eq!(failure.code, "timed_out", "{failure:?}");

    // Nor does it keep a job from being cancelled.
    let id = target.submit(fetching(url, None));
    until("the download has begun", || (origin.requests() == 2).then_some(()));
    target.program().good(&["cancel", &id.to_string()]);
    assert_eq!(target.ended(id).state.as_str(), "cancelled");
    target.stays_unharmed();
}
