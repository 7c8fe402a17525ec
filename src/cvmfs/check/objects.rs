//! The objects of files and chunks: each is looked at once, however many entries refer to it.

use std::collections::HashMap;
use std::collections::hash_map::Entry as Slot;
use std::io::{self, Read};
use std::sync::Mutex;

use super::super::catalog::Compression;
use super::super::hash::{ContentHash, ObjectKind};
use super::super::object;
use super::report::{Code, Place};
use super::work::lock;
use super::{Check, Data};

const SHARDS: usize = 16;

/// A reference to an object.
pub(super) struct ObjectRef {
    /// Its name.
    pub(super) hash: ContentHash,
    /// What it is.
    pub(super) kind: ObjectKind,
    /// Bytes that its content must have.
    pub(super) size: u64,
    /// How it is stored; `None` where the entry says something unknown.
    pub(super) compression: Option<Compression>,
    /// The entry.
    pub(super) path: Vec<u8>,
}

/// The objects that were met, with their sizes. In parts, so that threads seldom wait for each other.
#[derive(Default)]
pub(super) struct Seen {
    parts: [Mutex<HashMap<(ContentHash, ObjectKind), u64>>; SHARDS],
}

/// What is known of an object.
pub(super) enum Met {
    /// Nothing.
    New,
    /// It has this size.
    Before(u64),
}

impl Seen {
    /// Takes note of an object.
    pub(super) fn meet(&self, hash: ContentHash, kind: ObjectKind, size: u64) -> Met {
        let part = &self.parts[usize::from(hash.digest()[0]) % SHARDS];
        match lock(part).entry((hash, kind)) {
            Slot::Occupied(known) => Met::Before(*known.get()),
            Slot::Vacant(slot) => {
                slot.insert(size);
                Met::New
            }
        }
    }
}

impl Check<'_> {
    /// Looks at an object as far as wanted.
    pub(super) fn object(&self, wanted: &ObjectRef) {
        let ObjectRef { hash, kind, .. } = *wanted;
        let say = |code, message: String| {
            self.note(Place::Object { hash, kind, path: wanted.path.clone() }, code, message);
        };
        let path = hash.object_path(kind);
        let (Data::Verify, Some(compression)) = (self.options.data, wanted.compression) else {
            match self.reader.fetch().exists(&path) {
                Ok(true) => {}
                Ok(false) => say(Code::ObjectMissing, "the object is missing".into()),
                Err(error) => say(Code::ObjectUnreadable, format!("the object cannot be looked at: {error}")),
            }
            return;
        };
        let stored = match self.reader.fetch().fetch(&path) {
            Ok(Some(stored)) => stored,
            Ok(None) => return say(Code::ObjectMissing, "the object is missing".into()),
            Err(error) => return say(Code::ObjectUnreadable, format!("the object cannot be opened: {error}")),
        };
        // One byte more than wanted shows that there are more: a made-up object may unpack without end.
        let mut content = object::ObjectReader::new(stored, hash, compression).take(wanted.size.saturating_add(1));
        match object::copy(&mut content, &mut io::sink()) {
            Ok(size) if size == wanted.size => {}
            Ok(size) if size > wanted.size => {
                say(Code::ObjectSize, format!("its content is longer than the {} bytes expected", wanted.size));
            }
            Ok(size) => say(Code::ObjectSize, format!("its content has {size} bytes, not {}", wanted.size)),
            Err(error) => match error.kind() {
                // The kinds that hashing and unpacking fail with.
                io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput | io::ErrorKind::UnexpectedEof => {
                    say(Code::ObjectCorrupt, "the object's bytes are not those that its name promises".into());
                }
                _ => say(Code::ObjectUnreadable, format!("the object cannot be read: {error}")),
            },
        }
    }
}
