//! Catalogs that are split and merged by their size: which ones exactly is up to the code under test, but not when.

use std::collections::BTreeSet;

use super::Tally;
use super::model::Model;
use super::rules;
use super::run::{LIMITS, ensure};
use crate::cvmfs::catalog::{Compression, join, split};
use crate::cvmfs::edit::{AUTO_MARKER, DIRTAB, MARKER};
use crate::cvmfs::hash::Algorithm;
use crate::cvmfs::tree::Tree;

/// Takes over the markers that came and went, and sees that they had to.
pub(super) fn adopt(
    model: &mut Model,
    tree: &mut Tree<'_>,
    now: i64,
    stored: (Algorithm, Compression),
    tally: &Tally,
) -> Result<(), String> {
    let mut there = BTreeSet::new();
    let walked = tree.walk(b"", |path, _| {
        there.insert(path.to_vec());
        Ok(())
    });
    walked.map_err(|error| error.to_string())?;
    merged(model, &there, tally)?;
    divided(model, &there, now, stored, tally)?;

    let mounts = model.mounts();
    for mount in mounts.iter().chain([&Vec::new()]) {
        let shown = mount.escape_ascii();
        let weight = model.weight(mount, &mounts);
        let is_leaf = !mounts.iter().any(|other| other.starts_with(&join(mount, b"")) && other != mount);
        let is_auto = !mount.is_empty() && model.has_auto_marker(mount);
        ensure!(
            !is_auto || !is_leaf || weight >= LIMITS.min_weight,
            "the catalog at /{shown} of {weight} is too small"
        );
        let could_go = |directory: &&Vec<u8>| {
            split(directory).is_some_and(|(home, _)| home == &mount[..])
                && !model.nodes.contains_key(&join(directory, MARKER))
                && model.weight(directory, &mounts) >= LIMITS.min_weight
        };
        let could_go = model.directories().find(could_go);
        ensure!(
            weight <= LIMITS.max_weight || could_go.is_none(),
            "the catalog at /{shown} of {weight} is too large, but {could_go:?} was not taken out"
        );
    }
    Ok(())
}

/// Those that went, the deepest first: what is merged makes the catalog above larger.
fn merged(model: &mut Model, there: &BTreeSet<Vec<u8>>, tally: &Tally) -> Result<(), String> {
    let mut mounts: Vec<_> = model.mounts().into_iter().collect();
    mounts.sort_by_key(|mount| std::cmp::Reverse(mount.len()));
    for mount in mounts {
        let (marker, auto) = (join(&mount, MARKER), join(&mount, AUTO_MARKER));
        if there.contains(&auto) || !model.has_auto_marker(&mount) {
            continue;
        }
        let (shown, weight) = (mount.escape_ascii(), model.weight(&mount, &model.mounts()));
        ensure!(weight < LIMITS.min_weight, "the catalog at /{shown} of {weight} was merged");
        model.take(&auto);
        // What the dirtab asks for stays.
        let rules = model.nodes.get(DIRTAB).and_then(|node| match &node.kind {
            super::model::Kind::File(text, ..) => rules::parse(text),
            _ => None,
        });
        if !rules.is_some_and(|rules| rules::ask_for(&rules, &mount)) {
            model.take(&marker);
        }
        tally.merged.add(1);
    }
    Ok(())
}

/// Those that came.
fn divided(
    model: &mut Model,
    there: &BTreeSet<Vec<u8>>,
    now: i64,
    stored: (Algorithm, Compression),
    tally: &Tally,
) -> Result<(), String> {
    let before = model.mounts();
    let came = there.iter().filter(|path| !model.nodes.contains_key(*path));
    let came: Vec<_> = came.filter_map(|path| split(path)).filter(|(_, name)| *name == MARKER).collect();
    for (directory, _) in &came {
        let shown = directory.escape_ascii();
        ensure!(model.is_directory(directory), "a catalog in /{shown}, which is no directory");
        let mut outer = *directory;
        while let Some((home, _)) = split(outer) {
            outer = home;
            if before.contains(outer) {
                break;
            }
        }
        let weight = model.weight(outer, &before);
        ensure!(weight > LIMITS.max_weight, "/{shown} was taken out of a catalog of {weight}");
        model.take(&join(directory, AUTO_MARKER));
        model.mark(directory, AUTO_MARKER, now, stored);
        model.mark(directory, MARKER, now, stored);
        tally.divided.add(1);
    }
    let after = model.mounts();
    for (directory, _) in came {
        let (shown, weight) = (directory.escape_ascii(), model.weight(directory, &after));
        ensure!(weight > LIMITS.min_weight, "/{shown} of {weight} got a catalog");
    }
    Ok(())
}
