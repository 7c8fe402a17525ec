//! Who may do what: roles, and what is kept of a token (everything but its secret).

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::Digest as _;
use subtle::ConstantTimeEq;
use utoipa::ToSchema;

/// What somebody is allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Look at jobs, logs, events and the page.
    Read,
    /// `read`; upload and submit; cancel and retry one's own jobs.
    Submit,
    /// Tell clients of a new revision. Does not look at jobs.
    Notify,
    /// Carry jobs out. Does not look at those of others.
    Worker,
    /// `submit`; everything on all jobs.
    Operator,
    /// Everything, tokens included.
    Admin,
}

impl Role {
    /// All of them.
    pub const ALL: [Self; 6] = [Self::Read, Self::Submit, Self::Notify, Self::Worker, Self::Operator, Self::Admin];

    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Submit => "submit",
            Self::Notify => "notify",
            Self::Worker => "worker",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }

    /// Tells whether whoever has this role has the other one as well.
    pub fn includes(self, other: Self) -> bool {
        match self {
            Self::Admin => true,
            Self::Operator => matches!(other, Self::Operator | Self::Submit | Self::Notify | Self::Read),
            Self::Submit => matches!(other, Self::Submit | Self::Read),
            Self::Read | Self::Notify | Self::Worker => self == other,
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why something that describes a token is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AccessError {
    /// Not a role.
    #[error("there is no role {0:?}: use read, submit, notify, worker, operator or admin")]
    Role(String),
    /// No role at all.
    #[error("a token needs a role: read, submit, notify, worker, operator or admin")]
    NoRole,
    /// Not an id.
    #[error("token id {0:?} is not valid: use 4 to 32 of a-z 0-9")]
    Id(String),
    /// Not a name.
    #[error("token name {0:?} is not valid: use 1 to 64 letters, digits and . _ - @")]
    Name(String),
    /// Not a digest.
    #[error("the token's hash is not valid: write sha256: and 64 hexadecimal digits")]
    Digest,
    /// Too long a note.
    #[error("the token's note is longer than 200 characters or has control characters")]
    Note,
}

impl FromStr for Role {
    type Err = AccessError;
    fn from_str(text: &str) -> Result<Self, AccessError> {
        let found = Self::ALL.into_iter().find(|role| role.as_str() == text);
        found.ok_or_else(|| AccessError::Role(shortened(text)))
    }
}

/// The roles of one token, at least one.
///
/// A role goes for all repositories. A role that is limited to some of them will be written as an object where its word
/// stands now; a program that does not know limits refuses it, rather than to overlook the limit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(try_from = "BTreeSet<Role>", into = "BTreeSet<Role>")]
#[schema(value_type = Vec<Role>)]
pub struct Roles(BTreeSet<Role>);

impl Roles {
    /// Takes roles, at least one.
    pub fn new(roles: impl IntoIterator<Item = Role>) -> Result<Self, AccessError> {
        let roles = BTreeSet::from_iter(roles);
        if roles.is_empty() { Err(AccessError::NoRole) } else { Ok(Self(roles)) }
    }

    /// Everything.
    pub fn admin() -> Self {
        Self([Role::Admin].into())
    }

    /// Tells whether one of them is or includes a role.
    pub fn include(&self, role: Role) -> bool {
        self.0.iter().any(|has| has.includes(role))
    }
}

impl TryFrom<BTreeSet<Role>> for Roles {
    type Error = AccessError;
    fn try_from(roles: BTreeSet<Role>) -> Result<Self, AccessError> {
        Self::new(roles)
    }
}

impl From<Roles> for BTreeSet<Role> {
    fn from(roles: Roles) -> Self {
        roles.0
    }
}

impl fmt::Display for Roles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words: Vec<_> = self.0.iter().map(|role| role.as_str()).collect();
        f.write_str(&words.join(", "))
    }
}

fn shortened(text: &str) -> String {
    text.chars().take(100).collect()
}

/// What lists, logs and revocations call a token. No secret: it stands in the token for all to see who see the token.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TokenId(String);

impl TokenId {
    /// Checks an id.
    pub fn new(text: &str) -> Result<Self, AccessError> {
        let fits = (4..=32).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        if fits { Ok(Self(text.to_owned())) } else { Err(AccessError::Id(shortened(text))) }
    }

    /// The id of the token that opens a server whose database has none yet: that of `[server] token_file`.
    pub fn bootstrap() -> Self {
        Self("bootstrap".into())
    }
}

/// Whose a token is: a person, a service. Several tokens may have one name, as when one follows another that expires; what
/// was submitted with the one is then the other's as well.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TokenName(String);

impl TokenName {
    /// Checks a name.
    pub fn new(text: &str) -> Result<Self, AccessError> {
        let fits =
            (1..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-@".contains(&b));
        if fits { Ok(Self(text.to_owned())) } else { Err(AccessError::Name(shortened(text))) }
    }
}

impl From<TokenId> for TokenName {
    fn from(id: TokenId) -> Self {
        Self(id.0)
    }
}

macro_rules! checked_text {
    ($name:ident) => {
        impl $name {
            /// As text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl From<$name> for String {
            fn from(text: $name) -> Self {
                text.0
            }
        }
        impl TryFrom<String> for $name {
            type Error = AccessError;
            fn try_from(text: String) -> Result<Self, AccessError> {
                Self::new(&text)
            }
        }
        impl FromStr for $name {
            type Err = AccessError;
            fn from_str(text: &str) -> Result<Self, AccessError> {
                Self::new(text)
            }
        }
    };
}

checked_text!(TokenId);
checked_text!(TokenName);

/// SHA-256 of a token: all that is kept of its secret.
///
/// A slow hash would protect guessable secrets. Ours have 256 random bits, which no speed of guessing finds, and are checked
/// at every request. There is no `==`: [`TokenDigest::is`] is the only comparison, and takes the same time wherever
/// two digests differ.
#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TokenDigest([u8; 32]);

impl TokenDigest {
    /// Hashes what a client sent.
    pub fn of(text: &str) -> Self {
        Self(sha2::Sha256::digest(text).into())
    }

    /// Takes 32 bytes.
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes, to be stored.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Compares, in a time that does not depend on the outcome.
    pub fn is(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl fmt::Debug for TokenDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenDigest(…)")
    }
}

impl From<TokenDigest> for String {
    fn from(digest: TokenDigest) -> Self {
        format!("sha256:{}", hex::encode(digest.0))
    }
}

impl TryFrom<String> for TokenDigest {
    type Error = AccessError;
    fn try_from(text: String) -> Result<Self, AccessError> {
        let mut bytes = [0; 32];
        let digits = text.strip_prefix("sha256:").ok_or(AccessError::Digest)?;
        hex::decode_to_slice(digits, &mut bytes).map_err(|_| AccessError::Digest)?;
        Ok(Self(bytes))
    }
}

/// What is known of a token: an entry of a token list, or a row of the database.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenRecord {
    /// Its id.
    pub id: TokenId,
    /// Whose it is.
    pub name: TokenName,
    /// What it is good for.
    pub roles: Roles,
    /// Its hash.
    pub sha256: TokenDigest,
    /// A text about it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub note: String,
    /// When it was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_at: Option<Timestamp>,
    /// Name of the token that made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_by: Option<TokenName>,
    /// When it stops being good, by the server's time of day.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// When it was revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked_at: Option<Timestamp>,
    /// When it was used last, give or take a minute.
    #[serde(skip)]
    pub last_used_at: Option<Timestamp>,
}

/// Whether a token is good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Standing {
    /// It is.
    Good,
    /// Its time is over.
    Expired,
    /// Somebody took it back.
    Revoked,
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Good => "good",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
        })
    }
}

impl TokenRecord {
    /// Whether it is good at a moment.
    pub fn standing(&self, now: Timestamp) -> Standing {
        if self.revoked_at.is_some() {
            Standing::Revoked
        } else if self.expires_at.is_some_and(|end| end <= now) {
            Standing::Expired
        } else {
            Standing::Good
        }
    }

    /// Checks what its types do not: the note.
    pub fn validate(&self) -> Result<(), AccessError> {
        let fits = self.note.chars().count() <= 200 && !self.note.chars().any(char::is_control);
        if fits { Ok(()) } else { Err(AccessError::Note) }
    }
}

/// Where a token is kept. An identity provider will be one more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum TokenSource {
    /// `[server] token_file`.
    Bootstrap,
    /// A token list of `[server] tokens`.
    File,
    /// The server's database.
    Database,
}

impl fmt::Display for TokenSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bootstrap => "bootstrap",
            Self::File => "file",
            Self::Database => "database",
        })
    }
}
