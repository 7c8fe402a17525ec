//! Tokens: who somebody is that shows one, and how they are made known and taken back.
//!
//! They are all in memory, since every request shows one: those of the database are read at the start and changed behind
//! their commit, those of files are handed in. No secret is here, only hashes.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;

use crate::app::{AppError, Engine};
use crate::domain::access::{Roles, Standing, TokenDigest, TokenId, TokenName, TokenRecord, TokenSource};
use crate::domain::protocol::{NewToken, TokenView};
use crate::domain::token::Token;
use crate::store::StoreError;

/// How exact `last_used_at` is in the database: a request must not cost a commit.
const USE_SAVED_EVERY: Duration = Duration::from_secs(60);
/// An expiry is looked at again at least this often: the time of day may be set.
const EXPIRY_LOOKED_AT: Duration = Duration::from_secs(30);

/// Somebody who showed a good token.
#[derive(Debug, Clone)]
pub struct Caller {
    /// The token's id.
    pub id: TokenId,
    /// Whose it is.
    pub name: TokenName,
    /// What it is good for.
    pub roles: Roles,
    source: TokenSource,
    digest: TokenDigest,
}

/// Why a token lets nobody in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// Nobody knows it.
    #[error("the request's token is not known here")]
    Unknown,
    /// Its time is over.
    #[error("token {id} ({name}) has expired")]
    Expired {
        /// Its id.
        id: TokenId,
        /// Whose it is.
        name: TokenName,
    },
    /// Somebody took it back.
    #[error("token {id} ({name}) was revoked")]
    Revoked {
        /// Its id.
        id: TokenId,
        /// Whose it is.
        name: TokenName,
    },
}

/// All tokens that are known.
#[derive(Default)]
pub(super) struct Keyring {
    state: Mutex<State>,
    /// Raised with each change that may void a token.
    changed: watch::Sender<()>,
}

#[derive(Default)]
struct State {
    bootstrap: Option<TokenRecord>,
    files: HashMap<TokenId, TokenRecord>,
    stored: HashMap<TokenId, TokenRecord>,
    /// Uses that the database has not heard of.
    unsaved: HashMap<TokenId, Timestamp>,
    saved_at: Duration,
}

impl State {
    fn table(&mut self, source: TokenSource, id: &TokenId) -> Option<&mut TokenRecord> {
        match source {
            TokenSource::Bootstrap => self.bootstrap.as_mut(),
            TokenSource::File => self.files.get_mut(id),
            TokenSource::Database => self.stored.get_mut(id),
        }
    }

    /// The record that a digest is of.
    fn find(&mut self, id: Option<&TokenId>, digest: &TokenDigest) -> Option<(TokenSource, &mut TokenRecord)> {
        // The bootstrap token may be any text, so it has no id to find it by.
        let known = |token: Option<&TokenRecord>| token.is_some_and(|token| token.sha256.is(digest));
        let source = if known(self.bootstrap.as_ref()) {
            TokenSource::Bootstrap
        } else if id.is_some_and(|id| known(self.files.get(id))) {
            TokenSource::File
        } else if id.is_some_and(|id| known(self.stored.get(id))) {
            TokenSource::Database
        } else {
            return None;
        };
        let id = id.cloned().unwrap_or_else(TokenId::bootstrap);
        self.table(source, &id).map(|record| (source, record))
    }
}

impl Keyring {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in what the database knows.
    pub(super) fn load(&self, tokens: Vec<TokenRecord>) {
        self.state().stored = tokens.into_iter().map(|token| (token.id.clone(), token)).collect();
        self.changed.send_replace(());
    }
}

fn view(token: &TokenRecord, source: TokenSource, now: Timestamp) -> TokenView {
    TokenView {
        id: token.id.clone(),
        name: token.name.clone(),
        roles: token.roles.clone(),
        source,
        state: token.standing(now),
        note: token.note.clone(),
        created_at: token.created_at,
        created_by: token.created_by.clone(),
        expires_at: token.expires_at,
        revoked_at: token.revoked_at,
        last_used_at: token.last_used_at,
    }
}

impl Engine {
    /// Sets the token that opens everything, from outside the database; without one there is none.
    pub fn set_bootstrap_token<'a>(&self, token: impl Into<Option<&'a Token>>) {
        let record = token.into().map(|token| TokenRecord {
            id: TokenId::bootstrap(),
            name: TokenId::bootstrap().into(),
            roles: Roles::admin(),
            sha256: token.digest(),
            note: String::new(),
            created_at: None,
            created_by: None,
            expires_at: None,
            revoked_at: None,
            last_used_at: None,
        });
        self.keyring.state().bootstrap = record;
        self.keyring.changed.send_replace(());
    }

    /// Replaces the tokens that come out of files.
    pub fn set_file_tokens(&self, tokens: Vec<TokenRecord>) {
        let mut state = self.keyring.state();
        let mut before = std::mem::take(&mut state.files);
        for mut token in tokens {
            token.last_used_at = before.remove(&token.id).and_then(|token| token.last_used_at);
            state.files.insert(token.id.clone(), token);
        }
        drop(state);
        self.keyring.changed.send_replace(());
    }

    /// Tells whose token this is.
    pub fn authenticate(&self, secret: &str) -> Result<Caller, Denied> {
        let now = self.clock.now();
        let (digest, id) = (TokenDigest::of(secret), Token::id_in(secret));
        let mut state = self.keyring.state();
        let (source, token) = state.find(id.as_ref(), &digest).ok_or(Denied::Unknown)?;
        let (id, name) = (token.id.clone(), token.name.clone());
        match token.standing(now) {
            Standing::Expired => return Err(Denied::Expired { id, name }),
            Standing::Revoked => return Err(Denied::Revoked { id, name }),
            Standing::Good => {}
        }
        token.last_used_at = Some(now);
        let caller = Caller { id, name, roles: token.roles.clone(), source, digest };
        if source == TokenSource::Database {
            state.unsaved.insert(caller.id.clone(), now);
        }
        Ok(caller)
    }

    /// Waits until a caller's token is no longer good for what it was: revoked, expired, replaced, given other roles.
    pub async fn until_void(&self, caller: &Caller) {
        let mut changed = self.keyring.changed.subscribe();
        loop {
            changed.mark_unchanged();
            let now = self.clock.now();
            let expires = match self.keyring.state().table(caller.source, &caller.id) {
                Some(token)
                    if token.sha256.is(&caller.digest)
                        && token.roles == caller.roles
                        && token.standing(now) == Standing::Good =>
                {
                    token.expires_at
                }
                _ => return,
            };
            let left = expires.map(|end| end.duration_since(now).unsigned_abs().min(EXPIRY_LOOKED_AT));
            let expired = async {
                match left {
                    Some(left) => tokio::time::sleep(left).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                alive = changed.changed() => if alive.is_err() { return },
                () = expired => {}
            }
        }
    }

    /// Stores a token. The same one again is no second one; tells whether it is new.
    pub async fn create_token(&self, new: NewToken, by: &TokenName) -> Result<(TokenView, bool), AppError> {
        let now = self.clock.now();
        let token = TokenRecord {
            name: new.name.unwrap_or_else(|| new.id.clone().into()),
            id: new.id,
            roles: new.roles,
            sha256: new.sha256,
            note: new.note,
            created_at: Some(now),
            created_by: Some(by.clone()),
            expires_at: new.expires_at,
            revoked_at: None,
            last_used_at: None,
        };
        let hint = "correct it and make the token again";
        token.validate().map_err(|e| AppError::invalid("bad_token", e, hint))?;
        if token.standing(now) == Standing::Expired {
            let message = format!("token {} would have expired already", token.id);
            return Err(AppError::invalid("bad_token", message, "give a time in the future"));
        }
        let taken = {
            let state = self.keyring.state();
            state.files.contains_key(&token.id) || token.id == TokenId::bootstrap()
        };
        let (token, created) = self
            .store
            .write(move |tx| match tx.token(&token.id)? {
                Some(there) if there.sha256.is(&token.sha256) && there.roles == token.roles => Ok((there, false)),
                None if !taken => {
                    tx.insert_token(now, &token)?;
                    // As it is stored: times lose what is below a microsecond.
                    Ok((tx.token(&token.id)?.unwrap_or(token), true))
                }
                _ => {
                    let message = format!("there is another token with the id {}", token.id);
                    Err(AppError::conflict("different_token", message, "make one with a new id"))
                }
            })
            .await?;
        if created {
            tracing::info!(token.id = %token.id, token.name = %token.name, token.roles = %token.roles, by = %by, "token created");
        }
        let view = view(&token, TokenSource::Database, now);
        self.keyring.state().stored.entry(token.id.clone()).or_insert(token);
        Ok((view, created))
    }

    /// All tokens, by name.
    pub fn tokens(&self) -> Vec<TokenView> {
        let now = self.clock.now();
        let state = self.keyring.state();
        let bootstrap = state.bootstrap.iter().map(|token| (token, TokenSource::Bootstrap));
        let files = state.files.values().map(|token| (token, TokenSource::File));
        let stored = state.stored.values().map(|token| (token, TokenSource::Database));
        let all = bootstrap.chain(files).chain(stored);
        let mut views: Vec<_> = all.map(|(token, source)| view(token, source, now)).collect();
        views.sort_by(|a, b| (&a.name, a.created_at, &a.id).cmp(&(&b.name, b.created_at, &b.id)));
        views
    }

    /// Takes a token of the database back. It is void when this returns. Once more is no error.
    pub async fn revoke_token(&self, id: TokenId, by: &TokenName) -> Result<TokenView, AppError> {
        let now = self.clock.now();
        let in_file = {
            let state = self.keyring.state();
            !state.stored.contains_key(&id) && (state.files.contains_key(&id) || id == TokenId::bootstrap())
        };
        if in_file {
            let message = format!("token {id} is not in the database but in a file of the server's configuration");
            let hint = "on the server: conveyor token revoke --file FILE ID, or replace the [server] token_file";
            return Err(AppError::conflict("token_in_file", message, hint));
        }
        let token = self
            .store
            .write(move |tx| {
                tx.revoke_token(now, &id)?;
                tx.token(&id)?.ok_or_else(|| AppError::NotFound { what: "token", id: id.to_string() })
            })
            .await?;
        tracing::info!(token.id = %token.id, token.name = %token.name, by = %by, "token revoked");
        let view = view(&token, TokenSource::Database, now);
        self.keyring.state().stored.insert(token.id.clone(), token);
        self.keyring.changed.send_replace(());
        Ok(view)
    }

    /// Forgets tokens that the database no longer has.
    pub(super) fn forget_tokens(&self, ids: &[TokenId]) {
        let mut state = self.keyring.state();
        for id in ids {
            state.stored.remove(id);
            state.unsaved.remove(id);
        }
    }

    /// Stores when tokens were used last; called by the passing of time, and at the end.
    pub async fn save_token_use(&self) -> Result<(), AppError> {
        let used = std::mem::take(&mut self.keyring.state().unsaved);
        if used.is_empty() {
            return Ok(());
        }
        let save = move |tx: &mut crate::store::Tx<'_>| used.iter().try_for_each(|(id, at)| tx.token_used(id, *at));
        self.store.write::<_, StoreError, _>(save).await?;
        Ok(())
    }

    /// The same, unless that was done a moment ago.
    pub(super) async fn save_token_use_now_and_then(&self, monotonic: Duration) -> Result<(), AppError> {
        {
            let mut state = self.keyring.state();
            if state.unsaved.is_empty() || monotonic.saturating_sub(state.saved_at) < USE_SAVED_EVERY {
                return Ok(());
            }
            state.saved_at = monotonic;
        }
        self.save_token_use().await
    }
}
