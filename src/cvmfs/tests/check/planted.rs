//! The table of damages. Each one is found by its own code, and brings no others than those that follow from it.

use std::collections::BTreeSet;

use super::damage::{NAME, Patient};
use crate::cvmfs::check::{Code, Data};

const TOOL: &str = "sw/tool/1.0";
const ROOT: &str = "";

/// Damage by SQL: in the catalog at a path, with what is found then.
const BY_SQL: &[(&str, &str, &[Code])] = &[
    (ROOT, "UPDATE properties SET value = '4' WHERE key = 'revision'", &[Code::ManifestRevision, Code::TagWrong]),
    (ROOT, "UPDATE properties SET value = 'x' WHERE key = 'previous_revision'", &[Code::PreviousRevision]),
    (ROOT, "UPDATE properties SET value = '2.4' WHERE key = 'schema'", &[Code::CatalogUnreadable, Code::TagCatalog]),
    (TOOL, "DROP TABLE chunks", &[Code::CatalogUnreadable]),
    (TOOL, "DELETE FROM properties WHERE key = 'root_prefix'", &[Code::RootPrefix]),
    (TOOL, "UPDATE properties SET value = '/sw/tool/1.1' WHERE key = 'root_prefix'", &[Code::RootPrefix]),
    (ROOT, "INSERT INTO properties VALUES ('root_prefix', '/sw')", &[Code::RootPrefix]),
    (TOOL, "UPDATE catalog SET flags = 1 WHERE flags = 33", &[Code::RootEntry]),
    (ROOT, "UPDATE catalog SET flags = 33 WHERE name = ''", &[Code::RootEntry]),
    (
        ROOT,
        "DELETE FROM catalog WHERE name = ''",
        &[Code::RootEntry, Code::Dangling, Code::NestedUnmounted, Code::Statistics],
    ),
    (TOOL, "UPDATE catalog SET mtime = 1 WHERE flags = 33", &[Code::TransitionDiffers]),
    (TOOL, "UPDATE catalog SET mtimens = 1 WHERE flags = 33", &[Code::TransitionDiffers]),
    (ROOT, "UPDATE catalog SET mode = mode & ~1 WHERE flags = 3 AND name = '1.0'", &[Code::TransitionDiffers]),
    (ROOT, "UPDATE catalog SET uid = 9 WHERE flags = 3 AND name = '1.0'", &[Code::TransitionDiffers]),
    (ROOT, "UPDATE catalog SET hardlinks = 9 WHERE flags = 3 AND name = '1.0'", &[Code::TransitionDiffers]),
    (
        ROOT,
        "UPDATE catalog SET xattr = x'010101016162' WHERE name = '1.0'",
        &[Code::TransitionDiffers, Code::Statistics],
    ),
    (ROOT, "UPDATE statistics SET value = value + 1 WHERE counter = 'self_regular'", &[Code::Statistics]),
    (ROOT, "UPDATE statistics SET value = value + 1 WHERE counter = 'subtree_chunks'", &[Code::Statistics]),
    (TOOL, "UPDATE statistics SET value = value - 1 WHERE counter = 'self_file_size'", &[Code::Statistics]),
    (TOOL, "DELETE FROM statistics WHERE counter = 'subtree_external'", &[Code::Statistics]),
    (ROOT, "DELETE FROM nested_catalogs WHERE path = '/conditions'", &[Code::NestedUnlisted, Code::Statistics]),
    (
        ROOT,
        "UPDATE catalog SET flags = 1, hardlinks = 2 WHERE name = 'conditions'; \
            UPDATE statistics SET value = value - 1 WHERE counter = 'self_nested'",
        &[Code::NestedUnmounted],
    ),
    (
        ROOT,
        "UPDATE nested_catalogs SET path = 'conditions' WHERE path = '/conditions'",
        &[Code::NestedMalformed, Code::NestedUnlisted, Code::Statistics],
    ),
    (
        ROOT,
        "UPDATE nested_catalogs SET sha1 = 'x' WHERE path = '/conditions'",
        &[Code::NestedMalformed, Code::Statistics],
    ),
    (ROOT, "UPDATE nested_catalogs SET size = size + 1 WHERE path = '/conditions'", &[Code::CatalogSize]),
    (
        ROOT,
        "UPDATE nested_catalogs SET sha1 = (SELECT sha1 FROM nested_catalogs WHERE path = '/sw/tool/1.1'), size = 0 \
            WHERE path = '/conditions'",
        &[Code::RootPrefix, Code::RootEntry, Code::Dangling, Code::Statistics],
    ),
    (
        ROOT,
        "INSERT INTO bind_mountpoints SELECT * FROM nested_catalogs WHERE path = '/conditions'",
        &[Code::NestedMalformed],
    ),
    (
        ROOT,
        "INSERT INTO bind_mountpoints SELECT '/names', sha1, size FROM nested_catalogs LIMIT 1",
        &[Code::BindMountpoint],
    ),
    (
        ROOT,
        "UPDATE catalog SET flags = 16385 WHERE name = 'with space'; DELETE FROM catalog WHERE name = 'read me.txt'; \
            UPDATE statistics SET value = value - 1 WHERE counter = 'self_regular'; \
            UPDATE statistics SET value = value - 7 WHERE counter = 'self_file_size'",
        &[Code::BindMountpoint],
    ),
    (
        ROOT,
        "UPDATE catalog SET flags = 3 WHERE name = 'names'",
        &[Code::NestedUnlisted, Code::MountpointNotEmpty, Code::Dangling, Code::Statistics],
    ),
    (
        ROOT,
        "UPDATE catalog SET flags = 3, name = 'conditions', md5path_1 = -1 WHERE name = 'conditions'",
        &[Code::PathHash],
    ),
    (
        TOOL,
        "UPDATE catalog SET parent_1 = 7 WHERE name = 'big.txt'",
        &[Code::Dangling, Code::Statistics, Code::ChunksOrphaned],
    ),
    (
        TOOL,
        "UPDATE catalog SET parent_1 = md5path_1, parent_2 = md5path_2 WHERE name = 'share'",
        &[Code::Dangling, Code::DirectoryLinks, Code::Statistics, Code::ChunksOrphaned],
    ),
    (TOOL, "UPDATE catalog SET name = 'other' WHERE name = 'tool'", &[Code::PathHash]),
    (TOOL, "UPDATE catalog SET name = '' WHERE name = 'tool'", &[Code::Name, Code::PathHash]),
    (TOOL, "UPDATE catalog SET name = '..' WHERE name = 'tool'", &[Code::Name, Code::PathHash]),
    (TOOL, "UPDATE catalog SET name = 'a/b' WHERE name = 'tool'", &[Code::Name, Code::PathHash]),
    (TOOL, "UPDATE catalog SET name = '.cvmfscatalog' WHERE name = 'tool'", &[Code::PathHash, Code::MarkerAstray]),
    (TOOL, "UPDATE catalog SET name = '.cvmfscatalog' WHERE name = 'doc'", &[Code::PathHash, Code::MarkerAstray]),
    (TOOL, "UPDATE catalog SET name = 'renamed' WHERE name = '.cvmfscatalog'", &[Code::PathHash, Code::MarkerMissing]),
    (TOOL, "UPDATE catalog SET mtime = 'noon' WHERE name = 'tool'", &[Code::RowUnreadable, Code::Statistics]),
    (TOOL, "UPDATE catalog SET mode = 0 WHERE name = 'tool'", &[Code::Mode]),
    (TOOL, "UPDATE catalog SET mode = 16877 WHERE name = 'tool'", &[Code::Mode, Code::HashUnexpected]),
    (TOOL, "UPDATE catalog SET mode = mode | (1 << 20) WHERE name = 'tool'", &[Code::Mode]),
    (TOOL, "UPDATE catalog SET flags = flags | 256 * 7 WHERE name = 'tool'", &[Code::HashAlgorithm, Code::HashMissing]),
    (TOOL, "UPDATE catalog SET flags = flags | 2048 * 2 WHERE name = 'tool'", &[Code::Compression]),
    (TOOL, "UPDATE catalog SET flags = flags | 65536 WHERE name = 'tool-link'", &[Code::Flags]),
    (TOOL, "UPDATE catalog SET flags = flags | 128 WHERE name = 'tool-link'", &[Code::Flags]),
    (TOOL, "UPDATE catalog SET flags = flags | 32 WHERE name = 'tool'", &[Code::Flags]),
    (TOOL, "UPDATE catalog SET mtimens = 1000000000 WHERE name = 'tool'", &[Code::Nanoseconds]),
    (TOOL, "UPDATE catalog SET size = -1 WHERE name = 'tool'", &[Code::Size, Code::Statistics, Code::ObjectSize]),
    (
        TOOL,
        "UPDATE catalog SET mode = 4516, flags = 20, hash = NULL WHERE name = 'tool'",
        &[Code::Size, Code::Statistics],
    ),
    (
        TOOL,
        "UPDATE catalog SET mode = 4516, flags = 20, size = 0 WHERE name = 'tool'",
        &[Code::HashUnexpected, Code::Statistics],
    ),
    (TOOL, "UPDATE catalog SET hardlinks = 0 WHERE name = 'tool'", &[Code::LinkCountZero]),
    (TOOL, "UPDATE catalog SET hardlinks = 3 WHERE name = 'bin'", &[Code::DirectoryLinks]),
    (TOOL, "UPDATE catalog SET hardlinks = 2 WHERE name = 'tool'", &[Code::HardlinkGroup]),
    (TOOL, "UPDATE catalog SET hardlinks = hardlinks | (1 << 32) WHERE name = 'bin'", &[Code::HardlinkGroup]),
    (TOOL, "UPDATE catalog SET hardlinks = (1 << 32) | 1 WHERE name IN ('tool', 'big.txt')", &[Code::HardlinkGroup]),
    (TOOL, "UPDATE catalog SET hardlinks = (1 << 32) | 2 WHERE name = 'tool'", &[Code::HardlinkCount]),
    (
        TOOL,
        "UPDATE catalog SET hardlinks = (1 << 32) | 3 WHERE name IN ('tool', 'tool-hardlink')",
        &[Code::HardlinkCount],
    ),
    (
        TOOL,
        "UPDATE catalog SET hardlinks = (1 << 32) | 2 WHERE name IN ('tool', 'tool-hardlink'); \
            UPDATE catalog SET mtime = 1 WHERE name = 'tool'",
        &[Code::HardlinkDiffers],
    ),
    (TOOL, "UPDATE catalog SET hash = NULL WHERE name = 'tool'", &[Code::HashMissing]),
    (TOOL, "UPDATE catalog SET hash = zeroblob(20) WHERE name = 'tool'", &[Code::HashMissing]),
    (TOOL, "UPDATE catalog SET hash = x'00' WHERE name = 'tool'", &[Code::HashMalformed]),
    (
        TOOL,
        "UPDATE catalog SET hash = x'00112233445566778899aabbccddeeff00112233' WHERE name = 'tool'",
        &[Code::ObjectMissing],
    ),
    (
        TOOL,
        "UPDATE catalog SET hash = x'00112233445566778899aabbccddeeff00112233' WHERE name = 'tool-link'",
        &[Code::HashUnexpected],
    ),
    (TOOL, "UPDATE catalog SET symlink = '', size = 0 WHERE name = 'tool-link'", &[Code::SymlinkTarget]),
    (TOOL, "UPDATE catalog SET symlink = 'x' WHERE name = 'tool'", &[Code::SymlinkTarget]),
    (TOOL, "UPDATE catalog SET symlink = 'tools' WHERE name = 'tool-link'", &[Code::SymlinkSize]),
    (
        TOOL,
        "UPDATE catalog SET xattr = x'0101' WHERE name = 'tool'; \
            UPDATE statistics SET value = 1 WHERE counter = 'self_xattr'",
        &[Code::Xattr, Code::Statistics],
    ),
    (TOOL, "UPDATE catalog SET xattr = x'' WHERE name = 'tool'", &[Code::Xattr, Code::Statistics]),
    (TOOL, "DELETE FROM chunks", &[Code::ChunksMissing, Code::Statistics]),
    (TOOL, "DELETE FROM chunks WHERE offset = 0", &[Code::ChunksMisaligned, Code::ChunksSize, Code::Statistics]),
    (
        TOOL,
        "UPDATE chunks SET offset = offset + 1 WHERE offset = (SELECT max(offset) FROM chunks)",
        &[Code::ChunksMisaligned],
    ),
    (TOOL, "UPDATE chunks SET size = size + 1 WHERE offset = (SELECT max(offset) FROM chunks)", &[Code::ChunksSize]),
    (TOOL, "UPDATE catalog SET size = size + 1 WHERE name = 'big.txt'", &[Code::ChunksSize, Code::Statistics]),
    (
        TOOL,
        "UPDATE chunks SET md5path_1 = 7 WHERE offset = 0",
        &[Code::ChunksOrphaned, Code::ChunksMisaligned, Code::ChunksSize, Code::Statistics],
    ),
    (TOOL, "UPDATE chunks SET hash = x'00' WHERE offset = 0", &[Code::HashMalformed]),
    (TOOL, "UPDATE chunks SET hash = zeroblob(20) WHERE offset = 0", &[Code::HashMissing]),
    (
        TOOL,
        "UPDATE chunks SET hash = x'00112233445566778899aabbccddeeff00112233' WHERE offset = 0",
        &[Code::ObjectMissing],
    ),
    (
        TOOL,
        "UPDATE catalog SET flags = 4 WHERE name = 'big.txt'",
        &[Code::HashMissing, Code::ChunksOrphaned, Code::Statistics],
    ),
    (TOOL, "UPDATE catalog SET size = 25 WHERE name = 'tool'", &[Code::ObjectSize, Code::Statistics]),
];

/// What `base` plants.
const IN_OTHER_TESTS: &[Code] = &[
    Code::WhitelistExpired,
    Code::WhitelistExpiresSoon,
    Code::AlternativePath,
    Code::MetainfoUnreadable,
    Code::MetainfoText,
    Code::ReflogMissing,
    Code::ReflogUnvouched,
    Code::ReflogHash,
    Code::ReflogUnreadable,
    Code::ReflogIncomplete,
    Code::HistoryUnreadable,
    Code::HistoryBranch,
    Code::CatalogDamaged,
    Code::ObjectCorrupt,
    Code::ObjectUnreadable,
];

#[test]
fn each_damage_in_a_catalog_is_found() {
    let patient = Patient::new(NAME);
    let healthy = patient.state();
    let mut wrong = Vec::new();
    for (path, sql, expected) in BY_SQL {
        patient.restore(&healthy);
        patient.catalog(path, sql);
        let mut expected = expected.to_vec();
        expected.sort_unstable();
        let found = patient.codes(Data::Exists);
        if found != expected {
            wrong.push(format!("{sql}\n  found {found:?}\n  not   {expected:?}\n{}", patient.report(Data::Exists)));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

#[test]
fn an_edit_without_damage_is_clean() {
    for name in [NAME, "shake.example.org"] {
        let patient = Patient::new(name);
        patient.catalog(TOOL, "UPDATE catalog SET mtime = 5 WHERE name = 'tool'");
        patient.catalog(
            TOOL,
            "UPDATE catalog SET hardlinks = (1 << 32) | 2, mtime = 5 WHERE name IN ('tool', 'tool-hardlink'); \
             UPDATE catalog SET xattr = x'010101016162' WHERE name = 'bin'; \
             UPDATE statistics SET value = 1 WHERE counter = 'self_xattr'",
        );
        patient.catalog("", "UPDATE statistics SET value = 1 WHERE counter = 'subtree_xattr'");
        assert_eq!(patient.report(Data::Exists).problems, [], "{name}");
    }
}

#[test]
fn every_code_is_planted() {
    let planted: BTreeSet<Code> =
        BY_SQL.iter().flat_map(|(.., codes)| codes.iter()).chain(IN_OTHER_TESTS).copied().collect();
    let missing: Vec<_> = Code::ALL.iter().filter(|code| !planted.contains(code)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}
