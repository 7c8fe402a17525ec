//! Tokens: make, list, revoke. All of it may be repeated.

use reqwest::Method;

use super::{Client, ClientError, Repeat};
use crate::domain::access::TokenId;
use crate::domain::protocol::{NewToken, TokenList, TokenView};

impl Client {
    /// Makes a token known. Its secret stays here.
    pub async fn create_token(&self, token: &NewToken) -> Result<TokenView, ClientError> {
        let url = self.route(&["tokens"]);
        self.call("create the token", Repeat::Always, || self.request(Method::POST, url.clone()).json(token)).await
    }

    /// Lists all tokens.
    pub async fn tokens(&self) -> Result<TokenList, ClientError> {
        let url = self.route(&["tokens"]);
        self.call("list the tokens", Repeat::Always, || self.request(Method::GET, url.clone())).await
    }

    /// Takes a token back. Once more is no error.
    pub async fn revoke_token(&self, id: &TokenId) -> Result<TokenView, ClientError> {
        let url = self.route(&["tokens", id.as_str(), "revoke"]);
        self.call("revoke the token", Repeat::Always, || self.request(Method::POST, url.clone())).await
    }
}
