//! Whether the stand-in for `cvmfs_server` says what the real one was measured to say, and where it is installed, whether the
//! real one still does.

mod arrange;
#[path = "../../bin/standin_cvmfs_server/rows.rs"]
mod rows;
mod traps;

use conveyor::publisher::cvmfs_server::{Refusal, Said, Subcommand};

use crate::site::{Setup, Site};

use rows::{Row, fill};

/// What the driver never meets: it says `-f`, and its tags are words.
const UNTYPED: &[&str] = &["abort/answer-is-no", "publish/tag-with-a-space"];

/// Whether an answer is that of a row; `None`, or what is wrong.
fn difference(site: &Site, row: &Row, run: &crate::harness::Run, more: &[(&str, String)]) -> Option<String> {
    let (spool, union) = (site.spool.display().to_string(), site.union.display().to_string());
    let url = site.web.url(&site.name);
    let of_site = [("repository", site.name.as_str()), ("spool", &spool), ("union", &union), ("url", &url)];
    let words: Vec<_> = more.iter().map(|(word, value)| (*word, value.as_str())).chain(of_site).collect();
    let says = |text: &str, pieces: &[&str]| {
        let mut rest = text;
        pieces.iter().all(|piece| {
            let piece = fill(piece, &words);
            let found = rest.find(&piece).map(|at| &rest[at + piece.len()..]);
            rest = found.unwrap_or(rest);
            found.is_some()
        })
    };
    let same = run.code == row.code && says(&run.stdout, row.stdout) && says(&run.stderr, row.stderr);
    (!same).then(|| format!("{}: expected {row:?}, is {run:?}", row.name))
}

/// Goes through all rows that a site can be brought to.
fn every_row(setup: Setup) {
    let Some(mut site) = Site::new(setup) else { return };
    let mut problems = Vec::new();
    let mut seen = 0;
    for row in rows::all() {
        let Some((run, words)) = arrange::arrange(&mut site, row.name) else { continue };
        seen += 1;
        problems.extend(difference(&site, row, &run, &words));
        arrange::clear(&mut site);
    }
    assert!(problems.is_empty(), "{} of {seen}:\n{}", problems.len(), problems.join("\n"));
    assert!(seen > 25, "only {seen} rows were tried");
}

#[test]
fn the_standin_answers_as_was_measured() {
    every_row(Setup { real: false, gateway: false });
}

#[test]
fn the_standin_with_a_gateway_answers_as_was_measured() {
    every_row(Setup { real: false, gateway: true });
}

#[test]
fn the_real_one_answers_as_was_measured() {
    every_row(Setup { real: true, gateway: false });
}

#[test]
fn the_real_one_with_a_gateway_answers_as_was_measured() {
    every_row(Setup { real: true, gateway: true });
}

#[test]
fn the_driver_understands_every_answer_that_is_no_success() {
    for row in rows::all().filter(|row| row.code != 0) {
        let command = match row.name.split('/').next().unwrap() {
            "transaction" => Subcommand::Transaction,
            "abort" => Subcommand::Abort,
            _ => Subcommand::Publish,
        };
        let lines = |lines: &[&str]| lines.iter().map(|line| fill(line, &[("union", "/cvmfs/x")])).collect::<Vec<_>>();
        let (stdout, stderr) = (lines(row.stdout).join("\n"), lines(row.stderr).join("\n"));
        let refusal = Refusal::of(command, &Said { code: row.code, stdout, stderr });
        assert!(UNTYPED.contains(&row.name) || !matches!(refusal, Refusal::Other { .. }), "{}: {refusal:?}", row.name);
    }
}

#[test]
fn every_row_is_tried_on_a_standin() {
    for row in rows::all() {
        assert!(arrange::is_known(row.name), "nothing brings {} about", row.name);
    }
}
