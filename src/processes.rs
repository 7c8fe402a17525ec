//! Finding and ending the processes that carry a mark in their environment: those of a script, or of a publish, also after
//! the worker that started them has died. Found are all that did not clear their environment.

use std::ffi::OsStr;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// How often it is looked whether they are gone.
const LOOK: Duration = Duration::from_millis(5);

/// The processes whose environment has `variable=value`, but for those that run a program of a name in `spared`.
pub(crate) fn marked(variable: &str, value: &str, spared: &[&str]) -> Vec<i32> {
    let mark = format!("{variable}={value}");
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|pid| {
        // Unreadable are those of other users, and those that have ended.
        std::fs::read(format!("/proc/{pid}/environ"))
            .is_ok_and(|environment| environment.split(|b| *b == 0).any(|variable| variable == mark.as_bytes()))
    })
    .filter(|pid| {
        let program = std::fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
        !spared.iter().any(|name| program.file_name() == Some(OsStr::new(name)))
    })
    .collect()
}

/// Kills what [`marked`] finds and waits until there is nothing; returns those that are left when patience ends. Blocks.
pub(crate) fn end(variable: &str, value: &str, spared: &[&str], patience: Duration) -> Vec<i32> {
    let deadline = Instant::now() + patience;
    loop {
        let pids = marked(variable, value, spared);
        if pids.is_empty() || Instant::now() >= deadline {
            return pids;
        }
        for pid in pids {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        std::thread::sleep(LOOK);
    }
}
