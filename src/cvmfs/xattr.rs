//! Extended attributes as catalogs pack them (`cvmfs/xattr.cc`): a version byte, the number of attributes, and for each
//! one the lengths of its name and value and then both.

use std::collections::BTreeMap;

use super::Error;

/// The version of the packed form, the only one that there is.
const VERSION: u8 = 1;

/// Most attributes that an entry can have: their number is a byte.
pub const MOST: usize = 255;

/// Most bytes that a name or a value can have: their lengths are bytes.
pub const LONGEST: usize = 255;

/// The extended attributes of one entry, by name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Xattrs(BTreeMap<Vec<u8>, Vec<u8>>);

impl Xattrs {
    /// None at all.
    pub const fn new() -> Self {
        Self(BTreeMap::new())
    }

    /// Sets an attribute, such as `user.comment`; refuses what the packed form cannot hold.
    pub fn set(&mut self, name: &[u8], value: &[u8]) -> Result<(), Error> {
        let refused = |why: String| {
            Err(Error::malformed(format!("the extended attribute {:?}", String::from_utf8_lossy(name)), why))
        };
        if name.is_empty() || name.contains(&0) {
            return refused("its name is empty or has a NUL in it".into());
        }
        if name.len() > LONGEST || value.len() > LONGEST {
            return refused(format!("CernVM-FS keeps names and values of at most {LONGEST} bytes"));
        }
        if self.0.len() >= MOST && !self.0.contains_key(name) {
            return refused(format!("CernVM-FS keeps at most {MOST} attributes for each entry"));
        }
        self.0.insert(name.to_vec(), value.to_vec());
        Ok(())
    }

    /// The value of an attribute.
    pub fn get(&self, name: &[u8]) -> Option<&[u8]> {
        self.0.get(name).map(Vec::as_slice)
    }

    /// Names and values, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.0.iter().map(|(name, value)| (name.as_slice(), value.as_slice()))
    }

    /// Tells whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Reads the packed form.
    pub fn unpack(packed: &[u8]) -> Result<Self, Error> {
        let bad = |why: &str| Error::malformed("a list of extended attributes", why);
        let cut = || bad("it ends too early");
        let [version, count, rest @ ..] = packed else { return Err(cut()) };
        if *version != VERSION {
            return Err(bad(&format!("version {version}")));
        }
        let (mut attributes, mut rest) = (Self::new(), rest);
        for _ in 0..*count {
            let [name_length, value_length, after @ ..] = rest else { return Err(cut()) };
            let (name, after) = after.split_at_checked((*name_length).into()).ok_or_else(cut)?;
            let (value, after) = after.split_at_checked((*value_length).into()).ok_or_else(cut)?;
            attributes.set(name, value)?;
            rest = after;
        }
        Ok(attributes)
    }

    /// Writes the packed form; `None` when there are none.
    pub fn pack(&self) -> Option<Vec<u8>> {
        if self.0.is_empty() {
            return None;
        }
        let byte = |length: usize| u8::try_from(length).unwrap_or(u8::MAX);
        let mut packed = vec![VERSION, byte(self.0.len())];
        for (name, value) in &self.0 {
            packed.extend([byte(name.len()), byte(value.len())]);
            packed.extend_from_slice(name);
            packed.extend_from_slice(value);
        }
        Some(packed)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_is_packed_is_unpacked() {
        let mut attributes = Xattrs::new();
        assert_eq!(attributes.pack(), None);
        attributes.set(b"user.b", b"").unwrap();
        attributes.set(b"user.a", b"\0\xff").unwrap();
        attributes.set(&[b'x'; LONGEST], &[b'y'; LONGEST]).unwrap();
        let packed = attributes.pack().unwrap();
        assert_eq!(&packed[..14], b"\x01\x03\x06\x02user.a\0\xff\x06\0");
        assert_eq!(Xattrs::unpack(&packed).unwrap(), attributes);
        for end in 0..packed.len() {
            assert!(Xattrs::unpack(&packed[..end]).is_err(), "{end}");
        }
        assert!(Xattrs::unpack(b"\x02\0").is_err());
    }

    #[test]
    fn what_cannot_be_packed_is_refused() {
        let mut attributes = Xattrs::new();
        for (name, value) in [(&b""[..], &b""[..]), (b"a\0b", b""), (&[b'x'; 256], b""), (b"x", &[0; 256])] {
            assert!(attributes.set(name, value).is_err());
        }
        for number in 0..MOST {
            attributes.set(format!("user.{number}").as_bytes(), b"").unwrap();
        }
        assert!(attributes.set(b"one.too.many", b"").is_err());
        attributes.set(b"user.0", b"changed").unwrap();
        assert_eq!(attributes.get(b"user.0"), Some(&b"changed"[..]));
    }
}
