//! One function for each kind of foreign bytes: it reads them in every way that the program does, and must neither panic
//! nor take long nor much memory, whatever they are. Shared by the fuzzers and by `tests/it/fuzz`.

use std::collections::{HashMap, HashSet};
use std::convert::Infallible;
use std::io::{self, Read};
use std::sync::LazyLock;

use conveyor::cvmfs::catalog::Catalog;
use conveyor::cvmfs::certificate::SigningCertificate;
use conveyor::cvmfs::edit::{EditError, NewEntry, NewKind, TreeEditor};
use conveyor::cvmfs::fetch::Fetch;
use conveyor::cvmfs::hash::{Algorithm, ContentHash, ObjectKind};
use conveyor::cvmfs::history::{History, Tag};
use conveyor::cvmfs::keys::NewKeys;
use conveyor::cvmfs::manifest::{self, Manifest};
use conveyor::cvmfs::reader::{Expiry, Reader};
use conveyor::cvmfs::signature::{Letter, Scheme};
use conveyor::cvmfs::whitelist::{self, Whitelist};
use conveyor::cvmfs::xattr::Xattrs;
use conveyor::domain::tree::{EntryKind, EntryPath};
use conveyor::payload::archive::{self, ArchiveItem, ArchiveLimits};

const NAME: &str = "test.example.org";
const NOW: i64 = 1_795_240_000;

/// Most bytes that any of these reads of a file, a row or a walk, so that it ends.
const ENOUGH: u64 = 1 << 20;

/// The bytes as they are, and as the text of a letter whose hash is right: mutations seldom hit a hash.
fn letters(bytes: &[u8], what: &'static str) -> Vec<Letter> {
    let hash = Algorithm::Sha1.hash(&[bytes, b"\n"].concat());
    let sealed = [bytes, b"\n--\n", hash.to_string().as_bytes(), b"\nsignature"].concat();
    [bytes, &sealed].into_iter().filter_map(|bytes| Letter::parse(bytes, what).ok()).collect()
}

/// A manifest. One that is understood says the same when it is written again.
pub(crate) fn manifest(bytes: &[u8]) {
    for letter in letters(bytes, "manifest") {
        assert!(letter.verify(Scheme::Digest, std::slice::from_ref(KEYS.signing.certificate.public_key())).is_err());
        if let Ok(manifest) = Manifest::parse(&letter) {
            let again = letters(manifest.body().trim_end_matches('\n').as_bytes(), "manifest");
            let again = Manifest::parse(again.last().expect("what was written is a letter")).expect("and a manifest");
            assert_eq!(again, Manifest { unknown: Vec::new(), ..manifest });
        }
    }
}

/// A whitelist.
pub(crate) fn whitelist(bytes: &[u8]) {
    for letter in letters(bytes, "whitelist") {
        assert!(letter.verify(Scheme::Text, &[KEYS.master.to_public_key()]).is_err());
        if let Ok(whitelist) = Whitelist::parse(&letter) {
            assert_eq!(whitelist.check_time(NOW).is_ok(), NOW < whitelist.expires_at);
            assert_eq!(whitelist.expires_at % 3600, 0);
        }
    }
}

/// A certificate, as PEM or, so that mutations get further, as DER.
pub(crate) fn certificate(bytes: &[u8]) {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for line in bytes.chunks(48) {
        for piece in line.chunks(3) {
            let bits = piece.iter().fold(0, |bits, byte| bits << 8 | usize::from(*byte)) << (8 * (3 - piece.len()));
            let digit = |at: usize| if at > piece.len() { '=' } else { DIGITS[bits >> (18 - 6 * at) & 63] as char };
            text.extend((0..4).map(digit));
        }
        text.push('\n');
    }
    let pem = format!("-----BEGIN CERTIFICATE-----\n{text}-----END CERTIFICATE-----\n");
    for bytes in [bytes, pem.as_bytes()] {
        if let Ok(certificate) = SigningCertificate::from_pem(bytes) {
            certificate.fingerprint(Algorithm::Sha1);
        }
    }
}

/// A catalog: read by itself, as the root of a repository, and edited.
pub(crate) fn catalog(bytes: &[u8]) {
    let hash = Algorithm::Sha1.hash(bytes);
    let file = file_of(bytes);
    if let Ok(catalog) = Catalog::open(file.path(), &hash) {
        let _ = (catalog.revision(), catalog.last_modified(), catalog.previous_revision(), catalog.entries());
        let _ = (catalog.statistics(), catalog.recount(), catalog.has_bind_mountpoints());
        let _ = (catalog.lookup(b""), catalog.lookup(b"no/such"), catalog.list(b"no/such"));
        for nested in catalog.nested().unwrap_or_default() {
            let _ = (catalog.lookup(&nested.path), catalog.list(&nested.path));
        }
        walk(bytes);
    }
}

/// Visits the tree of a repository that has the bytes as its root catalog, and reads its files.
fn walk(bytes: &[u8]) {
    let repository = repository(bytes);
    let reader = Reader::open(Box::new(repository), NAME, &[KEYS.master.to_public_key()], Expiry::Refuse { now: NOW })
        .expect("the repository is in order down to its catalog");
    let _ = reader.revisions().take(100).count();
    let Ok(mut tree) = reader.tree() else { return };
    let (mut files, mut seen) = (Vec::new(), HashSet::new());
    let _ = tree.walk(b"", |path, entry| {
        let _ = (entry.permissions(), entry.link_count(), entry.hardlink_group(), entry.compression());
        let bad = |part: &[u8]| matches!(part, b"" | b"." | b"..") || part.contains(&0);
        assert!(path.is_empty() || !path.split(|byte| *byte == b'/').any(bad), "{path:?} leads elsewhere");
        assert!(seen.insert(path.to_vec()), "{path:?} comes twice");
        if entry.is_file() && files.len() < 100 {
            files.push(path.to_vec());
        }
        Ok(())
    });
    for path in files {
        if let Ok(file) = tree.file(&path) {
            let _ = io::copy(&mut file.take(ENOUGH), &mut io::sink());
        }
    }
    edit(&reader);
}

/// Changes a copy, as a publish does.
fn edit(reader: &Reader) {
    let copies = tempfile::tempdir().expect("a temporary directory can be made");
    let Ok(mut editor) = TreeEditor::open(reader, copies.path().to_owned(), None) else { return };
    let names: Vec<_> = editor.list(b"").unwrap_or_default().into_iter().map(|entry| entry.name).collect();
    let new =
        |kind| NewEntry { kind, permissions: 0o644, mtime: NOW, mtime_ns: None, uid: 0, gid: 0, xattrs: Xattrs::new() };
    let _ = (|| {
        editor.put(b"fuzz", &new(NewKind::Directory))?;
        editor.put(b"fuzz/link", &new(NewKind::Symlink { target: b"target".to_vec() }))?;
        editor.link(b"fuzz/other", b"fuzz/link")?;
        for name in names.iter().take(20) {
            editor.remove(name)?;
        }
        Ok::<_, EditError>(())
    })();
}

/// A history: read, and a tag added.
pub(crate) fn history(bytes: &[u8]) {
    let hash = Algorithm::Sha1.hash(bytes);
    let file = file_of(bytes);
    if let Ok(history) = History::open(file.path(), &hash) {
        let _ = (history.tags(), history.tag("trunk"), history.previous(), history.repository());
    }
    if let Ok(history) = History::open_for_editing(file.path(), &hash) {
        let tag =
            Tag { name: "new".into(), root_hash: hash, size: 1, revision: 7, timestamp: NOW, description: "".into() };
        let _ = (history.set_previous(&hash), history.insert(&tag), history.advance_trunk(&tag), history.close());
    }
}

/// An archive.
pub(crate) fn tar(bytes: &[u8]) {
    let limits =
        ArchiveLimits { total_bytes: 8 * ENOUGH, file_bytes: 4 * ENOUGH, entries: 10_000, ..ArchiveLimits::default() };
    let base = EntryPath::new(b"apps/x").expect("it is a path");
    let mut total = 0;
    let read = archive::read::<Infallible>(bytes, &limits, &base, "/cvmfs/test.example.org", &mut |entry, content| {
        assert!(entry.path.parts().all(|part| !matches!(part, b"" | b"." | b"..")), "{:?} leads elsewhere", entry.path);
        let copied = io::copy(content, &mut io::sink());
        if let (ArchiveItem::Node(EntryKind::File { size }), Ok(copied)) = (&entry.item, &copied) {
            assert_eq!(size, copied);
        }
        total += copied.unwrap_or(0);
        Ok(())
    });
    if let Ok(summary) = read {
        assert_eq!(summary.bytes, total);
    }
}

static KEYS: LazyLock<NewKeys> = LazyLock::new(|| NewKeys::generate(NAME, NOW).expect("keys can be made"));

fn file_of(bytes: &[u8]) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().expect("a temporary file can be made");
    std::fs::write(file.path(), bytes).expect("and written");
    file
}

/// Files in memory.
struct Files(HashMap<String, Vec<u8>>);

impl Fetch for Files {
    fn fetch(&self, path: &str) -> io::Result<Option<Box<dyn Read + Send>>> {
        Ok(self.0.get(path).map(|bytes| Box::new(io::Cursor::new(bytes.clone())) as Box<dyn Read + Send>))
    }
}

impl Files {
    /// Stores an object as it is, in a zlib stream that does not compress.
    fn add(&mut self, kind: ObjectKind, bytes: &[u8]) -> ContentHash {
        let mut stored = vec![0x78, 0x01];
        let mut pieces = bytes.chunks(0xffff).peekable();
        while let Some(piece) = pieces.next() {
            let length = u16::try_from(piece.len()).expect("pieces are that short");
            stored.push(u8::from(pieces.peek().is_none()));
            stored.extend(length.to_le_bytes());
            stored.extend((!length).to_le_bytes());
            stored.extend(piece);
        }
        let (a, b) = bytes.iter().fold((1_u32, 0_u32), |(a, b), byte| {
            let a = (a + u32::from(*byte)) % 65521;
            (a, (b + a) % 65521)
        });
        stored.extend(((b << 16) | a).to_be_bytes());
        let hash = Algorithm::Sha1.hash(&stored);
        self.0.insert(hash.object_path(kind), stored);
        hash
    }
}

/// A repository in order, with this as its root catalog.
fn repository(root: &[u8]) -> Files {
    let mut files = Files(HashMap::new());
    let fingerprint = KEYS.signing.certificate.fingerprint(Algorithm::Sha1);
    let whitelist = Whitelist::seal(NAME, &[fingerprint], NOW, 30, &KEYS.master).expect("it can be signed");
    files.0.insert(whitelist::FILE.into(), whitelist);
    let root_hash = files.add(ObjectKind::Catalog, root);
    let certificate = files.add(ObjectKind::Certificate, KEYS.signing.certificate.pem().as_bytes());
    let manifest = Manifest {
        root_hash,
        root_size: root.len() as u64,
        ttl: 240,
        revision: 7,
        garbage_collectable: false,
        alternative_paths: false,
        repository: NAME.into(),
        certificate,
        history: None,
        published_at: NOW,
        metainfo: None,
        reflog: None,
        unknown: Vec::new(),
    };
    let sealed = manifest.seal(Algorithm::Sha1, &KEYS.signing.key).expect("it can be signed");
    files.0.insert(manifest::FILE.into(), sealed);
    files
}
