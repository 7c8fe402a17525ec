//! Bytes that are meant to be UTF-8, arriving in pieces.

/// Joins pieces so that no character is cut between them.
#[derive(Debug, Default)]
pub(super) struct Utf8 {
    /// The beginning of a character whose end has not come.
    held: Vec<u8>,
}

impl Utf8 {
    /// Takes a piece; returns the text up to its last whole character. What is no UTF-8 becomes U+FFFD.
    pub(super) fn push(&mut self, piece: &[u8]) -> String {
        self.held.extend_from_slice(piece);
        let whole = self.held.len() - unfinished(&self.held);
        let text = String::from_utf8_lossy(&self.held[..whole]).into_owned();
        self.held.drain(..whole);
        text
    }

    /// Returns what is held: nothing more comes that belongs to it.
    pub(super) fn flush(&mut self) -> String {
        String::from_utf8_lossy(&std::mem::take(&mut self.held)).into_owned()
    }

    /// How many bytes are held, at most 3.
    pub(super) fn held(&self) -> u64 {
        self.held.len() as u64
    }
}

/// How many bytes at the end begin a character that more bytes could finish.
fn unfinished(bytes: &[u8]) -> usize {
    for back in 1..=bytes.len().min(3) {
        let wanted = match bytes[bytes.len() - back] {
            0x80..=0xBF => continue,
            0xC2..=0xDF => 2,
            0xE0..=0xEF => 3,
            0xF0..=0xF4 => 4,
            _ => 1,
        };
        return if wanted > back { back } else { 0 };
    }
    0
}

/// Drops the end of a character that begins before the first byte.
pub(super) fn skip_continuation(bytes: &[u8]) -> &[u8] {
    let start = bytes.iter().take(3).take_while(|byte| (0x80..=0xBF).contains(*byte)).count();
    &bytes[start..]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn pieces_of_a_text_join_to_the_text(text in "\\PC{0,40}", cut in proptest::collection::vec(1usize..6, 0..80)) {
            let mut rest = text.as_bytes();
            let mut utf8 = Utf8::default();
            let mut joined = String::new();
            for cut in cut {
                let (piece, more) = rest.split_at(cut.min(rest.len()));
                joined += &utf8.push(piece);
                rest = more;
            }
            joined += &utf8.push(rest);
            prop_assert_eq!(utf8.held(), 0);
            prop_assert_eq!(joined, text);
        }

        #[test]
        fn any_bytes_are_some_text(pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..9), 0..9)) {
            let mut utf8 = Utf8::default();
            for piece in pieces {
                utf8.push(&piece);
                prop_assert!(utf8.held() <= 3);
            }
            utf8.flush();
            prop_assert_eq!(utf8.held(), 0);
        }
    }
}
