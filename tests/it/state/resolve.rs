//! A job that only a person can settle, with real processes.

use conveyor::domain::job::state::{JobState, StateKind};

use crate::harness::{REPOSITORY, Server, job, until};

#[test]
fn a_person_settles_what_no_node_can_find_out() {
    for (point, was_published) in [("worker.published", true), ("worker.permitted", false)] {
        let mut server = Server::start();
        server.process().terminate();
        server.configure_server("recovery_limit_s = 1");
        server.start_again(None);
        let mut worker = server.worker_dying_at("one", point);
        let id = server.submit(job(REPOSITORY, "/x", server.script("echo x >>x/x")));
        worker.wait();
        // Its repository cannot be read: the disk is away, say.
        let (there, away) = (server.base().join("repositories").join(REPOSITORY), server.base().join("away"));
        std::fs::rename(&there, &away).unwrap();
        let _worker = server.worker("one");
        until("a person is asked", || (server.view(id).state == StateKind::NeedsOperator).then_some(()));
        let asked = server.run(&["check", &id.to_string()]);
        assert!(asked.stdout.contains("needs_operator"), "{asked:?}");
        std::fs::rename(&away, &there).unwrap();
        // What the history says, as the advice tells to look.
        let shown = server.program().good(&["repository", "show", REPOSITORY]).last();
        let tag = shown["tags"].as_array().unwrap().iter().find(|tag| tag["name"].as_str().unwrap().starts_with("cj-"));
        assert_eq!(tag.is_some(), was_published, "{shown}");
        let run = match tag {
            Some(tag) => {
                let said = tag["revision"].to_string();
                server.run(&["resolve", &id.to_string(), "--published", &said, "-m", "looked"])
            }
            None => server.run(&["resolve", &id.to_string(), "--not-published", "-m", "looked"]),
        };
        // The node may have looked first, now that it can.
        assert!(
            run.code == 0 || run.stderr.contains("needs_no_operator") || run.stderr.contains("succeeded"),
            "{run:?}"
        );
        let ended = server.ended(id);
        assert_eq!(ended.state, StateKind::Succeeded, "{ended:?}");
        assert!(matches!(ended.status, JobState::Succeeded { .. }));
        assert_eq!(server.publishes(), 1);
        assert_eq!(server.run(&["submit", "-r", REPOSITORY, "-p", "", "--wait"]).code, 0, "the repository goes on");
    }
}
