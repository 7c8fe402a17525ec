//! Writing into a directory: what works in an overlay works in any, which needs no root.

use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, MetadataExt, symlink};

use super::*;

fn union_at(root: &Path) -> Union {
    Union::open(root, ownership(), owner()).unwrap()
}

#[test]
fn entries_are_as_they_were_described() {
    let root = tempfile::tempdir().unwrap();
    let mut union = union_at(root.path());
    union.put(&path("d"), &meta(0o2750), &EntryKind::Directory, &mut io::empty()).unwrap();
    let mut described = meta(0o4555);
    described.attributes.insert(b"user.colour".to_vec(), b"blue\0".to_vec());
    described.attributes.insert(b"trusted.overlay.opaque".to_vec(), b"y".to_vec());
    union.put(&path("d/tool"), &described, &EntryKind::File { size: 3 }, &mut &b"abc"[..]).unwrap();
    put(&mut union, "d/link", &EntryKind::Symlink { target: b"../\xff".to_vec() }, b"").unwrap();
    put(&mut union, "d/pipe", &EntryKind::Fifo, b"").unwrap();
    union.link(&path("d/again"), &path("d/tool")).unwrap();
    union.settle().unwrap();

    let at = |name: &str| root.path().join(name);
    let found = |name: &str| fs::symlink_metadata(at(name)).unwrap();
    for name in ["d", "d/tool", "d/link", "d/pipe"] {
        assert_eq!((found(name).mtime(), found(name).mtime_nsec()), (1_600_000_000, 0), "{name}");
    }
    assert_eq!(found("d").mode(), 0o042_750);
    assert_eq!(found("d/tool").mode(), 0o104_555);
    assert_eq!((found("d/tool").ino(), found("d/tool").nlink()), (found("d/again").ino(), 2));
    assert_eq!(fs::read(at("d/tool")).unwrap(), b"abc");
    assert_eq!(fs::read_link(at("d/link")).unwrap().into_os_string().into_encoded_bytes(), b"../\xff");
    assert!(found("d/pipe").file_type().is_fifo());
    let attribute = |name| xattr::get(at("d/tool"), name).ok().flatten();
    if xattr::set(root.path(), "user.probe", b"").is_ok() {
        assert_eq!((attribute("user.colour"), union.dropped_attributes()), (Some(b"blue\0".to_vec()), 1));
    }
    assert_eq!(attribute("trusted.overlay.opaque"), None);
    assert_eq!((union.progress().files(), union.progress().bytes()), (1, 3));
}

#[test]
fn a_directory_over_a_directory_changes_its_metadata_alone_and_a_file_replaces_all() {
    let root = tempfile::tempdir().unwrap();
    let mut union = union_at(root.path());
    put_file(&mut union, "a/b/c", "1").unwrap();
    put(&mut union, "a", &EntryKind::Directory, b"").unwrap();
    union.settle().unwrap();
    assert_eq!(fs::symlink_metadata(root.path().join("a")).unwrap().mtime(), 1_600_000_000);
    assert_eq!(fs::read(root.path().join("a/b/c")).unwrap(), b"1");

    put_file(&mut union, "a", "2").unwrap();
    assert_eq!(fs::read(root.path().join("a")).unwrap(), b"2");
    put(&mut union, "a", &EntryKind::Directory, b"").unwrap();
    put_file(&mut union, "a/b/x", "3").unwrap();
    union.settle().unwrap();
    let left: Vec<_> = fs::read_dir(root.path().join("a/b")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["x"]);
}

#[test]
fn the_time_of_a_directory_stays_while_entries_come_and_go() {
    let root = tempfile::tempdir().unwrap();
    let mut union = union_at(root.path());
    put(&mut union, "d", &EntryKind::Directory, b"").unwrap();
    union.settle().unwrap();
    put_file(&mut union, "d/new", "1").unwrap();
    union.settle().unwrap();
    assert!(union.remove(&path("d/new")).unwrap());
    union.settle().unwrap();
    assert_eq!(fs::symlink_metadata(root.path().join("d")).unwrap().mtime(), 1_600_000_000);
}

#[test]
fn no_link_leads_anywhere() {
    let (root, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fs::write(outside.path().join("secret"), "mine").unwrap();
    let mut union = union_at(root.path());
    let target = outside.path().to_str().unwrap().as_bytes().to_vec();
    put(&mut union, "here/out", &EntryKind::Symlink { target }, b"").unwrap();
    symlink("here", root.path().join("way")).unwrap();
    symlink(outside.path().join("secret"), root.path().join("file")).unwrap();

    let refused = why(put_file(&mut union, "here/out/secret", "theirs"));
    assert_eq!(refused, "cannot change \"here/out\": it is a symbolic link, not a directory");
    assert!(why(put(&mut union, "way/d", &EntryKind::Directory, b"")).contains("\"way\""));
    assert!(why(union.make_directories(&path("here/out/d"))).contains("\"here/out\""));
    assert!(why(union.link(&path("stolen"), &path("here/out/secret"))).contains("no regular file here"));
    assert!(why(union.link(&path("stolen"), &path("file"))).contains("no regular file here"));
    assert!(!union.remove(&path("here/out/secret")).unwrap());
    // A link itself is replaced.
    put_file(&mut union, "file", "theirs").unwrap();
    put(&mut union, "here/out", &EntryKind::Directory, b"").unwrap();
    put_file(&mut union, "here/out/secret", "theirs").unwrap();
    assert!(union.remove(&path("here")).unwrap());
    assert_eq!(fs::read(outside.path().join("secret")).unwrap(), b"mine");
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 1);
}

#[test]
fn what_cannot_be_is_refused() {
    let root = tempfile::tempdir().unwrap();
    let mut union = union_at(root.path());
    put_file(&mut union, "file", "1").unwrap();
    assert_eq!(
        why(put_file(&mut union, "file/below/it", "2")),
        "cannot change \"file\": it is a file, not a directory"
    );
    assert!(why(put_file(&mut union, "", "2")).contains("only be a directory"));
    assert!(why(union.remove(&path(""))).contains("cannot be removed"));
    assert!(why(union.link(&path("l"), &path("none"))).contains("which is no regular file here"));
    assert!(why(union.link(&path("l"), &path(""))).contains("which is no regular file here"));
    assert!(why(put(&mut union, ".cvmfscatalog", &EntryKind::Directory, b"")).contains("nested catalog"));
    assert!(why(put(&mut union, "l", &EntryKind::Symlink { target: vec![] }, b"")).contains("1 to 4095"));
    let device = |major, minor| EntryKind::CharacterDevice { major, minor };
    assert!(why(put(&mut union, "null", &device(0, 0), b"")).contains("0:0"));
    if !nix::unistd::geteuid().is_root() {
        assert!(why(put(&mut union, "null", &device(1, 3), b"")).contains("only root"));
    }
    let mut many = meta(0o644);
    many.attributes.insert(b"user.x".to_vec(), vec![0; 256]);
    assert!(why(union.put(&path("f"), &many, &EntryKind::Fifo, &mut io::empty())).contains("255"));
    assert!(!union.remove(&path("file/below")).unwrap());
    assert!(!union.remove(&path("none/below")).unwrap());
    assert_eq!(fs::read_dir(root.path()).unwrap().count(), 1);
}

#[test]
fn a_content_of_another_length_is_an_error() {
    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("the payload went away"))
        }
    }
    let root = tempfile::tempdir().unwrap();
    let mut union = union_at(root.path());
    let source = |result: Result<(), PublisherError>| match result {
        Err(PublisherError::Content { path, source }) => format!("{path}: {source}"),
        other => panic!("{other:?}"),
    };
    let three = EntryKind::File { size: 3 };
    assert_eq!(source(put(&mut union, "short", &three, b"ab")), "short: it has 2 bytes instead of 3");
    let long = source(union.put(&path("long"), &meta(0o644), &three, &mut io::repeat(0).take(1 << 20)));
    assert_eq!(long, "long: it has 1048576 bytes instead of 3");
    let broken = union.put(&path("gone"), &meta(0o644), &three, &mut Broken);
    assert_eq!(source(broken), "gone: the payload went away");
}

#[test]
fn a_link_may_replace_the_directory_that_holds_its_target() {
    let root = tempfile::tempdir().unwrap();
    let mut union = union_at(root.path());
    put_file(&mut union, "a/b", "1").unwrap();
    union.link(&path("a"), &path("a/b")).unwrap();
    assert_eq!(fs::read(root.path().join("a")).unwrap(), b"1");
    union.link(&path("a"), &path("a")).unwrap();
    assert_eq!(fs::read_dir(root.path()).unwrap().count(), 1);
}

#[test]
fn a_directory_that_its_owner_may_not_write_in_is_filled_all_the_same() {
    let root = tempfile::tempdir().unwrap();
    let mut union = union_at(root.path());
    for _ in 0..2 {
        union.put(&path("d"), &meta(0o555), &EntryKind::Directory, &mut io::empty()).unwrap();
        put_file(&mut union, "d/file", "1").unwrap();
        union.settle().unwrap();
        assert_eq!(fs::symlink_metadata(root.path().join("d")).unwrap().mode(), 0o040_555);
    }
    put_file(&mut union, "d/more", "1").unwrap();
    union.settle().unwrap();
    assert_eq!(fs::symlink_metadata(root.path().join("d")).unwrap().mode(), 0o040_555);
    assert!(union.remove(&path("d")).unwrap());
    assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0);
}

#[test]
fn a_tree_deeper_than_files_can_be_open_is_removed() {
    let root = tempfile::tempdir().unwrap();
    let mut union = union_at(root.path());
    let deep = vec!["d"; 1100].join("/");
    put_file(&mut union, &format!("{deep}/file"), "1").unwrap();
    put_file(&mut union, "d", "2").unwrap();
    assert_eq!(fs::read(root.path().join("d")).unwrap(), b"2");
}
