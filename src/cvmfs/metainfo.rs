//! The metainfo object: a JSON text about the repository for people and monitors.

/// The text for a new repository: its name and nothing that would have to be invented.
pub fn initial(repository: &str) -> String {
    // Names of repositories are of a-z 0-9 - _ and dots: nothing in them needs an escape.
    format!(
        "{{\n  \"description\": \"{repository}\",\n  \"administrator\": \"\",\n  \"email\": \"\",\n  \"organisation\": \"\"\n}}\n"
    )
}
