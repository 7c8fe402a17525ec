//! Backups of a server that runs.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use conveyor::client::Client;
use conveyor::domain::job::spec::Payload;
use conveyor::domain::job::state::{JobState, StateKind};
use conveyor::domain::token::Token;

use crate::harness::{OTHER, REPOSITORY, Server, job};

/// Clients that submit at the same time.
const CLIENTS: usize = 64;

#[test]
fn what_was_accepted_before_a_backup_is_in_it_while_64_clients_submit() {
    let server = Server::start();
    let client = Client::new(server.url(), Some(Token::new(server.token()).unwrap())).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let accepted = Arc::new(std::sync::Mutex::new(BTreeSet::new()));
    let submitting: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let (client, stop, accepted) = (client.clone(), Arc::clone(&stop), Arc::clone(&accepted));
            runtime.spawn(async move {
                while !stop.load(Ordering::SeqCst) {
                    let spec = job(OTHER, "/x", Payload::Empty);
                    client.submit(std::slice::from_ref(&spec), None).await.unwrap();
                    accepted.lock().unwrap().insert(spec.id);
                }
            })
        })
        .collect();
    let copy = server.base().join("copy");
    crate::harness::until("some submissions", || (accepted.lock().unwrap().len() > CLIENTS).then_some(()));
    let before = accepted.lock().unwrap().clone();
    let said = server.program().good(&["backup", copy.to_str().unwrap()]).last();
    let after = accepted.lock().unwrap().len();
    stop.store(true, Ordering::SeqCst);
    for task in submitting {
        runtime.block_on(task).unwrap();
    }
    assert!(after > before.len(), "they went on while it was made");
    assert!(said["jobs"].as_u64().unwrap() >= before.len() as u64, "{said}");
    let back = server.base().join("back");
    let (copy, back) = (copy.to_str().unwrap(), back.to_str().unwrap());
    server.program().good(&["restore", copy, "--state-dir", back, "--go-on"]);
    for state in [copy, back, server.state().to_str().unwrap()] {
        let checked = server.program().good(&["check-db", "--verify", "--state-dir", state]).last();
        assert!(checked["sound"].as_bool().unwrap() && checked["jobs"].as_u64().unwrap() >= before.len() as u64);
    }
    let restored = conveyor::store::Store::open(std::path::Path::new(back)).unwrap();
    for id in before {
        let job = runtime.block_on(restored.read::<_, conveyor::store::StoreError, _>(move |db| db.job(id))).unwrap();
        assert!(job.is_some(), "job {id} was accepted before the backup and is not in it");
    }
}

#[test]
fn what_was_published_after_a_backup_is_not_published_again_after_a_restore() {
    let mut server = Server::start();
    let id = server.submit(job(REPOSITORY, "/x", Payload::Empty));
    let copy = server.base().join("copy");
    let copy = copy.to_str().unwrap().to_owned();
    server.program().good(&["backup", &copy]);
    let worker = server.worker("n1");
    assert_eq!(server.ended(id).state, StateKind::Succeeded);
    assert_eq!(server.publishes(), 1);

    // Not while it runs, and not onto what is there.
    let run = server.program().run(&["restore", &copy]);
    assert!(run.code == 1 && run.stderr.contains("not the leader"), "{run:?}");
    server.process().kill9();
    assert_eq!(server.program().run(&["restore", &copy]).code, 1);
    std::fs::rename(server.state(), server.base().join("lost")).unwrap();
    let said = server.program().good(&["restore", &copy]).last();
    assert_eq!((said["held_back"].as_u64(), said["recovering"].as_u64()), (Some(1), Some(0)));
    server.start_again(None);
    let held = server.view(id);
    assert!(matches!(&held.status, JobState::Failed { failure, .. } if failure.code == "restored"), "{held:?}");
    // Whoever has looked decides; and the server works on.
    let next = server.submit(job(REPOSITORY, "/y", Payload::Empty));
    assert_eq!(server.ended(next).state, StateKind::Succeeded);
    assert_eq!(server.publishes(), 2);
    drop(worker);
    server.program().good(&["check-db", "--verify"]);
}
