//! The repositories that CernVM-FS's own tools wrote.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::support::{NOW, check, golden};
use crate::cvmfs::Error;
use crate::cvmfs::hash::{Algorithm, ObjectKind};
use crate::cvmfs::keys::{self, SigningKeys};
use crate::cvmfs::object;
use crate::cvmfs::reader::{Expiry, Reader};
use crate::cvmfs::stratum0::Stratum0;

fn open(name: &str) -> (tempfile::TempDir, Stratum0, Reader) {
    let (directory, storage, keys) = golden(name);
    let stratum0 = Stratum0::at(storage, name, keys);
    let reader = stratum0.reader(Expiry::Refuse { now: NOW }).unwrap();
    (directory, stratum0, reader)
}

fn listing(reader: &Reader) -> BTreeMap<String, Value> {
    let mut found = Vec::new();
    let mut tree = reader.tree().unwrap();
    tree.walk(b"", |path, entry| {
        found.push((path.to_vec(), entry.clone()));
        Ok(())
    })
    .unwrap();
    let mut listing = BTreeMap::new();
    for (path, entry) in found {
        let shown = format!("/{}", String::from_utf8(path.clone()).unwrap());
        let mut line = json!({
            "path": shown, "mode": format!("0o{:o}", entry.mode), "uid": entry.uid, "gid": entry.gid, "mtime": entry.mtime,
            "size": entry.size,
        });
        // 44 MiB of SHAKE-128 take seconds in a build for debugging; the other repository has the same file.
        if entry.is_file() && entry.size > 1 << 20 && reader.manifest().root_hash.algorithm() != Algorithm::Sha1 {
            line["sha256"] = "unread".into();
            line["nlink"] = entry.link_count().into();
        } else if entry.is_file() {
            let mut sha256 = Sha256::new();
            let (mut file, mut buffer) = (tree.file(&path).unwrap(), vec![0; 1 << 16]);
            loop {
                match file.read(&mut buffer).unwrap() {
                    0 => break,
                    count => sha256.update(&buffer[..count]),
                }
            }
            line["sha256"] = hex::encode(sha256.finalize()).into();
            line["nlink"] = entry.link_count().into();
        } else if entry.is_symlink() {
            line["target"] = String::from_utf8(entry.symlink.clone()).unwrap().into();
        }
        listing.insert(shown, line);
    }
    listing
}

fn expected(name: &str) -> BTreeMap<String, Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/data/golden/{name}.listing.jsonl"));
    let text = std::fs::read_to_string(path).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.map(|line| (line["path"].as_str().unwrap().to_owned(), line)).collect()
}

#[test]
fn both_are_listed_and_read_as_the_cpp_client_shows_them() {
    for name in ["sample.example.org", "shake.example.org"] {
        let (_directory, _, reader) = open(name);
        let (mut found, mut expected) = (listing(&reader), expected(name));
        // The client shows the time of the mount's newest change there.
        found.get_mut("/").unwrap()["mtime"] = 0.into();
        expected.get_mut("/").unwrap()["mtime"] = 0.into();
        for line in found.values().filter(|line| line["sha256"] == "unread") {
            expected.get_mut(line["path"].as_str().unwrap()).unwrap()["sha256"] = "unread".into();
        }
        assert_eq!(found.len(), 88);
        assert_eq!(found, expected, "{name}");
    }
}

#[test]
fn tags_and_chain_are_read() {
    let (_directory, _, reader) = open("sample.example.org");
    let info = reader.info().unwrap();
    assert_eq!((info.revision, info.root_hash.to_string()), (3, "5564de638e6b28e81d305211f6527b399e2bcb48".into()));
    let tags: Vec<_> = info.tags.iter().map(|tag| (tag.name.as_str(), tag.revision)).collect();
    assert_eq!(
        tags,
        [("second", 3), ("trunk", 3), ("first", 2), ("trunk-previous", 2), ("generic-2026-11-21T05:46:11Z", 1)]
    );
    assert_eq!(reader.tag("first").unwrap().unwrap().description, "first publish");
    assert!(reader.tag("third").unwrap().is_none());
    let chain: Vec<_> = reader.revisions().map(|revision| revision.unwrap().revision).collect();
    assert_eq!(chain, [3, 2, 1, 0]);
    let first = reader.tag("first").unwrap().unwrap();
    assert!(reader.tree_at(&first.root_hash).unwrap().lookup(b"sw/tool/1.1").unwrap().is_none());
}

#[test]
fn a_revision_is_found_by_tag_number_and_hash() {
    let (_directory, _, reader) = open("sample.example.org");
    let find = |text: &str| reader.resolve_revision(text).map(|found| (found.revision, found.root_hash.to_string()));
    let second = (2, "932c00e37f58a62589a8261621daa60910d441f8".to_owned());
    for text in ["first", "2", "932c00e37f58a62589a8261621daa60910d441f8"] {
        assert_eq!(find(text).unwrap(), second, "{text}");
    }
    // Revision 0 has no tag.
    assert_eq!(find("0").unwrap().1, "2b4be3294f3d33fec910c3601031bde2bf7985c5");
    for text in ["third", "4", "", "-1", "00112233445566778899aabbccddeeff00112233"] {
        assert!(matches!(find(text), Err(Error::Missing(_))), "{text}");
    }
}

#[test]
fn stated_counters_are_the_counted_ones() {
    for name in ["sample.example.org", "shake.example.org"] {
        let (_directory, _, reader) = open(name);
        let root = reader.catalog(&reader.manifest().root_hash).unwrap();
        let stated = root.statistics().unwrap();
        assert_eq!(stated.own, root.recount().unwrap());
        let mut below = crate::cvmfs::catalog::Counters::default();
        for nested in root.nested().unwrap() {
            let nested = reader.catalog(&nested.hash).unwrap();
            assert_eq!(nested.statistics().unwrap().own, nested.recount().unwrap());
            below.add(&nested.recount().unwrap());
        }
        assert_eq!(stated.subtree, below);
    }
}

#[test]
fn what_we_sign_is_what_the_real_tools_signed() {
    // RSA PKCS#1 v1.5 is deterministic: the same key and text give the same bytes.
    let (_directory, storage, keys) = golden("sample.example.org");
    let reader = Stratum0::at(&storage, "sample.example.org", &keys).reader(Expiry::Ignore).unwrap();
    let signing = SigningKeys::load(&keys, "sample.example.org").unwrap();
    let sealed = reader.manifest().seal(Algorithm::Sha1, &signing.key).unwrap();
    assert_eq!(sealed, std::fs::read(storage.join(".cvmfspublished")).unwrap());

    let master = keys::load_master(&keys, "sample.example.org").unwrap();
    let fingerprint = signing.certificate.fingerprint(Algorithm::Sha1);
    let signed_at = reader.whitelist().signed_at;
    let sealed = crate::cvmfs::whitelist::Whitelist::seal("sample.example.org", &[fingerprint], signed_at, 30, &master);
    assert_eq!(sealed.unwrap(), std::fs::read(storage.join(".cvmfswhitelist")).unwrap());
}

#[test]
fn the_certificate_object_is_the_key_directory_s_file() {
    let (_directory, _, reader) = open("sample.example.org");
    let pem = object::read_small(reader.fetch(), &reader.manifest().certificate, ObjectKind::Certificate, 1 << 20);
    assert_eq!(pem.unwrap(), reader.certificate().pem().as_bytes());
}

#[test]
fn the_real_tools_repositories_are_published_on() {
    for name in ["sample.example.org", "shake.example.org"] {
        publish_on(name);
    }
}

fn publish_on(name: &str) {
    let (_directory, stratum0, before) = open(name);
    let mut draft = stratum0.begin(stratum0.lock().unwrap().unwrap(), NOW).unwrap();
    super::support::put(&mut draft, "a/b", "ours");
    super::support::put(&mut draft, "sw/tool/1.0/ours", "in a nested catalog of theirs");
    super::support::put(&mut draft, "sw/tool/2.0/.cvmfscatalog", "");
    assert!(draft.tree().remove(b"sw/tool/1.1").unwrap());
    assert!(draft.tree().remove(b"conditions/.cvmfscatalog").unwrap());
    draft.commit(None, NOW, &|_| {}).unwrap();
    let reader = stratum0.reader(Expiry::Refuse { now: NOW }).unwrap();
    assert_eq!(reader.manifest().revision, 4);
    check(&reader);
    let root = reader.catalog(&reader.manifest().root_hash).unwrap();
    assert_eq!(root.previous_revision().unwrap(), Some(before.manifest().root_hash));
    let mounts: Vec<_> = root.nested().unwrap().into_iter().map(|nested| nested.path).collect();
    assert_eq!(mounts, [&b"sw/tool/1.0"[..], b"sw/tool/2.0"]);
}
