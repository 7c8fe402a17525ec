//! One header block of a tar archive, as POSIX ustar, GNU and the seventh edition write it.

/// The fields of a header block, decoded but not yet believed.
pub(super) struct RawHeader {
    /// The name, prefix included. Not checked.
    pub(super) name: Vec<u8>,
    /// Where a link leads. Not checked.
    pub(super) link: Vec<u8>,
    /// The type flag.
    pub(super) flag: u8,
    pub(super) size: Option<u64>,
    pub(super) mode: Option<i128>,
    pub(super) mtime: Option<i128>,
    pub(super) uid: Option<i128>,
    pub(super) gid: Option<i128>,
    /// Of a device; the seventh edition knew none.
    pub(super) major: Option<i128>,
    pub(super) minor: Option<i128>,
    /// The block itself, for the fields of GNU's sparse files.
    pub(super) block: [u8; 512],
}

impl RawHeader {
    /// Decodes a block whose checksum is right; `None` where it is not.
    pub(super) fn decode(block: [u8; 512]) -> Option<Self> {
        if !checksum_is_right(&block) {
            return None;
        }
        let header = tar::Header::from_byte_slice(&block);
        let old = header.as_old();
        // GNU's header uses the prefix for times; the seventh edition has none.
        let name = match header.as_ustar() {
            Some(ustar) if ustar.prefix[0] != 0 => [until_nul(&ustar.prefix), b"/", until_nul(&ustar.name)].concat(),
            _ => until_nul(&old.name).to_vec(),
        };
        Some(Self {
            name,
            link: until_nul(&old.linkname).to_vec(),
            flag: old.linkflag[0],
            size: number(&old.size).and_then(|size| u64::try_from(size).ok()),
            mode: number(&old.mode),
            mtime: number(&old.mtime),
            uid: number(&old.uid),
            gid: number(&old.gid),
            major: number(&block[329..337]),
            minor: number(&block[337..345]),
            block,
        })
    }
}

/// The bytes before the first NUL.
pub(super) fn until_nul(field: &[u8]) -> &[u8] {
    field.split(|b| *b == 0).next().unwrap_or_default()
}

/// The sum of all bytes, the checksum's own field taken as spaces. Some old programs summed signed bytes.
fn checksum_is_right(block: &[u8; 512]) -> bool {
    let stored = number(&block[148..156]);
    let counted = || block[..148].iter().chain(&[b' '; 8]).chain(&block[156..]);
    let unsigned: i128 = counted().map(|b| i128::from(*b)).sum();
    let signed: i128 = counted().map(|b| i128::from(b.cast_signed())).sum();
    stored == Some(unsigned) || stored == Some(signed)
}

/// A number in octal digits, or in GNU's base 256, which can be negative. An empty field is 0.
pub(super) fn number(field: &[u8]) -> Option<i128> {
    match field {
        [first, rest @ ..] if first & 0x80 != 0 => {
            // Two's complement, big endian; the top bit marks the encoding and the next one is the sign.
            let top = i128::from(first & 0x7f) - if first & 0x40 != 0 { 0x80 } else { 0 };
            rest.iter().try_fold(top, |value, byte| value.checked_mul(256)?.checked_add(i128::from(*byte)))
        }
        _ => {
            let digits = until_nul(field).trim_ascii();
            digits.iter().try_fold(0i128, |value, digit| match digit {
                b'0'..=b'7' => value.checked_mul(8)?.checked_add(i128::from(digit - b'0')),
                _ => None,
            })
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_octal_or_base_256() {
        assert_eq!(number(b"0000644\0"), Some(0o644));
        assert_eq!(number(b" 644 \0\0\0"), Some(0o644));
        assert_eq!(number(b"777777777777"), Some(0o777_777_777_777));
        assert_eq!(number(b"\0\0\0\0"), Some(0));
        assert_eq!(number(b""), Some(0));
        assert_eq!(number(b"\x80\0\0\0\0\0\0\x01\0\0\0\0"), Some(1 << 32));
        assert_eq!(number(&[0xff; 12]), Some(-1));
        for bad in [&b"9"[..], b"12x", b"-1", b"0x1", b"1 2", b"\x30\xff"] {
            assert_eq!(number(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn a_base_256_number_never_overflows_silently() {
        assert_eq!(number(&[0xbf; 12]), Some(0x3fbf_bfbf_bfbf_bfbf_bfbf_bfbf));
        assert_eq!(number(&[0x80 | 0x3f; 40]), None);
    }

    #[test]
    fn a_block_with_a_wrong_sum_is_no_header() {
        let mut header = tar::Header::new_ustar();
        header.set_size(5);
        header.set_cksum();
        let mut block = *header.as_bytes();
        assert_eq!(RawHeader::decode(block).unwrap().size, Some(5));
        block[0] ^= 1;
        assert!(RawHeader::decode(block).is_none());
        assert!(RawHeader::decode([0; 512]).is_none());
        assert!(RawHeader::decode([0xff; 512]).is_none());
    }
}
