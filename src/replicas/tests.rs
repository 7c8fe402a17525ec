//! The poller against servers that misbehave.

use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, Response, header};
use jiff::Timestamp;

use super::*;
use crate::cvmfs::tests::support::{NAME, Sandbox};

/// A repository, and a server of it that misbehaves when it is told to.
struct Site {
    sandbox: Sandbox,
    server: Arc<Server>,
    base: Url,
}

struct Server {
    root: std::path::PathBuf,
    manners: Mutex<Manners>,
    /// How often it was asked for the manifest.
    asked: AtomicUsize,
}

/// What is answered for the manifest.
#[derive(Clone)]
enum Manners {
    /// As it lies there.
    Good,
    /// With one tag, whatever it says.
    SameTag,
    /// These bytes.
    Says(Vec<u8>),
    /// This status, and where else to look.
    Status(u16),
    /// Bytes without an end.
    Endless,
    /// A head that promises ever so much.
    Huge,
    /// Nothing, and the connection stays.
    Silent,
}

impl Site {
    async fn new() -> Self {
        Self::of(Sandbox::at(Timestamp::now().as_second())).await
    }

    async fn of(sandbox: Sandbox) -> Self {
        let root = sandbox.root().join(NAME);
        let server = Arc::new(Server { root, manners: Mutex::new(Manners::Good), asked: AtomicUsize::new(0) });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}/cvmfs/{NAME}", listener.local_addr().unwrap()).parse().unwrap();
        let router = Router::new().fallback(answer).with_state(Arc::clone(&server));
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { sandbox, server, base }
    }

    fn behave(&self, manners: Manners) {
        *self.server.manners.lock().unwrap() = manners;
    }

    fn asked(&self) -> usize {
        self.server.asked.load(Ordering::SeqCst)
    }

    fn manifest(&self) -> Vec<u8> {
        std::fs::read(self.server.root.join(".cvmfspublished")).unwrap()
    }

    fn target(&self) -> Target {
        Target { repository: name(), base: self.base.clone() }
    }

    fn asker(&self) -> Asker {
        Asker::new(Keys::Directory(self.sandbox.keys())).unwrap()
    }
}

async fn answer(
    State(server): State<Arc<Server>>,
    headers: HeaderMap,
    uri: axum::http::Uri,
) -> Result<Response<Body>, Infallible> {
    let file = uri.path().splitn(4, '/').nth(3).unwrap_or_default();
    let content = std::fs::read(server.root.join(file)).unwrap_or_default();
    let built = Response::builder();
    if file != ".cvmfspublished" {
        return Ok(built.body(Body::from(content)).unwrap());
    }
    server.asked.fetch_add(1, Ordering::SeqCst);
    let manners = server.manners.lock().unwrap().clone();
    let endless = || futures_util::stream::repeat_with(|| Ok::<_, Infallible>(Bytes::from_static(&[b'C'; 1000])));
    Ok(match manners {
        Manners::Good => built.body(Body::from(content)),
        Manners::SameTag if headers.contains_key(header::IF_NONE_MATCH) => built.status(304).body(Body::empty()),
        Manners::SameTag => built.header(header::ETAG, "\"same\"").body(Body::from(content)),
        Manners::Says(content) => built.body(Body::from(content)),
        Manners::Status(code) => built.status(code).header(header::LOCATION, "/elsewhere").body(Body::empty()),
        Manners::Endless => built.body(Body::from_stream(endless())),
        Manners::Huge => built.header(header::CONTENT_LENGTH, 1_u64 << 40).body(Body::from_stream(endless())),
        Manners::Silent => std::future::pending().await,
    }
    .unwrap())
}

fn name() -> RepositoryName {
    RepositoryName::new(NAME).unwrap()
}

/// Without chance in its pauses.
fn poller(asker: Asker) -> Poller {
    Poller::new(asker, || 0.5)
}

fn later() -> Instant {
    Instant::now() + Duration::from_secs(3600)
}

#[test]
fn pauses_grow_with_the_time_that_nothing_happens_and_with_failures_up_to_a_limit() {
    let seconds = Duration::from_secs;
    assert_eq!(pause(seconds(0), 0), SHORTEST);
    assert_eq!(pause(seconds(60), 0), seconds(6));
    assert_eq!(pause(seconds(86_400), 0), LONGEST);
    assert_eq!(pause(seconds(0), 2), seconds(2));
    assert_eq!(pause(seconds(0), u32::MAX), LONGEST_AFTER_FAILURE);
}

#[tokio::test]
async fn where_something_moves_it_is_asked_often_again() {
    let mut poller = poller(Asker::new(Keys::These(Vec::new())).unwrap());
    let target = Target { repository: name(), base: "http://s1.example.org/cvmfs/x".parse().unwrap() };
    poller.want([(target.clone(), later())]);
    let began = Instant::now();
    let mut pause_after = |seconds: u64, served: Result<u64, &str>| {
        let place = poller.places.get_mut(&target).unwrap();
        let (memory, now) = (place.memory.take().unwrap(), began + Duration::from_secs(seconds));
        let answer = LastAnswer { asked: now, served: served.map_err(str::to_owned) };
        assert!(poller.note(Asked { target: target.clone(), memory, answer }, now));
        poller.places[&target].due - now
    };
    let seconds = Duration::from_secs;
    pause_after(0, Ok(6));
    assert_eq!(pause_after(100, Ok(6)).as_secs(), 10);
    assert_eq!(pause_after(110, Ok(7)), SHORTEST, "a revision came");
    assert_eq!(pause_after(130, Ok(7)), seconds(2));
    assert_eq!(pause_after(140, Err("gone")), seconds(1), "it went");
    assert_eq!(pause_after(141, Err("gone")), seconds(2));
    assert_eq!(pause_after(143, Err("gone")), seconds(4));
    assert_eq!(pause_after(147, Err("there, and it makes no sense")), seconds(1), "it came back");
    assert_eq!(pause_after(148, Ok(7)), SHORTEST);
    assert_eq!(pause_after(248, Ok(7)), seconds(10));
}

#[tokio::test]
async fn what_was_announced_is_asked_for_soon() {
    let mut poller = poller(Asker::new(Keys::These(Vec::new())).unwrap());
    let target =
        |of: &str| Target { repository: of.parse().unwrap(), base: "http://s1.example.org/x".parse().unwrap() };
    let (this, other) = (target(NAME), target("other.example.net"));
    let far = later();
    poller.want([(this.clone(), far), (other.clone(), far)]);
    for place in poller.places.values_mut() {
        place.due = far;
    }
    poller.expect_news(&name());
    assert!(poller.places[&this].due <= Instant::now() + SHORTEST);
    assert_eq!(poller.places[&other].due, far);
}

#[tokio::test]
async fn a_thousand_that_wait_for_one_url_ask_it_once() {
    let site = Site::new().await;
    let mut poller = poller(site.asker());
    let soon = Instant::now() + Duration::from_millis(100);
    let wanted: Vec<_> = (0..1000).map(|number| (site.target(), soon + Duration::from_micros(number))).collect();
    poller.want(wanted.clone());
    poller.next().await;
    // Those that were there before are nothing new.
    poller.want(wanted.clone());
    assert_eq!(site.asked(), 1);
    assert_eq!(poller.answers().next().unwrap().1.served, Ok(1));
    // Their time is over, and each has an answer from behind it.
    let over = |poller: &Poller| {
        let (_, last) = poller.answers().next().unwrap();
        wanted.iter().all(|(_, deadline)| last.asked >= *deadline)
    };
    while !over(&poller) {
        poller.next().await;
    }
    // One for the pause that may have been over before, one for the ends.
    assert!(site.asked() <= 3, "{}", site.asked());
}

#[tokio::test]
async fn one_that_is_slow_holds_up_no_other() {
    let (slow, quick) = (Site::new().await, Site::new().await);
    slow.behave(Manners::Silent);
    let mut asker = quick.asker();
    asker.patience = Duration::from_secs(3600);
    let mut poller = poller(asker);
    // As many of the slow host as are asked at a time, and more.
    let of_slow = |number: usize| Target { repository: name(), base: slow.base.join(&format!("{number}")).unwrap() };
    let of_slow = (0..2 * PER_HOST).map(of_slow).chain([slow.target()]);
    poller.want(of_slow.chain([quick.target()]).map(|target| (target, later())));
    for _ in 0..3 {
        poller.next().await;
        let answered: Vec<_> = poller.answers().map(|(target, _)| target.base.clone()).collect();
        assert_eq!(answered, std::slice::from_ref(&quick.base));
    }
    assert!(quick.asked() >= 3);
}

#[tokio::test]
async fn what_is_no_manifest_of_the_repository_is_no_answer_that_counts() {
    let site = Site::new().await;
    site.sandbox.publish("file", "content", "one");
    let good = site.manifest();
    let mut asker = site.asker();
    asker.patience = Duration::from_millis(300);
    let mut flipped = good.clone();
    *flipped.last_mut().unwrap() ^= 1;
    let text = String::from_utf8_lossy(&good).into_owned();
    let body = &text[..text.find("--\n").unwrap()];
    let says = |body: &str| {
        let hash = crate::cvmfs::hash::Algorithm::Sha1.hash(body.as_bytes());
        Manners::Says(format!("{body}--\n{hash}\nno signature").into_bytes())
    };
    // Memories of an answer that was good: a signature is looked at each time.
    let mut memory = Memory::default();
    assert_eq!(asker.ask(&name(), &site.base, &mut memory).await, Ok(2));
    for (manners, why) in [
        (Manners::Status(302), "it answers 302"),
        (Manners::Status(404), "there is no .cvmfspublished"),
        (Manners::Status(500), "it answers 500"),
        (Manners::Status(304), "it answers 304"),
        (Manners::Endless, "is longer than"),
        (Manners::Huge, "is longer than"),
        (Manners::Silent, "no answer within"),
        (Manners::Says(b"<!DOCTYPE html><html><body>Welcome</body></html>".to_vec()), "manifest"),
        (Manners::Says(Vec::new()), "manifest"),
        (Manners::Says(good[..good.len() / 2].to_vec()), "manifest"),
        (Manners::Says(flipped), "another key"),
        (says(&body.replace("\nS2\n", "\nS999\n")), "another key"),
        (says(&body.replace(NAME, "other.example.org")), "\"other.example.org\""),
    ] {
        site.behave(manners);
        for memory in [&mut Memory::default(), &mut memory.clone()] {
            let said = asker.ask(&name(), &site.base, memory).await;
            // A tag was never given, so that nothing is asked whether it changed.
            assert!(said.as_ref().is_err_and(|said| said.contains(why)), "{why}: {said:?}");
        }
    }
    site.behave(Manners::Good);
    assert_eq!(asker.ask(&name(), &site.base, &mut memory).await, Ok(2));
    let nobody: Url = "http://127.0.0.1:1/cvmfs/x".parse().unwrap();
    assert!(asker.ask(&name(), &nobody, &mut Memory::default()).await.unwrap_err().contains("cannot be asked"));
}

#[tokio::test]
async fn one_that_goes_back_says_so() {
    let site = Site::new().await;
    let old = site.manifest();
    site.sandbox.publish("file", "content", "one");
    let (asker, mut memory) = (site.asker(), Memory::default());
    assert_eq!(asker.ask(&name(), &site.base, &mut memory).await, Ok(2));
    site.behave(Manners::Says(old));
    assert_eq!(asker.ask(&name(), &site.base, &mut memory).await, Ok(1));
}

#[tokio::test]
async fn a_tag_that_does_not_change_with_its_file_is_seen_through() {
    let site = Site::new().await;
    site.behave(Manners::SameTag);
    let (asker, mut memory) = (site.asker(), Memory::default());
    assert_eq!(asker.ask(&name(), &site.base, &mut memory).await, Ok(1));
    site.sandbox.publish("file", "content", "one");
    let mut said = Vec::new();
    for _ in 0..5 {
        said.push(asker.ask(&name(), &site.base, &mut memory).await.unwrap());
    }
    assert_eq!(said, [1, 1, 1, 1, 2]);
}

#[tokio::test]
async fn a_key_is_looked_for_at_each_question() {
    let site = Site::new().await;
    let (asker, mut memory) = (site.asker(), Memory::default());
    let own = site.sandbox.keys().join(format!("{NAME}.pub"));
    let foreign = Sandbox::with_new_keys(Timestamp::now().as_second());
    std::fs::copy(foreign.keys().join(format!("{NAME}.pub")), &own).unwrap();
    assert!(asker.ask(&name(), &site.base, &mut memory).await.unwrap_err().contains("another key"));
    std::fs::write(&own, "no key").unwrap();
    let said = asker.ask(&name(), &site.base, &mut memory).await.unwrap_err();
    assert!(said.contains(&own.display().to_string()), "{said}");
    std::fs::remove_file(&own).unwrap();
    assert_eq!(asker.ask(&name(), &site.base, &mut memory).await, Ok(1), "without a key it is believed");
    // In the place where CernVM-FS has those of a domain.
    let domain = NAME.split_once('.').unwrap().1;
    std::fs::copy(foreign.keys().join(format!("{NAME}.pub")), site.sandbox.keys().join(format!("{domain}.pub")))
        .unwrap();
    assert!(asker.ask(&name(), &site.base, &mut Memory::default()).await.unwrap_err().contains("another key"));
}
