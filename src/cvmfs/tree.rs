//! The tree of one revision, across nested catalogs.

use std::collections::VecDeque;
use std::io::{self, Read};
use std::rc::Rc;

use super::Error;
use super::catalog::{Catalog, Chunk, Entry, Flags, NestedCatalog, join};
use super::hash::{ContentHash, ObjectKind};
use super::object::ObjectReader;
use super::reader::Reader;

/// Nested catalogs that stay open, the latest used: each is an open file with its size of disk space.
const MOST_OPEN: usize = 32;

/// The tree below one root catalog. Nested catalogs are fetched when a path first leads into them.
pub struct Tree<'r> {
    reader: &'r Reader,
    root: Rc<Catalog>,
    /// The latest used last.
    nested: VecDeque<(ContentHash, Rc<Catalog>)>,
}

impl<'r> Tree<'r> {
    pub(super) fn open(reader: &'r Reader, root_hash: &ContentHash) -> Result<Self, Error> {
        Ok(Self { reader, root: Rc::new(reader.catalog(root_hash)?), nested: VecDeque::new() })
    }

    /// The entry at a path.
    pub fn lookup(&mut self, path: &[u8]) -> Result<Option<Entry>, Error> {
        self.catalog_of(path)?.lookup(path)
    }

    /// The visible entries of a directory, sorted by name.
    pub fn list(&mut self, directory: &[u8]) -> Result<Vec<Entry>, Error> {
        let mut entries = self.catalog_of(directory)?.list(directory)?;
        entries.retain(|entry| !entry.flags.has(Flags::HIDDEN));
        Ok(entries)
    }

    /// Visits a directory and all below it, parents first.
    pub fn walk(&mut self, top: &[u8], mut visit: impl FnMut(&[u8], &Entry) -> Result<(), Error>) -> Result<(), Error> {
        let catalog = self.catalog_of(top)?;
        let missing = || Error::Missing(format!("/{}", String::from_utf8_lossy(top)));
        let mut pending = vec![(top.to_vec(), catalog.lookup(top)?.ok_or_else(missing)?, catalog)];
        while let Some((path, entry, catalog)) = pending.pop() {
            visit(&path, &entry)?;
            if entry.is_directory() {
                let catalog = self.catalog_below(&path, &entry, catalog)?;
                let mut children = catalog.list(&path)?;
                children.retain(|child| !child.flags.has(Flags::HIDDEN));
                pending.extend(
                    children.into_iter().rev().map(|child| (join(&path, &child.name), child, Rc::clone(&catalog))),
                );
            }
        }
        Ok(())
    }

    /// Where the catalog begins that holds what is in a directory, and how many entries it has.
    pub fn own_entries(&mut self, directory: &[u8]) -> Result<(Vec<u8>, u64), Error> {
        let catalog = self.catalog_of(directory)?;
        Ok((catalog.root_prefix()?, catalog.statistics()?.own.entries().try_into().unwrap_or(0)))
    }

    /// The root catalog.
    pub(super) fn root(&self) -> Rc<Catalog> {
        Rc::clone(&self.root)
    }

    /// The catalog that holds what is in a directory, given the one that holds the directory's entry.
    pub(super) fn catalog_below(
        &mut self,
        path: &[u8],
        entry: &Entry,
        catalog: Rc<Catalog>,
    ) -> Result<Rc<Catalog>, Error> {
        if !entry.flags.has(Flags::NESTED_MOUNTPOINT) {
            return Ok(catalog);
        }
        match catalog.nested_at(path)? {
            Some(nested) => self.load(&nested),
            None => Err(Error::Missing(format!("the nested catalog at /{}", String::from_utf8_lossy(path)))),
        }
    }

    /// The content of a file.
    pub fn file(&mut self, path: &[u8]) -> Result<FileReader<'r>, Error> {
        let shown = || format!("/{}", String::from_utf8_lossy(path));
        let catalog = self.catalog_of(path)?;
        let entry = catalog.lookup(path)?.ok_or_else(|| Error::Missing(shown()))?;
        if !entry.is_file() {
            return Err(Error::Unsupported(format!("reading {}, which is no regular file,", shown())));
        }
        if entry.flags.has(Flags::EXTERNAL) {
            return Err(Error::Unsupported(format!("reading {}, whose content lies outside the repository,", shown())));
        }
        let unknown = || Error::Unsupported(format!("the hash or compression algorithm of {}", shown()));
        let (algorithm, compression) =
            (entry.algorithm().ok_or_else(unknown)?, entry.compression().ok_or_else(unknown)?);
        let (kind, pieces) = match entry.hash {
            Some(hash) => (ObjectKind::File, vec![Chunk { offset: 0, size: entry.size, hash }]),
            None => (ObjectKind::Chunk, catalog.chunks(path, algorithm)?),
        };
        let mut end = 0_u64;
        for piece in &pieces {
            if piece.offset != end {
                return Err(Error::malformed(shown(), format!("its chunks leave a gap at {end}")));
            }
            let more = || Error::malformed(shown(), "its chunks have more bytes than a file can have");
            end = end.checked_add(piece.size).ok_or_else(more)?;
        }
        if end != entry.size {
            return Err(Error::malformed(shown(), format!("its chunks have {end} bytes, not {}", entry.size)));
        }
        let reader = self.reader;
        let open = move |piece: &Chunk| reader.object(&piece.hash, kind, compression);
        Ok(FileReader { open: Box::new(open), pieces: pieces.into_iter(), current: None })
    }

    /// The catalog that holds a path's entry; for the mount point of a nested catalog, the nested one. Each begins deeper
    /// than the one before, so that made-up catalogs cannot send us in circles.
    fn catalog_of(&mut self, path: &[u8]) -> Result<Rc<Catalog>, Error> {
        let mut catalog = Rc::clone(&self.root);
        let mut depth = 0;
        while let Some(nested) = catalog.nested_towards(path, depth)? {
            catalog = self.load(&nested)?;
            depth = nested.path.len();
        }
        Ok(catalog)
    }

    fn load(&mut self, nested: &NestedCatalog) -> Result<Rc<Catalog>, Error> {
        if let Some(at) = self.nested.iter().position(|(hash, _)| *hash == nested.hash)
            && let Some(used) = self.nested.remove(at)
        {
            let catalog = Rc::clone(&used.1);
            self.nested.push_back(used);
            return Ok(catalog);
        }
        let catalog = Rc::new(self.reader.catalog(&nested.hash)?);
        let prefix = catalog.root_prefix()?;
        if prefix != nested.path {
            // It would look empty: its rows are stored under the hashes of other paths.
            let why = format!(
                "it is mounted at /{} and made for /{}",
                String::from_utf8_lossy(&nested.path),
                String::from_utf8_lossy(&prefix)
            );
            return Err(Error::malformed(format!("catalog {}", nested.hash), why));
        }
        if self.nested.len() >= MOST_OPEN {
            self.nested.pop_front();
        }
        self.nested.push_back((nested.hash, Rc::clone(&catalog)));
        Ok(catalog)
    }
}

type OpenPiece<'r> = Box<dyn Fn(&Chunk) -> Result<ObjectReader, Error> + 'r>;

/// Gives a file's content, object after object, each of them verified at its end.
pub struct FileReader<'r> {
    open: OpenPiece<'r>,
    pieces: std::vec::IntoIter<Chunk>,
    current: Option<(ObjectReader, u64)>,
}

impl Read for FileReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if let Some((reader, left)) = &mut self.current {
                let count = reader.read(buffer)?;
                let mismatch =
                    || io::Error::new(io::ErrorKind::InvalidData, "an object has another size than its file");
                *left = left.checked_sub(count as u64).ok_or_else(mismatch)?;
                if count > 0 || buffer.is_empty() {
                    return Ok(count);
                }
                if *left > 0 {
                    return Err(mismatch());
                }
                self.current = None;
            }
            match self.pieces.next() {
                Some(piece) => self.current = Some(((self.open)(&piece).map_err(io::Error::other)?, piece.size)),
                None => return Ok(0),
            }
        }
    }
}
