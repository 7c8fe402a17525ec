//! Extended headers of POSIX pax: `<length> <key>=<value>\n`, again and again.
//!
//! Read by length and not by line, since a value may hold a newline.

use super::sparse::PaxSparse;
use crate::domain::tree::Attributes;

/// Bytes that CernVM-FS keeps of a name or value of an extended attribute, and how many it keeps of an entry.
const LONGEST_ATTRIBUTE: usize = 255;
const MOST_ATTRIBUTES: usize = 255;

/// What an extended header says about the entry that follows it.
#[derive(Debug, Default, Clone)]
pub(super) struct Pax {
    pub(super) path: Option<Vec<u8>>,
    pub(super) linkpath: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) uid: Option<u64>,
    pub(super) gid: Option<u64>,
    pub(super) mtime: Option<i64>,
    pub(super) sparse: Option<PaxSparse>,
    pub(super) attributes: Attributes,
    /// Extended attributes that are longer than CernVM-FS keeps them.
    pub(super) ignored_attributes: u64,
}

impl Pax {
    /// Reads records on top of `defaults`, which come from a global header.
    pub(super) fn parse(defaults: &Self, mut bytes: &[u8]) -> Result<Self, &'static str> {
        let mut pax = defaults.clone();
        while !bytes.is_empty() {
            let (key, value, rest) = record(bytes).ok_or("an extended header is malformed")?;
            pax.take(key, value)?;
            bytes = rest;
        }
        Ok(pax)
    }

    /// Tells whether it speaks of what only a single entry can have.
    pub(super) fn is_about_one_entry(&self) -> bool {
        self.path.is_some() || self.linkpath.is_some() || self.size.is_some() || self.sparse.is_some()
    }

    fn take(&mut self, key: &[u8], value: &[u8]) -> Result<(), &'static str> {
        // An empty value takes back what a global header said.
        let text = (!value.is_empty()).then_some(value);
        match key {
            b"path" => self.path = text.map(<[u8]>::to_vec),
            b"linkpath" => self.linkpath = text.map(<[u8]>::to_vec),
            b"size" => self.size = decimal(text, "an extended header has a size that is no number")?,
            b"uid" => self.uid = decimal(text, "an extended header has an owner that is no number")?,
            b"gid" => self.gid = decimal(text, "an extended header has a group that is no number")?,
            b"mtime" => {
                self.mtime = match text {
                    Some(text) => Some(seconds(text).ok_or("an extended header has a time that is no number")?),
                    None => None,
                }
            }
            _ => {
                if let Some(key) = key.strip_prefix(b"GNU.sparse.") {
                    self.sparse.get_or_insert_default().take(key, value)?;
                } else if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                    // Programs that write the other form, with coded names and values, write this one as well.
                    if name.len().max(value.len()) > LONGEST_ATTRIBUTE || self.attributes.len() == MOST_ATTRIBUTES {
                        self.ignored_attributes += 1;
                    } else if !name.is_empty() && !name.contains(&0) {
                        self.attributes.insert(name.to_vec(), value.to_vec());
                    }
                }
            }
        }
        Ok(())
    }
}

/// Splits the first record off: key, value, rest.
fn record(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = bytes.iter().take(20).position(|b| *b == b' ')?;
    let length = usize::try_from(parse_decimal(&bytes[..space])?).ok()?;
    let body = bytes.get(space + 1..length)?.strip_suffix(b"\n")?;
    let equals = body.iter().position(|b| *b == b'=')?;
    Some((&body[..equals], &body[equals + 1..], &bytes[length..]))
}

fn decimal(text: Option<&[u8]>, why: &'static str) -> Result<Option<u64>, &'static str> {
    text.map(|text| parse_decimal(text).ok_or(why)).transpose()
}

/// Decimal digits and nothing else.
pub(super) fn parse_decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// Seconds with an optional sign and fraction, rounded down.
fn seconds(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text.strip_prefix(b"-") {
        Some(digits) => (true, digits),
        None => (false, text),
    };
    let mut parts = digits.splitn(2, |b| *b == b'.');
    let whole = i64::try_from(parse_decimal(parts.next()?)?).ok()?;
    let fraction = parts.next().unwrap_or_default();
    if !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let some_more = fraction.iter().any(|digit| *digit != b'0');
    if negative { (-whole).checked_sub(some_more.into()) } else { Some(whole) }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(bytes: &[u8]) -> Result<Pax, &'static str> {
        Pax::parse(&Pax::default(), bytes)
    }

    #[test]
    fn records_are_read_by_length() {
        let pax = parse(b"13 path=a\nb=\n9 uid=12\n12 mtime=-1.5\n").err();
        assert!(pax.is_some(), "a wrong length is an error");
        let pax = parse(b"13 path=a\nb=\n10 uid=12\n14 mtime=-1.5\n11 comment\n".split_at(37).0).unwrap();
        assert_eq!(pax.path.unwrap(), b"a\nb=");
        assert_eq!((pax.uid, pax.mtime), (Some(12), Some(-2)));
    }

    #[test]
    fn malformed_records_are_errors() {
        for bad in [
            &b"x"[..],
            b"\n",
            b"0 a=b\n",
            b"3 a=b\n",
            b"6 a=b",
            b"7 a=b\n",
            b"6 abc\n",
            b"6 a=b\n\0",
            b"-6 a=b\n",
            b"+6 a=b\n",
            b"99999999999999999999 a=b\n",
            b"18446744073709551615 a=b\n",
            b"11 size=-1\n",
            b"11 size=0x\n",
            b"12 mtime=1e\n",
            b"33 mtime=99999999999999999999999\n",
        ] {
            assert!(parse(bad).is_err(), "{:?}", String::from_utf8_lossy(bad));
        }
    }

    #[test]
    fn times_are_rounded_down() {
        for (text, want) in
            [("0", 0), ("1.9", 1), ("-1", -1), ("-1.0", -1), ("-1.000000001", -2), ("-0.5", -1), ("1.", 1)]
        {
            assert_eq!(seconds(text.as_bytes()), Some(want), "{text}");
        }
        for bad in ["", "-", ".", ".5", "1.-5", "--1", "1.5.5", "+1", "9223372036854775808"] {
            assert_eq!(seconds(bad.as_bytes()), None, "{bad}");
        }
        assert_eq!(seconds(b"-9223372036854775807.5"), Some(i64::MIN));
    }

    #[test]
    fn an_empty_value_takes_a_default_back() {
        let global = parse(b"8 uid=7\n8 gid=8\n").unwrap();
        let pax = Pax::parse(&global, b"7 uid=\n").unwrap();
        assert_eq!((pax.uid, pax.gid), (None, Some(8)));
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&bytes);
        }

        #[test]
        fn nearly_right_records_never_panic(
            text in "([0-9]{1,3} (path|size|mtime|GNU.sparse.map|uid)=[-0-9.,a\\n]{0,9}\\n){1,4}",
        ) {
            let _ = parse(text.as_bytes());
        }
    }
}
