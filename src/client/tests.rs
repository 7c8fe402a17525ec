//! The client against a server that misbehaves on demand.

use std::sync::Arc;
use std::time::Duration;

use super::stub::{Reply, Stub, ended_text, event_text, job_json, standing_text};
use super::*;
use crate::domain::digest::Sha256Digest;
use crate::domain::ids::JobId;
use crate::domain::job::state::StateKind;
use crate::domain::token::Token;

const JOB: &str = "01900000-0000-7000-8000-000000000001";
const OTHER: &str = "01900000-0000-7000-8000-000000000002";
const SUBMISSION: &str = "01900000-0000-7000-8000-0000000000ff";

fn id(text: &str) -> JobId {
    text.parse().unwrap()
}

fn refusal(code: &str) -> String {
    format!(r#"{{"error":{{"code":"{code}","message":"no","hint":"do so"}}}}"#)
}

#[test]
fn an_address_must_be_plain() {
    assert_eq!(Client::new("http://h:1/", None).unwrap().url(), "http://h:1");
    let prefixed = Client::new("https://h/conveyor", None).unwrap();
    assert_eq!(prefixed.route(&["jobs"]).as_str(), "https://h/conveyor/api/v1/jobs");
    for bad in ["", "host:8080", "ftp://h", "http://h/?a=b", "http://u:pw@h/", "http://u:pw@:x", "unix:", "unix:s"] {
        let error = Client::new(bad, None).unwrap_err();
        assert!(matches!(error, ClientError::Address { .. }), "{bad:?}");
        assert!(!format!("{error} {error:?}").contains("pw"), "{error}");
    }
}

#[tokio::test]
async fn a_call_outlives_a_restart_and_carries_the_token() {
    let stub = Stub::start(|number, _| match number {
        0 => Reply::Cut,
        1 => Reply::Json(503, refusal("starting")),
        _ => Reply::Json(200, job_json(JOB, SUBMISSION, r#""queued""#)),
    })
    .await;
    let job = stub.client().job(id(JOB)).await.unwrap();
    assert_eq!(job.state, StateKind::Queued);
    assert_eq!(stub.lines(), vec![format!("GET /api/v1/jobs/{JOB}"); 3]);
    assert!(stub.requests().iter().all(|request| request.head.contains("authorization: bearer s3cret")));
}

#[tokio::test]
async fn a_refusal_is_not_repeated_and_says_what_the_server_says() {
    let stub = Stub::start(|_, _| Reply::Json(409, refusal("already_ended"))).await;
    let error = stub.client().cancel(id(JOB)).await.unwrap_err();
    assert_eq!(
        (error.status(), error.code(), error.hint().as_deref()),
        (Some(409), Some("already_ended"), Some("do so"))
    );
    assert_eq!(error.to_string(), "cannot cancel the job: no (already_ended)");
    assert_eq!(stub.lines().len(), 1);
}

#[tokio::test]
async fn what_may_not_happen_twice_is_sent_once() {
    for torn in [false, true] {
        let reply = move || if torn { Reply::Torn(200, "{\"id\":1}".into()) } else { Reply::Cut };
        let stub = Stub::start(move |_, _| reply()).await;
        let error = stub.client().retry(id(JOB), true).await.unwrap_err();
        assert!(error.is_unreachable());
        assert_eq!(stub.lines(), [format!("POST /api/v1/jobs/{JOB}/retry?with_dependents=true")]);
    }
}

#[tokio::test]
async fn an_answer_that_is_cut_off_in_its_middle_is_asked_for_again() {
    let torn = |whole: &str| {
        let whole = whole.to_owned();
        move |number: usize, _: &_| match number {
            0 => Reply::Torn(200, whole.clone()),
            _ => Reply::Headers(200, "", whole.clone()),
        }
    };
    let stub = Stub::start(torn(&job_json(JOB, SUBMISSION, r#""queued""#))).await;
    assert_eq!(stub.client().job(id(JOB)).await.unwrap().state, StateKind::Queued);
    assert_eq!(stub.lines().len(), 2);
    let stub = Stub::start(torn("what it said")).await;
    assert_eq!(stub.client().log(id(JOB), None, None).await.unwrap(), "what it said");
    let stub = Stub::start(torn("hello")).await;
    let (to, received) = (tempfile::NamedTempFile::new().unwrap(), crate::domain::progress::Counters::default());
    assert_eq!(stub.client().download_blob(Sha256Digest::of(b"hello"), to.path(), &received).await.unwrap(), 5);
    assert_eq!((std::fs::read(to.path()).unwrap(), received.bytes()), (b"hello".to_vec(), 5));
}

#[tokio::test]
async fn a_socket_that_is_not_there_is_waited_for_and_one_that_is_closed_to_us_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let url = format!("unix:{}", path.display());
    let client = Client::new(&url, None).unwrap().with_retry_for(Duration::ZERO);
    assert_eq!(client.url(), url);
    let error = client.job(id(JOB)).await.unwrap_err();
    assert!(error.is_transient() && error.hint().unwrap().contains("there is no"), "{error:?}");
    drop(tokio::net::UnixListener::bind(&path).unwrap());
    let error = client.job(id(JOB)).await.unwrap_err();
    assert!(error.is_transient() && error.hint().unwrap().contains("nobody listens"), "{error:?}");
}

#[tokio::test]
async fn an_absent_server_is_named_with_the_cause_and_never_the_token() {
    let url = Stub::start(|_, _| Reply::Cut).await.url.clone();
    let client = Client::new(&url, Some(Token::new("s3cret").unwrap())).unwrap().with_retry_for(Duration::ZERO);
    let error = client.job(id(JOB)).await.unwrap_err();
    assert!(error.is_unreachable() && error.is_transient());
    assert!(error.to_string().contains(&url), "{error}");
    assert!(!format!("{error:?} {client:?}").contains("s3cret"));
}

#[tokio::test]
async fn an_answer_from_something_else_is_told_as_such() {
    let stub = Stub::start(|_, _| Reply::Headers(200, "", "<html>".into())).await;
    assert!(matches!(stub.client().job(id(JOB)).await, Err(ClientError::Answer { .. })));
    let stub = Stub::start(|_, _| Reply::Headers(301, "location: https://new/\r\n", String::new())).await;
    let error = stub.client().job(id(JOB)).await.unwrap_err();
    assert!(error.hint().unwrap().contains("https://new/"));
}

#[tokio::test]
async fn an_unknown_job_is_none_but_a_proxys_404_is_an_error() {
    let stub = Stub::start(|number, _| match number {
        0 => Reply::Json(404, refusal("unknown_job")),
        _ => Reply::Headers(404, "", "nginx".into()),
    })
    .await;
    assert_eq!(stub.client().find_job(id(JOB)).await.unwrap(), None);
    assert_eq!(stub.client().find_job(id(JOB)).await.unwrap_err().status(), Some(404));
}

#[tokio::test]
async fn a_listing_is_filtered_by_the_server() {
    let stub = Stub::start(|_, _| Reply::Json(200, r#"{"jobs":[],"next_cursor":null}"#.into())).await;
    let query = ListQuery {
        states: vec![StateKind::Queued, StateKind::Running],
        name: Some("a b&c".into()),
        labels: vec![("x".into(), "1".into()), ("y".into(), "2".into())],
        limit: Some(5),
        ..ListQuery::default()
    };
    stub.client().list(&query).await.unwrap();
    assert_eq!(stub.lines(), ["GET /api/v1/jobs?state=queued%2Crunning&name=a+b%26c&limit=5&label=x%3D1&label=y%3D2"]);
}

#[tokio::test]
async fn a_file_is_uploaded_anew_after_an_interruption_with_its_progress() {
    let content = vec![7_u8; 600_000];
    let digest = Sha256Digest::of(&content);
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), &content).unwrap();
    let reply = format!(r#"{{"digest":"{digest}","size":600000}}"#);
    let stub =
        Stub::start(move |number, _| if number == 0 { Reply::Cut } else { Reply::Json(201, reply.clone()) }).await;
    let sent = Arc::new(std::sync::atomic::AtomicU64::new(0));
    let seen = Arc::clone(&sent);
    let progress = Arc::new(move |bytes| seen.store(bytes, std::sync::atomic::Ordering::Relaxed));
    let stored = stub.client().put_blob_file(file.path(), digest, 600_000, progress).await.unwrap();
    assert_eq!(stored.size, 600_000);
    assert_eq!(sent.load(std::sync::atomic::Ordering::Relaxed), 600_000);
    assert_eq!(stub.requests()[1].body, content);
    assert_eq!(stub.lines()[1], format!("PUT /api/v1/blobs/{digest}"));
}

#[tokio::test]
async fn a_blob_is_verified_when_it_arrives() {
    let stub = Stub::start(|_, _| Reply::Headers(200, "", "hello".into())).await;
    let to = tempfile::NamedTempFile::new().unwrap();
    let received = crate::domain::progress::Counters::default();
    assert_eq!(stub.client().download_blob(Sha256Digest::of(b"hello"), to.path(), &received).await.unwrap(), 5);
    assert_eq!(std::fs::read(to.path()).unwrap(), b"hello");
    assert_eq!(received.bytes(), 5);
    let error = stub.client().download_blob(Sha256Digest::of(b"other"), to.path(), &received).await.unwrap_err();
    assert!(matches!(error, ClientError::Damaged { .. }));
}

#[tokio::test]
async fn a_gap_in_a_log_tells_where_to_go_on() {
    let stub = Stub::start(|number, _| match number {
        0 => Reply::Json(409, r#"{"error":{"code":"log_gap","message":"","hint":""},"end":40}"#.into()),
        1 => Reply::Json(200, r#"{"end":45}"#.into()),
        _ => Reply::Json(409, refusal("claim_lost")),
    })
    .await;
    let client = stub.client();
    let append =
        |offset| client.append_log(id(JOB).0.to_string().parse().unwrap(), id(OTHER), "tok", offset, "piece".into());
    assert_eq!(append(90).await.unwrap().end, 40);
    assert_eq!(append(40).await.unwrap().end, 45);
    assert_eq!(append(45).await.unwrap_err().code(), Some("claim_lost"));
    assert!(stub.requests()[0].head.contains("conveyor-claim: tok"));
    assert_eq!(stub.lines()[0], format!("PUT /api/v1/batches/{JOB}/jobs/{OTHER}/log?offset=90"));
}

#[tokio::test]
async fn a_log_is_followed_over_a_lost_connection_to_its_end() {
    let piece = |offset: u64, text: &str| {
        let after = offset + text.len() as u64;
        format!("id: 1:{after}\nevent: log\ndata: {{\"attempt\":1,\"offset\":{offset},\"text\":\"{text}\"}}\n\n")
    };
    let stub = Stub::start(move |number, _| match number {
        0 => Reply::Events(format!(": hello\n\n{}", piece(0, "one"))),
        1 => Reply::Json(503, refusal("starting")),
        _ => Reply::Events(format!("{}event: end\ndata: {{}}\n\n", piece(3, "two"))),
    })
    .await;
    let mut log = stub.client().follow_log(id(JOB), Some(1));
    let mut text = String::new();
    while let Some(piece) = log.next().await.unwrap() {
        text.push_str(&piece.text);
    }
    assert_eq!(text, "onetwo");
    assert!(stub.requests()[2].head.contains("last-event-id: 1:3"));
}

#[tokio::test]
async fn waiting_survives_a_restart_and_goes_on_where_it_was() {
    let done = r#""succeeded","revision":7,"root_hash":"ab""#;
    let stub = Stub::start(move |number, _| match number {
        0 => Reply::Events(
            standing_text(None, JOB, r#""queued""#)
                + "id: 3\nevent: synced\ndata: {}\n\n"
                + &event_text(4, JOB, SUBMISSION, r#""dependencies_met""#, "queued"),
        ),
        1 => Reply::Cut,
        2 => Reply::Events(": up again\n\n".to_owned()),
        _ => Reply::Events(standing_text(Some(8), JOB, done) + "id: 8\nevent: end\ndata: {}\n\n"),
    })
    .await;
    let mut seen = Vec::new();
    let wait = Wait { jobs: &[id(JOB)], submission: Some(SUBMISSION.parse().unwrap()), limit: None, ends: false };
    let client = stub.client();
    let waited = client.wait_for(wait, |change| {
        seen.push(match change {
            Change::Seen(job) => job.state,
            Change::Event(event) => event.state,
            Change::Progress(progress) => panic!("{progress:?}"),
        });
    });
    let waited = waited.await.unwrap();
    assert_eq!((waited.ended[0].state, waited.unknown), (StateKind::Succeeded, vec![]));
    assert_eq!(seen, [StateKind::Queued, StateKind::Queued, StateKind::Succeeded]);
    assert_eq!(stub.lines(), vec![format!("GET /api/v1/watch?submission={SUBMISSION}"); 4]);
    assert!(stub.requests()[1..].iter().all(|request| request.head.contains("last-event-id: 4")));
}

#[tokio::test]
async fn progress_is_passed_on_and_costs_neither_a_look_nor_the_place() {
    let done = r#""succeeded","revision":7,"root_hash":"ab""#;
    let progress = |step: &str| {
        format!(
            "event: progress\ndata: {{\"job_id\":\"{JOB}\",\"attempt\":1,\"step\":\"{step}\",\"files\":2,\"bytes\":9}}\n\n"
        )
    };
    let stub = Stub::start(move |number, _| match number {
        0 => Reply::Events(
            standing_text(None, JOB, r#""queued""#)
                + "id: 4\nevent: synced\ndata: {}\n\n"
                + &progress("staging")
                + &progress("of a newer server"),
        ),
        _ => Reply::Events(ended_text(JOB, done)),
    })
    .await;
    let mut told = Vec::new();
    let (client, jobs) = (stub.client(), [id(JOB)]);
    let wait = Wait { jobs: &jobs, submission: None, limit: None, ends: false };
    let waiting = client.wait_for(wait, |change| {
        if let Change::Progress(of) = change {
            told.push((of.job_id, of.progress.files, of.progress.bytes));
        }
    });
    assert_eq!(waiting.await.unwrap().ended[0].state, StateKind::Succeeded);
    assert_eq!(told, [(id(JOB), 2, 9)]);
    assert!(stub.requests()[1].head.contains("last-event-id: 4"));
    assert_eq!(stub.requests()[1].body, format!(r#"{{"jobs":["{JOB}"],"ends":false}}"#).as_bytes());
}

#[tokio::test]
async fn an_old_end_is_not_believed_and_a_reset_forgets_all() {
    let (failed, done) =
        (r#""failed","failure":{"code":"x","message":"y"}"#, r#""succeeded","revision":7,"root_hash":"ab""#);
    let stub = Stub::start(move |number, _| match number {
        0 => Reply::Events(standing_text(None, JOB, failed) + &standing_text(None, OTHER, failed)),
        _ => Reply::Events("event: reset\ndata: {}\n\n".to_owned() + &ended_text(JOB, done)),
    })
    .await;
    let wait = Wait { jobs: &[id(JOB), id(OTHER), id(JOB)], submission: None, limit: None, ends: true };
    let waited = stub.client().wait_for(wait, |_| {}).await.unwrap();
    assert_eq!(
        waited.ended.iter().map(|job| (job.job_id, job.state)).collect::<Vec<_>>(),
        [(id(JOB), StateKind::Succeeded)]
    );
    assert_eq!(stub.lines().len(), 2);
    assert!(!stub.requests()[1].head.contains("last-event-id"), "without `synced` all is told again");
}

#[tokio::test]
async fn an_unknown_job_keeps_nobody_waiting() {
    let done = r#""succeeded","revision":7,"root_hash":"ab""#;
    let unknown = format!("event: unknown\ndata: {{\"job_id\":\"{OTHER}\"}}\n\n");
    let stub = Stub::start(move |_, request| match request.line.starts_with("POST /api/v1/watch") {
        true => Reply::Events(unknown.clone() + &ended_text(JOB, done)),
        false => Reply::Json(404, refusal("unknown_job")),
    })
    .await;
    let jobs = [id(JOB), id(OTHER)];
    let wait = Wait { jobs: &jobs, submission: None, limit: None, ends: true };
    let waited = stub.client().wait_for(wait, |_| {}).await.unwrap();
    assert_eq!((waited.ended[0].job_id, waited.unknown), (id(JOB), vec![id(OTHER)]));
    let error = stub.client().wait(&jobs, None, None, |_| {}).await.unwrap_err();
    assert_eq!(error.code(), Some("unknown_job"));
}

#[tokio::test]
async fn waiting_ends_with_its_limit() {
    let stub = Stub::start(|_, _| Reply::Events(standing_text(None, JOB, r#""queued""#))).await;
    let error = stub.client().wait(&[id(JOB)], None, Some(Duration::from_millis(1)), |_| {}).await.unwrap_err();
    assert!(matches!(error, ClientError::WaitedTooLong { pending: 1, jobs: 1, .. }));
}
