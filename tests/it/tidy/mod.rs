//! Reads the sources and fails where they break a rule of the house: layers, purity, size, crash points.

mod rules;
mod source;

use std::path::Path;

use rules::{crash_point_violations, crash_points, layer_violations, purity_violations, style_violations};
use source::Source;

/// All of `src`, without tests.
fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let files = walkdir::WalkDir::new(&root).sort_by_file_name().into_iter().map(Result::unwrap);
    let is_rust = |path: &Path| path.extension().is_some_and(|extension| extension == "rs");
    let sources: Vec<_> = files
        .filter(|file| is_rust(file.path()))
        .map(|file| {
            let path = file.path().strip_prefix(&root).unwrap().to_str().unwrap();
            Source::new(path, &std::fs::read_to_string(file.path()).unwrap())
        })
        .filter(|source| !source.is_test())
        .collect();
    assert!(sources.len() > 40, "the sources were not found");
    sources
}

/// Every function of the tests and of the sources.
fn functions() -> &'static std::collections::BTreeSet<String> {
    static FUNCTIONS: std::sync::OnceLock<std::collections::BTreeSet<String>> = std::sync::OnceLock::new();
    FUNCTIONS.get_or_init(|| {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let files = ["src", "tests"].into_iter().flat_map(|folder| walkdir::WalkDir::new(root.join(folder)));
        let rust = files.map(Result::unwrap).filter(|file| file.path().extension().is_some_and(|end| end == "rs"));
        let texts = rust.map(|file| std::fs::read_to_string(file.path()).unwrap());
        let names = |text: String| -> Vec<String> {
            let of = |line: &str| Some(line.trim_start().split_once("fn ")?.1.split_once('(')?.0.to_owned());
            text.lines().filter_map(of).collect()
        };
        texts.flat_map(names).collect()
    })
}

/// Fails where one of the `names` in backticks is no test's, or where there is none.
#[track_caller]
pub(crate) fn assert_names_tests(row: &str, names: &str) {
    let named: Vec<_> = names.split('`').skip(1).step_by(2).collect();
    assert!(!named.is_empty(), "no test is named: {row}");
    for name in named {
        assert!(functions().contains(name), "there is no test {name}: {row}");
    }
}

#[test]
fn every_failure_in_the_architecture_has_tests_that_exist() {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("ARCHITECTURE.md")).unwrap();
    let section = text.split("### What happens when it fails").nth(1).expect("the section is there");
    let rows: Vec<_> = section.lines().skip_while(|line| !line.starts_with("|---")).skip(1).collect();
    let rows: Vec<_> = rows.into_iter().take_while(|line| line.starts_with('|')).collect();
    assert!(rows.len() > 35, "the table was not found");
    for row in rows {
        let columns: Vec<_> = row.trim_matches('|').split('|').collect();
        assert_eq!(columns.len(), 4, "failure, what happens, where, tests: {row}");
        assert_names_tests(row, columns[3]);
    }
}

fn assert_none(violations: impl IntoIterator<Item = String>) {
    let violations: Vec<_> = violations.into_iter().collect();
    assert!(violations.is_empty(), "\n{}\n", violations.join("\n"));
}

#[test]
fn every_module_uses_only_the_layers_below_it() {
    assert_none(sources().iter().flat_map(layer_violations));
}

#[test]
fn the_domain_is_pure() {
    assert_none(sources().iter().flat_map(purity_violations));
}

#[test]
fn no_file_is_long_and_nothing_is_left_to_be_done() {
    assert_none(sources().iter().flat_map(style_violations));
}

#[test]
fn every_crash_point_is_listed_and_every_listed_one_exists() {
    let used: Vec<_> = sources().iter().flat_map(crash_points).collect();
    assert_none(crash_point_violations(&used, conveyor::crash::ALL));
}

/// The rules themselves: each must notice a violation that is planted, and nothing else.
mod planted {
    use super::*;

    fn layers(path: &str, text: &str) -> usize {
        layer_violations(&Source::new(path, text)).len()
    }

    fn impurities(path: &str, text: &str) -> usize {
        purity_violations(&Source::new(path, text)).len()
    }

    #[test]
    fn a_use_of_a_higher_layer_is_noticed_however_it_is_written() {
        for text in [
            "use crate::app::Engine;",
            "use crate::{domain::ids::JobId, app::Engine};",
            "use crate::{\n    domain::{ids, job},\n    app,\n};",
            "fn f() { crate::app::run() }",
            "use super::super::app::Engine;",
            "pub(in crate::app) fn f() {}",
        ] {
            assert_eq!(layers("store/jobs.rs", text), 1, "{text}");
        }
        assert_eq!(layers("store/mod.rs", "use super::app::Engine;"), 1);
        assert_eq!(layers("store/jobs.rs", "use crate::broker::Embedded;"), 1);
        assert_eq!(layers("cvmfs/hash.rs", "use crate::domain::digest;"), 1);
        assert_eq!(layers("worker/mod.rs", "use crate::store::Store;"), 1);
        assert_eq!(layers("unheard_of/mod.rs", ""), 1);
    }

    #[test]
    fn what_is_allowed_is_not_noticed() {
        let text = "//! Unlike crate::app, this is low.\nuse crate::domain::ids::JobId;\nuse super::tx::Tx;\n\
                    fn f() { crate::crash::point(\"x\") } pub(crate) fn g() {}\n\
                    #[cfg(test)]\nmod tests { use crate::app::Engine; }";
        assert_eq!(layers("store/jobs.rs", text), 0);
        assert_eq!(layers("cli/submit.rs", "use crate::{app, http, worker, cvmfs};"), 0);
        assert_eq!(layers("publisher/native/mod.rs", "use crate::cvmfs::catalog; use super::super::Revision;"), 0);
    }

    #[test]
    fn impurity_in_the_domain_is_noticed_and_elsewhere_it_is_not() {
        for text in [
            "use std::fs;",
            "use std::{fmt, fs};",
            "use std::time::Instant;",
            "use std::time::{Duration, SystemTime};",
            "let now = Timestamp::now();",
            "Uuid::now_v7()",
            "async fn f() {}",
            "tracing::info!(\"x\");",
            "println!(\"x\");",
            "let x: rusqlite::Row;",
        ] {
            assert_eq!(impurities("domain/plan.rs", text), 1, "{text}");
            assert_eq!(impurities("app/mod.rs", text), 0, "{text}");
        }
        let fine = "// std::fs is not for us\nuse std::fmt;\nuse std::time::Duration;\nstruct InstanceId; // Instant\n\
                    fn f(instant: u8) { sha2::Sha256::digest(b\"\") }\n#[cfg(test)]\nmod tests { use std::fs; }";
        assert_eq!(impurities("domain/plan.rs", fine), 0);
    }

    #[test]
    fn long_files_and_loose_ends_are_noticed() {
        let count = |text: &str| style_violations(&Source::new("app/mod.rs", text)).len();
        assert_eq!(count(&"\n".repeat(600)), 0);
        assert_eq!(count(&"\n".repeat(601)), 1);
        assert_eq!(count("fn f() { todo!() }"), 1);
        assert_eq!(count("fn f() { unimplemented!(\"x\") }"), 1);
        assert_eq!(count("// TODO make it work"), 1);
        assert_eq!(count("// FIXME"), 1);
        assert_eq!(count("// TODO(needs a gateway of version 2): ask for the lease's age"), 0);
    }

    #[test]
    fn crash_points_are_compared_both_ways() {
        let text = "crate::crash::point(\"claim.before\");\ncrash::point(\"claim.typo\");\n// crash::point(\"comment\")\n\
                    #[cfg(test)]\nmod tests { crash::point(\"test\"); }";
        let used = crash_points(&Source::new("app/claim.rs", text));
        assert_eq!(used, ["claim.before", "claim.typo"]);
        let violations = crash_point_violations(&used, &["claim.before", "claim.after"]);
        assert_eq!(violations.len(), 2, "{violations:?}");
    }
}
