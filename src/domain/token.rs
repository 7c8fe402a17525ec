//! The secret that lets a client in.

use std::fmt;

use crate::domain::access::{TokenDigest, TokenId};

/// What tokens begin with that Conveyor made: searches for leaked secrets find it.
const PREFIX: &str = "conveyor";

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

    /// Puts a token together: `conveyor_ID_SECRET`.
    ///
    /// `secret`: 256 random bits as letters and digits.
    pub fn assemble(id: &TokenId, secret: &str) -> Result<Self, TokenError> {
        Self::new(&format!("{PREFIX}_{id}_{secret}"))
    }

    /// The id in a text that looks like a token of ours, right or wrong.
    pub fn id_in(text: &str) -> Option<TokenId> {
        let (id, secret) = text.strip_prefix(PREFIX)?.strip_prefix('_')?.split_once('_')?;
        TokenId::new(id).ok().filter(|_| !secret.is_empty())
    }

    /// What is kept of it.
    pub fn digest(&self) -> TokenDigest {
        TokenDigest::of(&self.0)
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

    #[test]
    fn a_token_of_ours_names_its_id_and_is_known_by_its_digest() {
        let id = TokenId::new("0123456789ab").unwrap();
        let token = Token::assemble(&id, &"5a".repeat(32)).unwrap();
        assert!(token.expose().starts_with("conveyor_0123456789ab_5a5a"));
        assert_eq!(Token::id_in(token.expose()), Some(id));
        for other in ["", "conveyor", "conveyor_", "conveyor_0123456789ab", "conveyor_0123456789ab_", "x_0123_y"] {
            assert_eq!(Token::id_in(other), None, "{other}");
        }
        assert!(token.digest().is(&TokenDigest::of(token.expose())));
        assert!(!token.digest().is(&TokenDigest::of(&format!("{}x", token.expose()))));
    }
}
