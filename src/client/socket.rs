//! What to do where a Unix socket does not let one in.

use std::error::Error;
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::unistd::{Gid, Group};

/// Why connecting failed, where that is known.
pub(super) fn cause(error: &(dyn Error + 'static)) -> Option<ErrorKind> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(io) = error.downcast_ref::<io::Error>() {
            return Some(io.kind());
        }
        cause = error.source();
    }
    None
}

/// The next step for whoever could not connect to the socket at `path`.
pub(super) fn hint(path: &Path, cause: Option<ErrorKind>) -> String {
    match cause {
        Some(ErrorKind::PermissionDenied) => denied(path),
        Some(ErrorKind::NotFound) => format!(
            "there is no {}; check the path ([server] listen, or ListenStream= of conveyor-server.socket) and that the \
             server runs on this machine",
            path.display()
        ),
        Some(ErrorKind::ConnectionRefused) => format!(
            "nobody listens on {}; check that the server runs: systemctl status conveyor-server.socket conveyor-server",
            path.display()
        ),
        _ => format!("check that the server runs: curl -i --unix-socket {} http://localhost/healthz", path.display()),
    }
}

/// Names what keeps us out, the socket or a directory above it, and the group that may pass.
fn denied(path: &Path) -> String {
    // The deepest that can be looked at: below it nothing is seen.
    let Some((at, metadata)) = path.ancestors().find_map(|at| Some((at, at.symlink_metadata().ok()?))) else {
        return "ask who runs the server for the right to connect".into();
    };
    let gid = Gid::from_raw(metadata.gid());
    let group = Group::from_gid(gid).ok().flatten().map_or_else(|| gid.to_string(), |group| group.name);
    format!(
        "{} lets in its owner and the group {group}: be a member of that (usermod -aG {group} USER, then log in anew), or use \
         the server's TCP address",
        at.display()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closed_door_is_named_with_the_group_that_has_the_key() {
        let hint = denied(Path::new("/dev/null/x"));
        assert!(hint.starts_with("/dev/null lets in its owner and the group root:"), "{hint}");
    }
}
