//! Changes of a token list. Comments in it stay.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use anyhow::{Context as _, bail};
use jiff::Timestamp;
use nix::fcntl::{Flock, FlockArg};

use crate::config::{parse_token_list, read_token_list};
use crate::domain::access::{TokenId, TokenRecord};

#[derive(serde::Serialize)]
struct Entry<'a> {
    token: [&'a TokenRecord; 1],
}

/// Adds a token; makes the file where it is absent, for its owner only.
pub(super) fn add(path: &Path, token: TokenRecord) -> anyhow::Result<TokenRecord> {
    token.validate()?;
    let _one_at_a_time = lock(path)?;
    let before = match read_token_list(path) {
        Ok(_) => std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?,
        Err(crate::config::ConfigError::Read { source, .. }) if source.kind() == ErrorKind::NotFound => {
            "# Who may do what. Made by `conveyor token create --file`; a token's secret is not in here.\n".into()
        }
        Err(error) => return Err(error.into()),
    };
    let entry = toml::to_string(&Entry { token: [&token] })?;
    let text = format!("{}\n\n{entry}", before.trim_end());
    parse_token_list(path, &text)?;
    replace(path, &text)?;
    Ok(token)
}

/// Marks a token as revoked. Once more is no error.
pub(super) fn revoke(path: &Path, id: &TokenId, now: Timestamp) -> anyhow::Result<TokenRecord> {
    let _one_at_a_time = lock(path)?;
    let find = |tokens: Vec<TokenRecord>| tokens.into_iter().find(|token| token.id == *id);
    let Some(token) = find(read_token_list(path)?) else { bail!("it is not in {}", path.display()) };
    if token.revoked_at.is_some() {
        return Ok(token);
    }
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let is_id = |line: &str| {
        let value = line.trim().strip_prefix("id").map(str::trim_start).and_then(|rest| rest.strip_prefix('='));
        let value = value.map(|value| value.split('#').next().unwrap_or_default().trim());
        value.is_some_and(|value| value.trim_matches(['"', '\'']) == id.as_str())
    };
    let lines = text.lines().flat_map(|line| {
        let mark = is_id(line).then(|| format!("revoked_at = \"{now:.0}\"\n"));
        [format!("{line}\n"), mark.unwrap_or_default()]
    });
    let text: String = lines.collect();
    // Whoever wrote it otherwise than we do must change it by hand.
    match parse_token_list(path, &text).map(find) {
        Ok(Some(token)) if token.revoked_at.is_some() => {
            replace(path, &text)?;
            Ok(token)
        }
        _ => bail!("its entry in {} is not written as expected; remove it there by hand", path.display()),
    }
}

fn lock(path: &Path) -> anyhow::Result<Flock<File>> {
    // The directory, since the file itself is replaced.
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let folder = File::open(folder).with_context(|| format!("cannot open {}", folder.display()))?;
    Flock::lock(folder, FlockArg::LockExclusive)
        .map_err(|(_, why)| anyhow::Error::from(why))
        .with_context(|| format!("cannot lock the directory of {}", path.display()))
}

/// Puts a new text in the place of the old one, whole or not at all. Mode and owner stay.
fn replace(path: &Path, text: &str) -> anyhow::Result<()> {
    let target = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let mut next = target.clone().into_os_string();
    next.push(".next");
    let write = || {
        let before = std::fs::metadata(&target).ok();
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&next)?;
        if let Some(before) = before {
            use std::os::unix::fs::MetadataExt;
            file.set_permissions(std::fs::Permissions::from_mode(before.mode() & 0o777))?;
            // Only root can give a file away; for others it is theirs in any case.
            let _ = std::os::unix::fs::fchown(&file, Some(before.uid()), Some(before.gid()));
        }
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&next, &target)
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::domain::access::{Role, Roles, TokenDigest};

    fn token(number: u8) -> TokenRecord {
        let id = TokenId::new(&format!("{number:012}")).unwrap();
        TokenRecord {
            name: "me".parse().unwrap(),
            roles: Roles::new([Role::Submit, Role::Worker]).unwrap(),
            sha256: TokenDigest::of("secret"),
            note: "with \"quotes\" = and # more".into(),
            created_at: Some("2026-03-01T12:00:00Z".parse().unwrap()),
            created_by: None,
            expires_at: Some("2027-03-01T12:00:00Z".parse().unwrap()),
            revoked_at: None,
            last_used_at: None,
            id,
        }
    }

    #[test]
    fn what_is_added_is_read_again_and_comments_stay() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokens.toml");
        add(&path, token(1)).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let text = std::fs::read_to_string(&path).unwrap() + "# the CI's:\n";
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        add(&path, token(2)).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
        let read = read_token_list(&path).unwrap();
        assert_eq!(read.len(), 2);
        for (found, made) in read.iter().zip([token(1), token(2)]) {
            assert_eq!(
                (&found.id, &found.name, &found.roles, &found.note),
                (&made.id, &made.name, &made.roles, &made.note)
            );
            assert!(found.sha256.is(&made.sha256) && found.expires_at == made.expires_at);
        }
        let revoked = revoke(&path, &token(2).id, Timestamp::UNIX_EPOCH).unwrap();
        assert!(revoked.revoked_at.is_some());
        let again = revoke(&path, &token(2).id, Timestamp::now()).unwrap();
        assert_eq!(again.revoked_at, revoked.revoked_at);
        let read = read_token_list(&path).unwrap();
        assert_eq!(read.iter().map(|token| token.revoked_at.is_some()).collect::<Vec<_>>(), [false, true]);
        assert!(std::fs::read_to_string(&path).unwrap().contains("# the CI's:\n"));
        assert!(revoke(&path, &token(3).id, Timestamp::now()).is_err());
        assert!(add(&path, token(2)).is_err() && read_token_list(&path).is_ok(), "the same id twice");
    }

    #[test]
    fn what_cannot_be_trusted_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokens.toml");
        add(&path, token(1)).unwrap();
        let good = std::fs::read_to_string(&path).unwrap();
        for (bad, why) in [
            (good.replace("roles = ", "scope = \"/a\"\nroles = "), "a limit that this version does not know"),
            (good.replace("\"submit\"", "{role = \"submit\"}"), "a role with a limit"),
            (good.replace("\"submit\"", "\"root\""), "an unknown role"),
            (good.replace("sha256:", "md5:"), "another hash"),
            (good.replace("000000000001", "bootstrap"), "the bootstrap token's id"),
        ] {
            std::fs::write(&path, bad).unwrap();
            assert!(read_token_list(&path).is_err(), "{why}");
        }
        std::fs::write(&path, good).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o602)).unwrap();
        assert!(read_token_list(&path).unwrap_err().hint().unwrap().contains("chmod"));
    }
}
