//! Real trees, published as archives: our own reader and an independent client show every entry as it was.

mod compare;
mod published;
mod source;

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::time::{Duration, SystemTime};

use crate::harness::{Mount, Served, missing};
use compare::{differences_in_mount, differences_in_reader};
use published::Published;
use source::Source;

/// Through the mount, the content of one file in so many is compared; of the others, all but the content.
const SAMPLED: usize = 20;

#[test]
fn a_python_distribution_comes_back_as_it_was() {
    round_trip("python", 20_000);
}

#[test]
fn the_documentation_of_rust_comes_back_as_it_was() {
    round_trip("rust-docs", 20_000);
}

#[test]
fn the_headers_of_linux_come_back_as_they_were() {
    round_trip("linux-headers", 5_000);
}

fn round_trip(name: &str, least_files: usize) {
    let tree = match Source::find(name) {
        Ok(tree) => tree,
        Err(why) => {
            missing("trees", Some(why));
            return;
        }
    };
    let files = tree.files().count();
    assert!(files >= least_files, "{name} has only {files} files: {}", tree.root().display());
    let published = Published::new(&tree);
    assert_none(&differences_in_reader(&published, &tree));
    if missing("fuse", Mount::impossible()) {
        return;
    }
    let first = rand::random_range(0..SAMPLED);
    println!("{files} files; contents seen through the mount: every {SAMPLED}th, beginning with {first}");
    let served = Served::new(published.repositories());
    assert_none(&differences_in_mount(&published, &served, &tree, first, SAMPLED));
}

/// The comparison is itself compared: the source is changed in one thing at a time after it was published.
#[test]
fn a_difference_between_a_tree_and_what_was_published_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::create_dir(path("directory")).unwrap();
    for name in ["content", "directory/gone", "kind", "mode", "same", "size", "time"] {
        fs::write(path(name), format!("{name:20}")).unwrap();
    }
    symlink("mode", path("link")).unwrap();
    let before = Source::scan(folder.path());
    let published = Published::new(&before);
    assert_none(&differences_in_reader(&published, &before));

    let mtime = fs::metadata(path("content")).unwrap().modified().unwrap();
    fs::write(path("content"), "of the same size....").unwrap();
    set_mtime(&path("content"), mtime);
    let directory = fs::metadata(path("directory")).unwrap().modified().unwrap();
    fs::remove_file(path("directory/gone")).unwrap();
    set_mtime(&path("directory"), directory);
    fs::remove_file(path("kind")).unwrap();
    fs::create_dir(path("kind")).unwrap();
    fs::remove_file(path("link")).unwrap();
    symlink("time", path("link")).unwrap();
    fs::set_permissions(path("mode"), Permissions::from_mode(0o751)).unwrap();
    fs::write(path("new"), "").unwrap();
    fs::write(path("size"), "short").unwrap();
    set_mtime(&path("size"), mtime);
    set_mtime(&path("time"), mtime - Duration::from_secs(1));
    let after = Source::scan(folder.path());

    let wanted = ["content", "directory/gone", "kind", "link", "mode", "new", "size", "time"];
    let named = |found: Vec<String>| -> Vec<String> {
        let mut names: Vec<_> = found.iter().map(|line| line.split(": ").next().unwrap().to_owned()).collect();
        names.sort();
        names
    };
    assert_eq!(named(differences_in_reader(&published, &after)), wanted);
    if missing("fuse", Mount::impossible()) {
        return;
    }
    let served = Served::new(published.repositories());
    assert_eq!(named(differences_in_mount(&published, &served, &after, 0, 1)), wanted);
}

fn set_mtime(path: &Path, time: SystemTime) {
    File::open(path).unwrap().set_modified(time).unwrap();
}

fn assert_none(differences: &[String]) {
    let shown = differences[..differences.len().min(20)].join("\n");
    assert!(differences.is_empty(), "{} differences:\n{shown}", differences.len());
}
