//! Addresses of servers that are no URLs.

use std::path::Path;

/// What the address of a Unix socket begins with.
pub const UNIX: &str = "unix:";

/// The path in `unix:/PATH` or `unix:///PATH`; nothing where the text does not begin so, or the path is not absolute.
pub fn unix_path(text: &str) -> Option<&Path> {
    let path = text.strip_prefix(UNIX)?;
    let path = path.strip_prefix("//").filter(|rest| rest.starts_with('/')).unwrap_or(path);
    Some(Path::new(path)).filter(|path| path.is_absolute())
}
