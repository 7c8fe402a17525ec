//! Jobs that wait until replicas serve their revision, and `conveyor wait-revision`, against replicas that lag, go back, lie,
//! are slow, or are down.

use conveyor::cvmfs::hash::Algorithm;
use conveyor::cvmfs::signature::Letter;
use conveyor::domain::job::spec::{Dependency, JobSpec, Payload};
use conveyor::domain::job::state::{JobState, StateKind};
use url::Url;

use crate::harness::{Dev, Origin, Page, REPOSITORY, Served, Server, job, packed, until};

const MANIFEST: &str = "/cvmfs/test.example.org/.cvmfspublished";

/// A development server and a replica of its repository, which lags when it is told to.
struct Site {
    dev: Dev,
    replica: Origin,
}

impl Site {
    fn start() -> Self {
        let dev = Dev::start();
        let replica = Origin::before(dev.url());
        Self { dev, replica }
    }

    /// The repository's manifest as it is now.
    fn manifest(&self) -> Vec<u8> {
        std::fs::read(self.dev.state().join("repositories").join(REPOSITORY).join(".cvmfspublished")).unwrap()
    }

    /// Lets the replica serve only what there is now, or something else.
    fn stop_at(&self, manifest: Vec<u8>) {
        self.replica.page(MANIFEST, Page::Content(manifest));
    }

    fn base(&self) -> Url {
        self.replica.url("/cvmfs/test.example.org")
    }

    fn stratum0(&self) -> Url {
        format!("{}/cvmfs/{REPOSITORY}", self.dev.url()).parse().unwrap()
    }

    fn job(&self, within_s: u32, more: &[Url]) -> JobSpec {
        let visible_at = [self.stratum0(), self.base()].into_iter().chain(more.iter().cloned()).collect();
        let spec = job(REPOSITORY, "/x", Payload::Empty);
        JobSpec { visible_at, visible_within_s: Some(within_s), ..spec }
    }

    /// Waits until what is known of the replica contains this.
    fn heard(&self, id: conveyor::domain::ids::JobId, what: &str) {
        until(what, || {
            let view = self.dev.view(id);
            assert!(!view.state.is_final(), "{:?}", view.status);
            let replica = view.replicas.into_iter().find(|replica| replica.url == self.base())?;
            replica.serving().contains(what).then_some(())
        });
    }
}

/// A manifest that says something else, with the hash of that and without the key.
fn forged(manifest: &[u8], from: &str, to: &str) -> Vec<u8> {
    let body = Letter::parse(manifest, "manifest").unwrap().body().replace(from, to);
    let hash = Algorithm::Sha1.hash(body.as_bytes());
    format!("{body}--\n{hash}\nno signature").into_bytes()
}

#[test]
fn a_job_succeeds_once_its_replicas_serve_its_revision_and_holds_nothing_up_meanwhile() {
    let mut site = Site::start();
    let before = site.dev.publish(job(REPOSITORY, "/x", Payload::Empty));
    let old = site.manifest();
    site.stop_at(old.clone());
    let id = site.dev.submit(site.job(3600, &[]));
    let behind = Dependency { job_id: id, condition: Default::default() };
    let dependent = site.dev.submit(JobSpec { dependencies: vec![behind], ..job(REPOSITORY, "/y", Payload::Empty) });
    site.heard(id, &format!("revision {before}"));
    let view = site.dev.view(id);
    let said = view.progress.unwrap().to_string();
    assert_eq!(said, format!("1 of 2 replicas serves revision {}", before + 1));
    let run = site.dev.program().good(&["check", &id.to_string()]);
    assert!(run.last()["remark"].as_str().unwrap().contains(&said), "{run:?}");
    assert_eq!((&run.last()["state"], &run.last()["revision"]), (&"distributing".into(), &(before + 1).into()));

    // Its batch is over, and the next goes on.
    assert_eq!(site.dev.publish(job(REPOSITORY, "/x", Payload::Empty)), before + 2);
    let run = site.dev.program().run(&["cancel", &id.to_string()]);
    assert!(run.code == 1 && run.stderr.contains("is published"), "{run:?}");
    let publishes = site.dev.publishes();

    // It is in the database; what replicas serve is asked anew.
    site.dev.kill9();
    site.dev.start_again();
    site.heard(id, &format!("revision {before}"));
    // Lies, and silence.
    site.stop_at(b"junk".to_vec());
    site.heard(id, "nothing that counts");
    site.stop_at(forged(&old, "Ntest.example.org", "Nfest.example.org"));
    site.heard(id, "\"fest.example.org\"");
    site.stop_at(forged(&old, &format!("\nS{before}\n"), "\nS999\n"));
    site.heard(id, "another key");
    site.replica.page(MANIFEST, Page::Status(503));
    site.heard(id, "503");
    site.replica.page(MANIFEST, Page::Redirect(site.stratum0().to_string() + "/.cvmfspublished"));
    site.heard(id, "302");
    // Back where it was.
    site.stop_at(old);
    site.heard(id, &format!("revision {before}"));
    assert_eq!(site.dev.view(dependent).state, StateKind::Waiting);

    // A newer one is as good.
    site.stop_at(site.manifest());
    let ended = site.dev.ended(id);
    assert!(matches!(ended.status, JobState::Succeeded { revision, unchanged: false, .. } if revision == before + 1));
    assert_eq!(site.dev.ended(dependent).state, StateKind::Succeeded);
    assert_eq!(site.dev.publishes(), publishes + 1, "only the dependent was published since");
}

#[test]
fn what_is_not_visible_in_time_has_failed_says_so_and_a_retry_publishes_nothing() {
    let site = Site::start();
    let before = site.dev.publish(job(REPOSITORY, "/x", Payload::Empty));
    site.stop_at(site.manifest());
    let dead = { Origin::start().url("/cvmfs/test.example.org") };
    let spec = site.job(1, std::slice::from_ref(&dead));
    let work = job(REPOSITORY, "/x", site.dev.tarball(packed(&[("a", "1")]))).work;
    let id = site.dev.submit(JobSpec { work, ..spec });
    let ended = site.dev.ended(id);
    let JobState::Failed { failure, published } = &ended.status else { panic!("{ended:?}") };
    assert_eq!((failure.code.as_str(), published.as_ref().unwrap().revision), ("not_visible", before + 1));
    let lacking = format!("{} serves revision {before}", site.base());
    for part in [&format!("published as revision {}", before + 1), &lacking, dead.as_str()] {
        assert!(failure.message.contains(part), "{part}: {failure:?}");
    }
    assert!(!failure.message.contains(&site.stratum0().to_string()), "{failure:?}");
    let publishes = site.dev.publishes();

    let run = site.dev.program().good(&["retry", &id.to_string()]);
    assert_eq!(run.last()["state"], "distributing");
    let again = site.dev.ended(id);
    assert!(matches!(&again.status, JobState::Failed { published: Some(_), .. }), "{again:?}");
    assert_eq!((again.attempt, site.dev.publishes()), (ended.attempt, publishes));
    let reverted = site.dev.program().good(&["revert", &id.to_string(), "--wait"]);
    assert_eq!(reverted.last()["state"], "succeeded", "it is published, so it can be undone");
}

#[test]
fn what_changed_nothing_waits_for_the_revision_that_it_was_compared_with() {
    let site = Site::start();
    let nothing = || job(REPOSITORY, "/x", Payload::Delete { paths: vec!["/x/absent".into()] });
    let spec = JobSpec { visible_at: vec![site.base()], ..nothing() };
    let ended = site.dev.ended(site.dev.submit(spec));
    assert!(matches!(ended.status, JobState::Succeeded { unchanged: true, .. }), "{ended:?}");
}

#[test]
fn waiting_for_a_revision_ends_when_all_serve_it_or_says_who_does_not() {
    let site = Site::start();
    let before = site.dev.publish(job(REPOSITORY, "/x", Payload::Empty));
    site.stop_at(site.manifest());
    let revision = site.dev.publish(job(REPOSITORY, "/x", Payload::Empty));
    let key = site.dev.state().join(format!("{REPOSITORY}.pub"));
    let wait = |timeout: &str, more: &[&str]| {
        let (number, at) = (revision.to_string(), [site.stratum0().to_string(), site.base().to_string()]);
        let arguments = ["wait-revision", REPOSITORY, &number, "--at", &at[0], &at[1], "--timeout", timeout];
        site.dev.program().run(&[&arguments, more].concat())
    };
    let run = wait("2", &["--key", key.to_str().unwrap(), "--output", "table"]);
    assert_eq!(run.code, 75, "{run:?}");
    assert!(run.stderr.contains(&format!("{} serves revision {before}", site.base())), "{run:?}");
    let run = wait("2", &["--output", "json"]);
    let serves: Vec<_> = run.lines().iter().map(|line| line["serves"].clone()).collect();
    assert_eq!((run.code, serves), (75, vec![true.into(), false.into()]), "{run:?}");

    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| wait("300", &["--key", key.to_str().unwrap(), "--output", "table"]));
        let asked = site.replica.requests();
        until("it was asked", || (site.replica.requests() > asked).then_some(()));
        site.stop_at(site.manifest());
        let run = waiting.join().unwrap();
        assert_eq!(run.code, 0, "{run:?}");
        assert!(run.stdout.contains(&format!("2 of 2 replicas serve revision {revision}")), "{run:?}");
    });

    let other = Dev::start();
    let foreign = other.state().join(format!("{REPOSITORY}.pub"));
    let run = wait("2", &["--key", foreign.to_str().unwrap(), "--output", "table"]);
    assert!(run.code == 75 && run.stderr.contains("another key"), "{run:?}");
    // Without a URL the stratum 0 is asked, which the server knows.
    let run = site.dev.program().run(&["wait-revision", REPOSITORY, &revision.to_string(), "--timeout", "60"]);
    assert_eq!((run.code, run.last()["url"].as_str()), (0, Some(site.stratum0().as_str())), "{run:?}");
    let run = site.dev.program().run(&["wait-revision", "other.example.org", "1", "--timeout", "1"]);
    assert!(run.code == 1 && run.stderr.contains("without --at"), "{run:?}");
    let at = site.stratum0().to_string();
    let run = site.dev.program().run(&["wait-revision", "other.example.org", "1", "--timeout", "1", "--at", &at]);
    assert!(run.code == 75 && run.stderr.contains(&format!("of the repository {REPOSITORY:?}")), "{run:?}");
}

#[test]
fn a_job_that_waits_outlives_a_backup_a_kill_and_a_restore() {
    let mut server = Server::start();
    server.configure_server("visible_urls = [\"*\"]");
    server.crash_and_restart();
    let repositories = server.base().join("repositories");
    let manifest = || std::fs::read(repositories.join(REPOSITORY).join(".cvmfspublished")).unwrap();
    let served = Served::new(&repositories);
    let replica = Origin::before(served.url());
    replica.page(MANIFEST, Page::Content(manifest()));
    let mut worker = server.worker("one");
    let visible_at = vec![replica.url("/cvmfs/test.example.org")];
    let id = server.submit(JobSpec { visible_at, ..job(REPOSITORY, "/x", Payload::Empty) });
    let waits = |server: &Server| {
        until("it waits for its replica", || {
            let view = server.view(id);
            assert!(!view.state.is_final(), "{view:?}");
            (view.replicas.first()?.revision == Some(1)).then_some(())
        });
    };
    waits(&server);
    let copy = server.base().join("copy");
    let copy = copy.to_str().unwrap().to_owned();
    server.program().good(&["backup", &copy]);
    for state in [&copy, server.state().to_str().unwrap()] {
        let checked = server.program().good(&["check-db", "--verify", "--state-dir", state]).last();
        assert_eq!(checked["sound"], true, "{checked}");
    }
    let publishes = server.publishes();

    worker.kill9();
    server.kill9();
    std::fs::rename(server.state(), server.base().join("lost")).unwrap();
    let said = server.program().good(&["restore", &copy]).last();
    assert_eq!((said["held_back"].as_u64(), said["recovering"].as_u64()), (Some(0), Some(0)), "it is published");
    server.start_again(None);
    waits(&server);
    replica.page(MANIFEST, Page::Content(manifest()));
    assert_eq!(server.ended(id).state, StateKind::Succeeded, "no worker is needed for it");
    assert_eq!(server.publishes(), publishes);
    server.program().good(&["check-db", "--verify"]);

    // This server was not told where repositories are.
    let run = server.run(&["wait-revision", REPOSITORY, "1", "--timeout", "60"]);
    assert!(run.code == 2 && run.stderr.contains("--at"), "{run:?}");
    server.configure(&format!("[notify]\nrepository_url = \"{}/cvmfs/@fqrn@\"\n", served.url()));
    server.crash_and_restart();
    let run = server.run(&["wait-revision", REPOSITORY, "2", "--timeout", "60"]);
    assert_eq!((run.code, run.last()["revision"].as_u64()), (0, Some(2)), "{run:?}");
    server.kill9();
    let run = server.run(&["--retry-for", "0", "wait-revision", REPOSITORY, "2", "--timeout", "60"]);
    assert_eq!(run.code, 69, "{run:?}");
}
