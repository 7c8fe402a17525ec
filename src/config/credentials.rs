//! What systemd hands over with `LoadCredential=`: files in a directory that only the unit's account can look into.

use std::path::PathBuf;

use super::Config;

/// The credential that is the default of `token_file` in `[server]` and `[worker]`.
pub(super) const TOKEN: &str = "token";
/// The credential that is the default of `password_file` in `[broker]`.
pub(super) const BROKER_PASSWORD: &str = "broker-password";

impl Config {
    /// Where this process was given credentials.
    pub(super) fn credentials_directory(&self) -> Option<PathBuf> {
        self.environment.get("CREDENTIALS_DIRECTORY").map(PathBuf::from)
    }

    /// The file of a credential that this process was given.
    pub(super) fn credential(&self, name: &str) -> Option<PathBuf> {
        self.credentials_directory().map(|directory| directory.join(name)).filter(|path| path.exists())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

    use super::*;
    use crate::config::{Environment, ServerFlags, WorkerFlags};

    fn file(path: &Path, mode: u32, text: &str) {
        std::fs::write(path, text).unwrap();
        std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
    }

    fn config(text: &str, variables: &[(&str, &Path)]) -> Config {
        let text_of = |path: &Path| path.to_str().unwrap().to_owned();
        let mut environment = Environment::default();
        for (name, value) in variables {
            environment.set(name, &text_of(value));
        }
        Config::parse(Path::new("c.toml"), text, environment).unwrap()
    }

    #[test]
    fn credentials_are_defaults_of_both_daemons_and_are_hidden() {
        let dir = tempfile::tempdir().unwrap();
        let given = dir.path().join("credentials");
        std::fs::create_dir(&given).unwrap();
        // As systemd makes them: for root 0400, for others 0440 with an access list.
        file(&given.join("token"), 0o400, "token-of-the-credential\n");
        file(&given.join("broker-password"), 0o400, "password-of-the-credential\n");
        std::fs::set_permissions(&given, PermissionsExt::from_mode(0o500)).unwrap();
        let broker = "[broker]\nurl = \"amqp://mq\"\nuser = \"u\"\n";
        let there = [("CREDENTIALS_DIRECTORY", given.as_path())];
        let read = config(broker, &there);
        let server = read.server(&ServerFlags::default()).unwrap();
        assert_eq!(server.token.unwrap().expose(), "token-of-the-credential");
        assert_eq!(server.broker.unwrap().password.expose(), "password-of-the-credential");
        let worker = read.worker(&WorkerFlags::default()).unwrap();
        assert_eq!(worker.client.token.unwrap().expose(), "token-of-the-credential");
        assert!(worker.secrets.contains(&given));

        let other = dir.path().join("other");
        file(&other, 0o440, "token-of-the-setting\n");
        let set = config(&format!("[server]\ntoken_file = {other:?}\n[worker]\ntoken_file = {other:?}\n"), &there);
        let by_variable = config("", &[there[0], ("CONVEYOR_TOKEN_FILE", &other)]);
        let flags = ServerFlags { token_file: Some(other.clone()), ..ServerFlags::default() };
        let by_flag = config("", &there).server(&flags).unwrap().token;
        let server = |config: &Config| config.server(&ServerFlags::default()).unwrap().token;
        let worker = |config: &Config| config.worker(&WorkerFlags::default()).unwrap().client.token;
        for token in [server(&set), worker(&set), server(&by_variable), worker(&by_variable), by_flag] {
            assert_eq!(token.unwrap().expose(), "token-of-the-setting");
        }
        // Clients are people's; a worker's own token goes before theirs.
        let shared = config(&format!("[client]\ntoken_file = {other:?}\n"), &there);
        assert_eq!(worker(&shared).unwrap().expose(), "token-of-the-credential");
        assert_eq!(shared.client(&Default::default()).unwrap().token.unwrap().expose(), "token-of-the-setting");
        // A unit without them is as if there were no unit.
        std::fs::set_permissions(&given, PermissionsExt::from_mode(0o700)).unwrap();
        std::fs::remove_file(given.join("token")).unwrap();
        assert!(server(&config("", &there)).is_none());
    }
}
