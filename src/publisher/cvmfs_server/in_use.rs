//! Who works in the mounted repository: a publish is refused while somebody does, and a person should be told who.

use std::path::Path;

/// A process with its working directory, or an open file, in the repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct User {
    pid: i32,
    name: String,
    what: String,
}

impl std::fmt::Display for User {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "process {} ({}) has {} open", self.pid, self.name, self.what)
    }
}

/// The processes that have something below a mount point open, as far as this account may see them.
pub(super) fn users(of: &Path) -> Vec<User> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
    pids.filter_map(|pid| {
        let place = std::path::PathBuf::from(format!("/proc/{pid}"));
        let links = [place.join("cwd"), place.join("root")].into_iter().chain(
            std::fs::read_dir(place.join("fd")).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path())),
        );
        let open = links.filter_map(|link| std::fs::read_link(link).ok()).find(|target| target.starts_with(of))?;
        let name = std::fs::read_to_string(place.join("comm")).unwrap_or_default();
        Some(User { pid, name: name.trim().to_owned(), what: open.display().to_string() })
    })
    .collect()
}
