//! Ends what a script left running: its group, its session, and processes that left both but kept its environment.

use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill, killpg};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;
use tokio::process::Child;

use super::MARKER;

/// Rounds of looking and killing; each catches what was forked during the one before.
const ROUNDS: u32 = 200;
/// Pause between rounds, for the killed to go.
const PAUSE: Duration = Duration::from_millis(10);

/// Kills until nothing is left, and waits for the script itself.
pub(super) async fn end(session: Option<Pid>, marker: &str, child: &mut Child) -> std::io::Result<()> {
    if let Some(session) = session {
        match killpg(session, Signal::SIGKILL) {
            Ok(()) | Err(Errno::ESRCH) => {}
            Err(error) => return Err(error.into()),
        }
    }
    child.wait().await?;
    let wanted = format!("{MARKER}={marker}");
    for _ in 0..ROUNDS {
        let (session, wanted) = (session, wanted.clone());
        let left = tokio::task::spawn_blocking(move || find(session, wanted.as_bytes()))
            .await
            .map_err(std::io::Error::other)??;
        if left.is_empty() {
            return Ok(());
        }
        for pid in left {
            let _ = kill(pid, Signal::SIGKILL);
            // It is ours to wait for once its parent is gone (see `adopt_leftovers`).
            let _ = waitpid(pid, Some(WaitPidFlag::WNOHANG));
        }
        tokio::time::sleep(PAUSE).await;
    }
    Err(std::io::Error::other("processes of the script do not end, although they were killed"))
}

/// The living processes of a session or with this variable.
fn find(session: Option<Pid>, variable: &[u8]) -> std::io::Result<Vec<Pid>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc")? {
        let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse::<i32>().ok()).map(Pid::from_raw) else {
            continue;
        };
        // A process may end while it is looked at.
        let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else { continue };
        // Fields after the name, which is in parentheses and may contain anything: state, parent, group, session.
        let mut fields = stat.rsplit(')').next().unwrap_or_default().split_ascii_whitespace();
        let is_zombie = fields.next() == Some("Z");
        let of_session = fields.nth(2).and_then(|field| field.parse().ok()).map(Pid::from_raw);
        let is_ours = (session.is_some() && of_session == session)
            || std::fs::read(format!("/proc/{pid}/environ"))
                .is_ok_and(|environment| environment.split(|b| *b == 0).any(|v| v == variable));
        if is_ours && is_zombie {
            let _ = waitpid(pid, Some(WaitPidFlag::WNOHANG));
        } else if is_ours {
            found.push(pid);
        }
    }
    Ok(found)
}
