//! The secret that lets a client in.

use std::fmt;

/// A bearer token. Neither `Debug` nor any error shows it.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

/// The text cannot be a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the token is empty or has characters other than visible ASCII: copy it again, as one line")]
pub struct TokenError;

impl Token {
    /// Takes a token as it stands in a file or variable; white space around it does not count.
    pub fn new(text: &str) -> Result<Self, TokenError> {
        let text = text.trim();
        let fits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic());
        if fits { Ok(Self(text.to_owned())) } else { Err(TokenError) }
    }

    /// The secret itself: for the request's header and nothing else.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_one_visible_word_and_stays_secret() {
        assert_eq!(Token::new(" abc-1\n").unwrap().expose(), "abc-1");
        for bad in ["", " \n", "a b", "a\nb", "é"] {
            assert_eq!(Token::new(bad), Err(TokenError), "{bad:?}");
        }
        assert!(!format!("{:?}", Token::new("abc").unwrap()).contains("abc"));
    }
}
