//! What a machine may lack: such a test is skipped by name, or fails where the ability is required.

use std::io::Write;

/// Says whether the test must return early, since `why` names what is missing.
///
/// `CONVEYOR_TEST_REQUIRE` lists abilities whose absence is a failure, `CONVEYOR_TEST_SKIPPED` the file that is told.
pub(crate) fn missing(ability: &str, why: Option<String>) -> bool {
    let Some(why) = why else { return false };
    let test = std::thread::current().name().unwrap_or("unnamed").to_owned();
    let required = std::env::var("CONVEYOR_TEST_REQUIRE").unwrap_or_default();
    assert!(!required.split(',').any(|word| word.trim() == ability), "{ability} is required, and {why}");
    eprintln!("skipped: {why}");
    if let Some(path) = std::env::var_os("CONVEYOR_TEST_SKIPPED") {
        let mut file = std::fs::OpenOptions::new().append(true).create(true).open(path).unwrap();
        // One write, since tests run beside each other.
        file.write_all(format!("test {test}: {why}\n").as_bytes()).unwrap();
    }
    true
}
