//! Tests that cannot run here say so by name.

use std::io::Write;

/// Reports what is skipped (a whole test as `test NAME`); fails instead where `CONVEYOR_TEST_REQUIRE` lists `ability`.
pub(super) fn report(ability: &str, test: &str, why: &str) {
    let required = std::env::var("CONVEYOR_TEST_REQUIRE").unwrap_or_default();
    assert!(!required.split(',').any(|word| word.trim() == ability), "{ability} is required, and {why}");
    eprintln!("skipped: {test}: {why}");
    if let Some(path) = std::env::var_os("CONVEYOR_TEST_SKIPPED") {
        let mut file = std::fs::OpenOptions::new().append(true).create(true).open(path).unwrap();
        // One write, since tests run beside each other.
        file.write_all(format!("{test}: {why}\n").as_bytes()).unwrap();
    }
}
