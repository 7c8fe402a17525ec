//! A server and workers of a publisher node.

use std::ops::Deref;
use std::path::Path;
use std::process::Command;

use conveyor::domain::ids::JobId;
use conveyor::domain::job::spec::JobSpec;
use conveyor::domain::job::state::JobState;

use crate::harness::{Api, Daemon, Place, Program, job, packed, private, until};
use crate::site::{OtherPublisher, Setup, Site, Wire};

const TOKEN: &str = "token-of-the-integration-tests";

/// A repository, and a server for it without workers.
pub(super) struct Node {
    // Dropped in this order.
    server: Daemon,
    pub(super) api: Api,
    program: Program,
    pub(super) wire: Option<Wire>,
    pub(super) site: Site,
    base: Place,
}

impl Deref for Node {
    type Target = Api;
    fn deref(&self) -> &Api {
        &self.api
    }
}

impl Node {
    /// `None` where the machine cannot have it.
    pub(super) fn start(setup: Setup) -> Option<Self> {
        let site = Site::new(setup)?;
        let base = Place::new();
        private(&base.path().join("token"), TOKEN);
        let config = base.path().join("config.toml");
        private(&config, &text(base.path(), &site.name, setup.gateway, &site.command, &site.configuration));
        let program = Program::new(&config, base.path());
        let mut server = Daemon::start(&mut program.command(&["--debug", "server", "--listen", "127.0.0.1:0"]));
        let url = server.said("the server listens", |_, log| {
            let at = log.find("listening on http://")? + "listening on ".len();
            let line = log[at..].lines().next()?;
            Some(line.chars().take_while(|c| !c.is_whitespace() && *c != '\u{1b}').collect::<String>())
        });
        let wire = setup.gateway.then(|| {
            let wire = Wire::to(site.gateway_port());
            site.reach_gateway_at(wire.port());
            wire
        });
        Some(Self { server, api: Api::new(&url, TOKEN), program, wire, site, base })
    }

    pub(super) fn worker(&self) -> Daemon {
        self.worker_with("one", |_| {})
    }

    pub(super) fn worker_dying_at(&self, point: &str) -> Daemon {
        self.worker_with("one", |command| {
            command.env("CONVEYOR_CRASH_AT", point);
        })
    }

    /// A worker on another publisher of the repository.
    pub(super) fn worker_on(&self, other: &OtherPublisher, node: &str) -> Daemon {
        let config = self.base.path().join(format!("config-{node}.toml"));
        private(&config, &text(self.base.path(), &self.site.name, true, &other.command, &other.configuration));
        self.start_worker(&Program::new(&config, self.base.path()), node, |_| {})
    }

    pub(super) fn worker_with(&self, node: &str, prepare: impl FnOnce(&mut Command)) -> Daemon {
        self.start_worker(&self.program, node, prepare)
    }

    fn start_worker(&self, program: &Program, node: &str, prepare: impl FnOnce(&mut Command)) -> Daemon {
        let path = |name: &str| self.base.path().join(name).into_os_string().into_string().unwrap();
        let (state, temporary) = (path(&format!("worker-{node}")), path(&format!("tmp-{node}")));
        let arguments =
            ["--url", self.url(), "worker", "--node", node, "--state-dir", &state, "--temp-dir", &temporary];
        let mut command = program.command(&arguments);
        prepare(&mut command);
        Daemon::start(&mut command)
    }

    /// A job that publishes a file, with attempts to spare.
    pub(super) fn file(&self, path: &str, name: &str, content: &str) -> JobSpec {
        let mut spec = job(&self.site.name, path, self.tarball(packed(&[(name, content)])));
        spec.attempts = 10;
        spec
    }

    /// Waits until a job that is in nobody's hands says that it is for a reason with these words: what other tests do on this
    /// machine may hold it up as well.
    pub(super) fn until_held_up(&self, id: JobId, words: &[&str]) {
        until(&format!("the job is held up by {words:?}"), || match self.view(id).status {
            JobState::Backoff { reason, .. } => words.iter().all(|word| reason.contains(word)).then_some(()),
            JobState::Succeeded { .. } | JobState::Failed { .. } => panic!("{:?}", self.view(id).status),
            _ => None,
        })
    }

    /// Waits for the end of jobs, all of which must succeed; gives their revisions.
    #[track_caller]
    pub(super) fn all_succeed(&self, jobs: &[JobId]) -> Vec<u64> {
        let revision = |id: &JobId| {
            let ended = self.ended(*id);
            match ended.status {
                JobState::Succeeded { revision, .. } => revision,
                other => panic!("{other:?}\n{}\n{}", self.log(*id), self.server.stderr()),
            }
        };
        jobs.iter().map(revision).collect()
    }

    /// Nothing is left on the node, and each batch's tag has a revision and a root catalog of its own.
    #[track_caller]
    pub(super) fn assert_clean(&self) {
        until("the transaction has ended", || (!self.site.is_in_transaction()).then_some(()));
        let tags = self.site.batch_tags();
        let mut roots: Vec<_> = tags.iter().map(|tag| tag.root_hash.to_string()).collect();
        let mut revisions: Vec<_> = tags.iter().map(|tag| tag.revision).collect();
        roots.sort();
        roots.dedup();
        revisions.sort_unstable();
        revisions.dedup();
        assert_eq!((roots.len(), revisions.len()), (tags.len(), tags.len()), "{tags:?}");
        // Who publishes next finds the node in order.
        self.site.good(&["transaction", &self.site.name]);
        self.site.good(&["abort", "-f", &self.site.name]);
    }
}

fn text(base: &Path, name: &str, gateway: bool, command: &Path, configuration: &Path) -> String {
    let path = |name: &str| base.join(name);
    format!(
        "[client]\ntoken_file = {token:?}\n\n[server]\nstate_dir = {server:?}\ntoken_file = {token:?}\nclaim_expiry_s = 5\n\n\
         [worker]\ntoken_file = {token:?}\nslots = 1\npublisher = \"cvmfs-server\"\n\n\
         [cvmfs_server]\ncommand = {command:?}\nconfig_dir = {configuration:?}\nlease_reserve_s = 0\nremount_limit_s = 3\n\
         in_use_patience_s = 1\n\n[repositories.\"{name}\"]\ngateway = {gateway}\n{root}\n",
        token = path("token"),
        server = path("server"),
        root = if gateway { "batch_root = \"/batch\"" } else { "" },
    )
}
