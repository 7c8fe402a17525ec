//! Reading the settings again, and what of them a running daemon cannot follow.

use super::{Config, ConfigError, NotifyConfig, ServerConfig, WorkerConfig};

impl Config {
    /// Reads the same file again, with the environment of the start.
    pub fn again(&self) -> Result<Self, ConfigError> {
        Self::load(self.named.as_deref(), self.environment.clone())
    }

    /// What differs between two readings and says how to log, which is set up once.
    fn logging_differs(&self, other: &Self) -> Vec<&'static str> {
        let (debug, times) = (self.debug() != other.debug(), self.log_timestamps() != other.log_timestamps());
        named(&[("debug", debug), ("log_timestamps", times)])
    }

    /// The settings of a server that differ and need a restart, by their names in the file.
    pub fn server_needs_restart(&self, before: &ServerConfig, again: &Self, now: &ServerConfig) -> Vec<&'static str> {
        let mut found = named(&[
            ("[server] listen", before.listen != now.listen),
            ("[server] state_dir", before.state_dir != now.state_dir),
            ("[server] claim_expiry_s", before.claim_expiry != now.claim_expiry),
            ("[server] keys_dir", before.keys_dir != now.keys_dir),
            ("[broker]", before.broker != now.broker),
            ("[notify]; url, path, watch_s or notifiers of a repository", before.notify != now.notify),
        ]);
        found.extend(self.logging_differs(again));
        found
    }

    /// The settings of a service of notifications alone that differ and need a restart. `tokens` is where its tokens, keys and
    /// broker stand.
    pub fn notify_needs_restart(
        &self,
        (before, tokens): (&NotifyConfig, &ServerConfig),
        again: &Self,
        (now, tokens_now): (&NotifyConfig, &ServerConfig),
    ) -> Vec<&'static str> {
        let rest = |config: &NotifyConfig| NotifyConfig {
            listen: Vec::new(),
            state_dir: Default::default(),
            ..config.clone()
        };
        let mut found = named(&[
            ("[notify] listen", before.listen != now.listen),
            ("[notify] state_dir", before.state_dir != now.state_dir),
            ("[server] keys_dir", tokens.keys_dir != tokens_now.keys_dir),
            ("[broker]", tokens.broker != tokens_now.broker),
            ("[notify]; url, path, watch_s or notifiers of a repository", rest(before) != rest(now)),
        ]);
        found.extend(self.logging_differs(again));
        found
    }

    /// The settings of a worker that differ and need a restart, by their names in the file.
    pub fn worker_needs_restart(&self, before: &WorkerConfig, again: &Self, now: &WorkerConfig) -> Vec<&'static str> {
        let mut found = named(&[
            ("[worker] server", before.client.url != now.client.url),
            ("[worker] token_file", before.client.token != now.client.token),
            ("[worker] node", before.node != now.node),
            ("[worker] fleet", before.fleet != now.fleet),
            ("[worker] state_dir", before.state_dir != now.state_dir),
            ("[worker] temp_dir", before.temp_dir != now.temp_dir),
            ("[worker] repositories_dir", before.repositories_dir != now.repositories_dir),
            ("[worker] keys_dir", before.keys_dir != now.keys_dir),
            ("[worker] run_as", before.run_as != now.run_as),
            ("[worker] isolation", before.isolation != now.isolation),
            ("[worker] publisher, [cvmfs_server]", before.publisher != now.publisher),
            ("[worker] offers, [broker]", before.offers != now.offers),
            ("the files with secrets", before.secrets != now.secrets),
        ]);
        found.extend(self.logging_differs(again));
        found
    }
}

impl ServerConfig {
    /// Takes over what can change while a server runs.
    pub fn follow(&mut self, now: Self) {
        self.token = now.token;
        self.tokens = now.tokens;
        self.submitter_is_owner = now.submitter_is_owner;
        self.anonymous_read = now.anonymous_read;
        self.recovery_limit = now.recovery_limit;
        self.visible_urls = now.visible_urls;
        self.max_blob_bytes = now.max_blob_bytes;
        self.retention = now.retention;
        self.batches = now.batches;
        self.repositories = now.repositories;
    }
}

impl WorkerConfig {
    /// Takes over what can change while a worker runs.
    pub fn follow(&mut self, now: Self) {
        self.slots = now.slots;
        self.repositories = now.repositories;
        self.drain_timeout = now.drain_timeout;
        self.whitelist_warning_days = now.whitelist_warning_days;
    }
}

fn named(differences: &[(&'static str, bool)]) -> Vec<&'static str> {
    differences.iter().filter(|(_, differs)| *differs).map(|(name, _)| *name).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::config::{Environment, ServerFlags, WorkerFlags};

    fn read(path: &std::path::Path, text: &str) -> Config {
        std::fs::write(path, text).unwrap();
        Config::load(Some(path), Environment::default()).unwrap()
    }

    #[test]
    fn what_needs_a_restart_is_named_and_what_does_not_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.toml");
        let password = dir.path().join("password");
        std::fs::write(&password, "one").unwrap();
        std::fs::set_permissions(&password, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        let broker = format!("[broker]\nurl = \"amqp://mq\"\nuser = \"u\"\npassword_file = {password:?}\n");
        let first = read(&path, &broker);
        let (flags, worker_flags) = (ServerFlags::default(), WorkerFlags::default());
        let (server, worker) = (first.server(&flags).unwrap(), first.worker(&worker_flags).unwrap());
        let compare = |text: &str| {
            std::fs::write(&path, text).unwrap();
            let again = first.again().unwrap();
            let of_server = first.server_needs_restart(&server, &again, &again.server(&flags).unwrap());
            (of_server, first.worker_needs_restart(&worker, &again, &again.worker(&worker_flags).unwrap()))
        };
        assert_eq!(compare(&broker), (vec![], vec![]));
        let follows = "[batches]\nmax_jobs = 3\n[retention]\njobs_days = 2\n[repositories.\"a.b\"]\n[server]\nanonymous_read = true\nvisible_urls = [\"*\"]\n\
                       [worker]\nslots = 9\ndrain_timeout_s = 3\nwhitelist_warning_days = 1\nrepositories = [\"a.b\"]\n";
        assert_eq!(compare(&format!("{broker}{follows}")), (vec![], vec![]));
        let not = "debug = true\n[server]\nlisten = [\"127.0.0.1:1\"]\nstate_dir = \"/x\"\nclaim_expiry_s = 7\nkeys_dir = \"/k\"\n[worker]\nfleet = \"f\"\n";
        let (of_server, of_worker) = compare(not);
        let wanted = [
            "[server] listen",
            "[server] state_dir",
            "[server] claim_expiry_s",
            "[server] keys_dir",
            "[broker]",
            "debug",
        ];
        assert_eq!(of_server, wanted);
        assert_eq!(of_worker, ["[worker] fleet", "[worker] offers, [broker]", "the files with secrets", "debug"]);
        let (flags, alone) = (&flags, |config: &Config| config.notify_alone(&[], None).unwrap().notify);
        let of_notify = |text: &str| {
            std::fs::write(&path, text).unwrap();
            let again = first.again().unwrap();
            let now = (&alone(&again), &again.server(flags).unwrap());
            first.notify_needs_restart((&alone(&first), &server), &again, now)
        };
        assert_eq!(of_notify(&format!("{broker}[server]\nanonymous_read = true\n")), [""; 0]);
        let others = "[notify]; url, path, watch_s or notifiers of a repository";
        let not = "[notify]\nlisten = [\"127.0.0.1:1\"]\nopen_publish = true\n";
        assert_eq!(of_notify(not), ["[notify] listen", "[broker]", others]);
        // The same file with another password in it.
        std::fs::write(&password, "two").unwrap();
        assert_eq!(compare(&broker), (vec!["[broker]"], vec!["[worker] offers, [broker]"]));
    }
}
