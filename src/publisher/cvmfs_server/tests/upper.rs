//! What a script may do to an overlay, and what is made of it.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use nix::sys::stat::{UtimensatFlags, utimensat};
use nix::sys::time::TimeSpec;

use super::*;

/// A lower layer with times of full seconds, as repositories have them.
fn fill(lower: &Path) {
    let mut union = Union::open(lower, ownership(), owner()).unwrap();
    for name in ["keep", "d", "d/e"] {
        put(&mut union, name, &EntryKind::Directory, b"").unwrap();
    }
    for (name, content) in [("keep/file", "1"), ("d/file", "2"), ("d/e/f", "3"), ("d-x", "4"), ("top", "5")] {
        put_file(&mut union, name, content).unwrap();
    }
    put(&mut union, "link", &EntryKind::Symlink { target: b"top".to_vec() }, b"").unwrap();
    union.settle().unwrap();
}

fn set_mtime(place: &Path) {
    let time = TimeSpec::new(1_600_000_000, 0);
    utimensat(nix::fcntl::AT_FDCWD, place, &time, &time, UtimensatFlags::NoFollowSymlink).unwrap();
}

#[test]
fn a_fresh_overlay_has_no_changes() {
    let Some(overlay) = overlay(fill) else { return };
    assert_eq!(overlay.shown(), [""; 0]);
}

#[test]
fn each_way_to_change_a_tree_is_seen() {
    let Some(overlay) = overlay(fill) else { return };
    let at = |name: &str| overlay.layers.merged.join(name);
    fs::remove_file(at("top")).unwrap();
    fs::remove_dir_all(at("d")).unwrap();
    fs::create_dir(at("d")).unwrap();
    fs::write(at("d/new"), "1").unwrap();
    fs::set_permissions(at("keep/file"), fs::Permissions::from_mode(0o600)).unwrap();
    fs::remove_file(at("link")).unwrap();
    fs::create_dir_all(at("link/below")).unwrap();
    fs::write(at("d-x"), "more").unwrap();
    // `d` is opaque now: what it had is gone, although the upper layer says nothing of it.
    let expected =
        ["t /d", "M /d-x", "D /d/e", "D /d/file", "A /d/new", "M /keep/file", "M /link", "A /link/below", "D /top"];
    assert_eq!(overlay.shown(), expected);
}

#[test]
fn a_directory_replaced_by_a_link_is_not_followed() {
    let Some(overlay) = overlay(fill) else { return };
    let at = |name: &str| overlay.layers.merged.join(name);
    fs::remove_dir_all(at("d")).unwrap();
    symlink("/etc", at("d")).unwrap();
    symlink("/etc", at("keep/etc")).unwrap();
    set_mtime(&at("keep"));
    assert_eq!(overlay.shown(), ["M /d", "A /keep/etc"]);
    let now = overlay.changes()[0].now.clone().unwrap();
    assert_eq!(now.target.as_deref(), Some(&b"/etc"[..]));
}

#[test]
fn what_is_written_as_it_was_is_no_change() {
    let Some(overlay) = overlay(fill) else { return };
    let at = |name: &str| overlay.layers.merged.join(name);
    let mut union = overlay.union();
    put_file(&mut union, "d/file", "2").unwrap();
    put(&mut union, "link", &EntryKind::Symlink { target: b"top".to_vec() }, b"").unwrap();
    put(&mut union, "keep", &EntryKind::Directory, b"").unwrap();
    put_file(&mut union, "new", "1").unwrap();
    assert!(union.remove(&path("new")).unwrap());
    union.settle().unwrap();
    assert_eq!(overlay.shown(), [""; 0]);
    // The same size and time, and another content.
    put_file(&mut union, "d/file", "3").unwrap();
    union.settle().unwrap();
    assert_eq!(overlay.shown(), ["M /d/file"]);
    // What a script made and took away again leaves the time of the directory.
    fs::write(at("keep/new"), "").unwrap();
    fs::remove_file(at("keep/new")).unwrap();
    assert_eq!(overlay.shown(), ["M /d/file", "t /keep"]);
}

#[test]
fn a_renamed_directory_is_new_with_all_in_it() {
    let Some(overlay) = overlay(fill) else { return };
    let at = |name: &str| overlay.layers.merged.join(name);
    // Without redirect_dir the kernel leaves it to mv(1) to copy.
    let done = Command::new("mv").arg(at("d")).arg(at("moved")).status().unwrap();
    assert!(done.success());
    assert_eq!(overlay.shown(), ["D /d", "A /moved", "A /moved/e", "A /moved/e/f", "A /moved/file"]);
}

#[test]
fn attributes_count_and_so_do_links() {
    let Some(overlay) = overlay(fill) else { return };
    let at = |name: &str| overlay.layers.merged.join(name);
    let mut union = overlay.union();
    union.link(&path("keep/second"), &path("d/file")).unwrap();
    union.settle().unwrap();
    assert_eq!(overlay.shown(), ["A /keep/second"]);
    if xattr::set(at("d/e/f"), "user.colour", b"blue").is_ok() {
        assert_eq!(overlay.shown(), ["M /d/e/f", "A /keep/second"]);
    }
}

#[test]
fn a_file_with_several_names_that_is_written_is_named() {
    let links = |lower: &Path| {
        fill(lower);
        let mut union = Union::open(lower, ownership(), owner()).unwrap();
        for (name, target) in [("keep/one", "keep/file"), ("d/two", "d/file")] {
            union.link(&path(name), &path(target)).unwrap();
        }
        union.settle().unwrap();
    };
    let Some(overlay) = overlay(links) else { return };
    let broken = || {
        let changes = overlay.changes();
        changes.iter().filter(|change| change.breaks_links).map(|change| change.path.to_string()).collect::<Vec<_>>()
    };
    let mut union = overlay.union();
    assert!(union.remove(&path("d/two")).unwrap());
    assert_eq!(broken(), [""; 0]);
    // As it was, but a file of its own.
    put_file(&mut union, "keep/one", "1").unwrap();
    assert_eq!(broken(), ["keep/one"]);
    union.link(&path("third"), &path("d/file")).unwrap();
    assert_eq!(broken(), ["d/file", "keep/one"]);
}
