use std::fs;
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;

use super::*;

/// Longer than any test: what comes sooner was told by the kernel.
const LONG: Duration = Duration::from_secs(3600);

async fn soon<T>(waiting: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), waiting).await.unwrap()
}

fn replace(directory: &std::path::Path, content: &str) {
    fs::write(directory.join("new"), content).unwrap();
    fs::rename(directory.join("new"), directory.join(".cvmfspublished")).unwrap();
}

#[tokio::test]
async fn a_file_that_is_replaced_is_seen_at_once_also_where_its_directory_comes_later() {
    let root = tempfile::tempdir().unwrap();
    let directory = root.path().join("srv/cvmfs/a.example.org");
    let mut watcher = Watcher::new(Place::Directory(directory.clone()), LONG).unwrap();
    let making = async {
        // The watcher is polled first, and waits.
        tokio::task::yield_now().await;
        fs::create_dir_all(&directory).unwrap();
        replace(&directory, "one");
    };
    let (seen, ()) = soon(async { tokio::join!(biased; watcher.next(), making) }).await;
    assert_eq!(seen.unwrap(), b"one");
    replace(&directory, "two");
    assert_eq!(soon(watcher.next()).await.unwrap(), b"two");
    fs::write(directory.join(".cvmfspublished"), "three").unwrap();
    assert_eq!(soon(watcher.next()).await.unwrap(), b"three");
    // All of it goes, and comes back.
    fs::rename(root.path().join("srv"), root.path().join("old")).unwrap();
    fs::remove_dir_all(root.path().join("old")).unwrap();
    fs::create_dir_all(&directory).unwrap();
    replace(&directory, "four");
    assert_eq!(soon(watcher.next()).await.unwrap(), b"four");
}

#[tokio::test]
async fn without_the_kernel_a_file_is_looked_at_now_and_then_and_what_is_none_is_told() {
    let root = tempfile::tempdir().unwrap();
    let mut watcher = Watcher::new(Place::Directory(root.path().into()), Duration::from_millis(10)).unwrap();
    let Eye::Directory(directory) = &mut watcher.eye else { panic!() };
    directory.is_deaf = true;
    replace(root.path(), "one");
    assert_eq!(soon(watcher.next()).await.unwrap(), b"one");
    replace(root.path(), "two");
    assert_eq!(soon(watcher.next()).await.unwrap(), b"two");
    watcher.forget();
    assert_eq!(soon(watcher.next()).await.unwrap(), b"two", "nothing came of it");
    replace(root.path(), &"x".repeat(MAX_MANIFEST as usize + 1));
    let error = soon(watcher.next()).await.unwrap_err();
    assert!(error.to_string().contains("no manifest"), "{error}");
    replace(root.path(), "three");
    assert_eq!(soon(watcher.next()).await.unwrap(), b"three");
}

/// What the origin says, and what it was asked.
#[derive(Default)]
struct Origin {
    status: AtomicU16,
    manifest: Mutex<String>,
    tag: Mutex<Option<(&'static str, String)>>,
    full: AtomicUsize,
    unchanged: AtomicUsize,
}

async fn origin(State(origin): State<Arc<Origin>>, headers: HeaderMap) -> impl IntoResponse + use<> {
    assert_eq!(headers["cache-control"], "no-cache");
    let status = StatusCode::from_u16(origin.status.load(Ordering::SeqCst)).unwrap();
    let tag = origin.tag.lock().unwrap().clone();
    let mut answer = HeaderMap::new();
    if let Some((kind, value)) = tag {
        let ask = if kind == "etag" { "if-none-match" } else { "if-modified-since" };
        if status == StatusCode::OK && headers.get(ask).is_some_and(|asked| asked == value.as_str()) {
            origin.unchanged.fetch_add(1, Ordering::SeqCst);
            return (StatusCode::NOT_MODIFIED, answer, String::new());
        }
        answer.insert(kind, value.parse().unwrap());
    }
    origin.full.fetch_add(1, Ordering::SeqCst);
    (status, answer, origin.manifest.lock().unwrap().clone())
}

#[tokio::test]
async fn a_page_is_fetched_where_it_changed_only_and_failures_are_told_and_outlived() {
    let state = Arc::new(Origin { status: AtomicU16::new(200), ..Origin::default() });
    let router = axum::Router::new()
        .route("/cvmfs/a.example.org/.cvmfspublished", axum::routing::get(origin))
        .with_state(Arc::clone(&state));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/cvmfs/a.example.org/", listener.local_addr().unwrap());
    let serving = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    let mut watcher = Watcher::new(Place::Url(url), Duration::from_millis(2)).unwrap();
    for (version, tag) in [("one", ("etag", "\"1\"")), ("two", ("last-modified", "Sat, 21 Nov 2020 20:00:00 GMT"))] {
        *state.manifest.lock().unwrap() = version.into();
        *state.tag.lock().unwrap() = Some((tag.0, tag.1.into()));
        assert_eq!(soon(watcher.next()).await.unwrap(), version.as_bytes());
        let (full, unchanged) = (state.full.load(Ordering::SeqCst), state.unchanged.load(Ordering::SeqCst));
        let seen_often = async {
            while state.unchanged.load(Ordering::SeqCst) < unchanged + 3 {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            () = soon(seen_often) => {}
            seen = watcher.next() => panic!("{seen:?}"),
        }
        assert_eq!(state.full.load(Ordering::SeqCst), full, "it was fetched again");
    }
    watcher.forget();
    assert_eq!(soon(watcher.next()).await.unwrap(), b"two", "nothing came of it");
    // Two versions of one second. The clock of this machine is that of the server.
    let same = jiff::Timestamp::now().saturating_add(jiff::SignedDuration::from_secs(3600)).unwrap();
    let same = same.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
    *state.tag.lock().unwrap() = Some(("last-modified", same));
    for version in ["first", "second"] {
        *state.manifest.lock().unwrap() = version.into();
        assert_eq!(soon(watcher.next()).await.unwrap(), version.as_bytes());
    }
    state.status.store(503, Ordering::SeqCst);
    let error = soon(watcher.next()).await.unwrap_err();
    assert!(error.to_string().contains("503"), "{error}");
    assert!(soon(watcher.next()).await.is_err());
    state.status.store(200, Ordering::SeqCst);
    *state.tag.lock().unwrap() = None;
    *state.manifest.lock().unwrap() = "x".repeat(MAX_MANIFEST as usize + 1);
    assert!(soon(watcher.next()).await.unwrap_err().to_string().contains("no manifest"));
    *state.manifest.lock().unwrap() = "three".into();
    assert_eq!(soon(watcher.next()).await.unwrap(), b"three");
    serving.abort();
}

#[test]
fn pauses_grow_with_failures_to_a_limit() {
    let mut watcher = Watcher::new(Place::Url("http://127.0.0.1:9".into()), Duration::from_secs(10)).unwrap();
    let near = |pause: Duration, seconds: f64| (seconds * 0.89..seconds * 1.11).contains(&pause.as_secs_f64());
    assert!(near(watcher.pause(), 10.0));
    watcher.failures = 2;
    assert!(near(watcher.pause(), 40.0));
    watcher.failures = u32::MAX;
    assert!(near(watcher.pause(), 900.0));
    watcher.every = Duration::from_secs(3600);
    assert!(near(watcher.pause(), 3600.0));
}
