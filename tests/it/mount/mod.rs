//! What was published is what an independent client shows: every file's content, mode, size and time, every link.

mod tree;

use std::collections::BTreeMap;

use crate::harness::{Dev, Mount, REPOSITORY, missing};
use tree::{Item, Node};

const LEASE: &str = "/conveyor-judge/tree";

#[test]
fn an_independent_client_sees_every_file_as_it_was_published() {
    if missing("fuse", Mount::impossible()) {
        return;
    }
    let dev = Dev::start();
    let archive = dev.base().join("tree.tar.zst");
    let mut expected = tree::large();
    assert!(expected.len() >= 3000, "{}", expected.len());
    tree::pack(&expected, &archive);
    submit(&dev, &["--tarball", archive.to_str().unwrap()]);
    compare(&dev, &expected);

    // Some are replaced (one by a link, one by a directory), some are new.
    let replaced = tree::replacement(&expected);
    tree::pack(&replaced, &archive);
    submit(&dev, &["--tarball", archive.to_str().unwrap()]);
    expected.extend(replaced);
    compare(&dev, &expected);

    let gone = [tree::EXTRA_FOLDER.to_owned(), expected.keys().find(|path| path.starts_with("host/")).unwrap().clone()];
    let paths = gone.clone().map(|path| format!("{LEASE}/{path}"));
    submit(&dev, &["--delete", &paths[0], "--delete", &paths[1]]);
    expected.retain(|path, _| !gone.iter().any(|gone| path == gone || path.starts_with(&format!("{gone}/"))));
    compare(&dev, &expected);
}

/// The comparison is itself compared: with a tree that differs in one thing at a time.
#[test]
fn a_difference_between_the_trees_is_found() {
    if missing("fuse", Mount::impossible()) {
        return;
    }
    let dev = Dev::start();
    let archive = dev.base().join("tree.tar.zst");
    let published = tree::small();
    tree::pack(&published, &archive);
    submit(&dev, &["--tarball", archive.to_str().unwrap()]);
    let mut expected = published.clone();
    expected.get_mut("content").unwrap().item = published["other content"].item.clone();
    expected.get_mut("mode").unwrap().mode ^= 0o100;
    expected.get_mut("time").unwrap().mtime += 1;
    expected.get_mut("link").unwrap().item = Item::Link("elsewhere".into());
    expected.insert("missing".into(), published["mode"].clone());
    expected.remove("unexpected").unwrap();
    let wrong = differences(&dev, &expected);
    let found: Vec<_> = wrong.iter().map(|line| line.split([' ', ':']).next().unwrap()).collect();
    assert_eq!(found, ["content", "link", "missing", "mode", "time", "unexpected"], "{wrong:?}");
}

fn submit(dev: &Dev, arguments: &[&str]) {
    let run = dev.program().good(&[&["submit", "-r", REPOSITORY, "-l", LEASE, "--wait"], arguments].concat());
    assert_eq!(run.last()["state"], "succeeded", "{run:?}");
}

/// Mounts the repository anew and compares all of it.
fn compare(dev: &Dev, expected: &BTreeMap<String, Node>) {
    let wrong = differences(dev, expected);
    assert!(wrong.is_empty(), "{} differences:\n{}", wrong.len(), wrong[..wrong.len().min(20)].join("\n"));
}

fn differences(dev: &Dev, expected: &BTreeMap<String, Node>) -> Vec<String> {
    let mount = Mount::new(dev.url(), REPOSITORY);
    let mut found = tree::read(&mount.path().join(LEASE.trim_start_matches('/')));
    let mut wrong = Vec::new();
    for (path, node) in expected {
        match found.remove(path) {
            None => wrong.push(format!("{path} is missing")),
            Some(shown) if agrees(node, &shown) => {}
            Some(shown) if node.is_in_chunks() => wrong.extend(confirmed(dev, path, node, &shown)),
            Some(shown) => wrong.push(format!("{path}: published {node:?}, shown {shown:?}")),
        }
    }
    wrong.extend(found.into_keys().map(|path| format!("{path} was not published")));
    let top: Vec<_> = mount.path().read_dir().unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(top, ["conveyor-judge"]);
    wrong
}

/// A difference in a large file, if new clients show it, too.
fn confirmed(dev: &Dev, path: &str, node: &Node, shown: &Node) -> Option<String> {
    Mount::confirmed(dev.url(), REPOSITORY, |root| {
        let shown = shown.with(tree::read_file(&root.join(LEASE.trim_start_matches('/')).join(path)));
        (!agrees(node, &shown)).then(|| format!("{path}: published {node:?}, shown {shown:?}"))
    })
}

/// A link has neither mode nor size of its own.
fn agrees(published: &Node, shown: &Node) -> bool {
    let same_mode = matches!(published.item, Item::Link(_)) || published.mode == shown.mode;
    published.item == shown.item && published.mtime == shown.mtime && same_mode
}
