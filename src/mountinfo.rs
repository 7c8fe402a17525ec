//! `/proc/PID/mountinfo`, read without allocating: a process that was forked from one with several threads reads it too.

/// One mount of a mount namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mount<'a> {
    /// Unique among all mounts of the machine: the same mount in another namespace has another.
    pub(crate) id: u64,
    /// Device number as `MAJOR:MINOR`, the same for all mounts of a file system.
    pub(crate) device: &'a [u8],
    /// Where it is mounted, as the kernel writes it: see [`unescape`].
    pub(crate) point: &'a [u8],
}

/// The mounts, in the kernel's order: of two at one place the upper one comes later.
pub(crate) fn mounts(text: &[u8]) -> impl Iterator<Item = Mount<'_>> {
    text.split(|byte| *byte == b'\n').filter_map(|line| {
        let mut fields = line.split(|byte| *byte == b' ');
        let id = std::str::from_utf8(fields.next()?).ok()?.parse().ok()?;
        let device = fields.nth(1)?;
        let point = fields.nth(1)?;
        Some(Mount { id, device, point })
    })
}

/// Writes a path without the kernel's escapes (`\040` for a space) into `buffer`; `None` where it does not fit.
pub(crate) fn unescape<'b>(escaped: &[u8], buffer: &'b mut [u8]) -> Option<&'b [u8]> {
    let (mut read, mut written) = (0, 0);
    while read < escaped.len() {
        let octal = escaped.get(read + 1..read + 4).filter(|digits| digits.iter().all(|d| (b'0'..=b'7').contains(d)));
        let byte = match (escaped[read], octal) {
            (b'\\', Some(digits)) => {
                read += 4;
                digits.iter().fold(0_u8, |value, digit| value.wrapping_shl(3) | (digit - b'0'))
            }
            (byte, _) => {
                read += 1;
                byte
            }
        };
        *buffer.get_mut(written)? = byte;
        written += 1;
    }
    buffer.get(..written)
}

/// Tells whether a path is a directory or lies below it.
pub(crate) fn is_within(path: &[u8], directory: &[u8]) -> bool {
    match path.strip_prefix(directory) {
        Some(rest) => rest.is_empty() || rest[0] == b'/' || directory == b"/",
        None => false,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_of_the_kernel_are_understood() {
        let text = b"22 27 0:21 / /proc rw,relatime - proc proc rw\n\
                     36 35 98:0 /mnt1 /mnt\\0402\\134 rw,noatime master:1 - ext3 /dev/root rw\nnonsense\n\n";
        let found: Vec<_> = mounts(text).collect();
        assert_eq!(found.len(), 2);
        assert_eq!(found[0], Mount { id: 22, device: b"0:21", point: b"/proc" });
        let mut buffer = [0; 64];
        assert_eq!(unescape(found[1].point, &mut buffer), Some(&b"/mnt 2\\"[..]));
        assert_eq!(unescape(b"/too/long", &mut [0; 4]), None);
        assert_eq!(unescape(b"/a\\04", &mut buffer), Some(&b"/a\\04"[..]));
    }

    #[test]
    fn our_own_mounts_are_found() {
        let text = std::fs::read("/proc/self/mountinfo").unwrap();
        assert!(mounts(&text).any(|mount| mount.point == b"/"));
    }

    #[test]
    fn a_name_that_begins_alike_is_not_within() {
        assert!(is_within(b"/a/b", b"/a") && is_within(b"/a", b"/a") && is_within(b"/a", b"/"));
        assert!(!is_within(b"/ab", b"/a") && !is_within(b"/", b"/a"));
    }
}
