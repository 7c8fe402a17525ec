//! The manifest `.cvmfspublished`: which revision a repository is at (`cvmfs/manifest.cc`).

use rsa::RsaPrivateKey;

use super::Error;
use super::hash::{Algorithm, ContentHash};
use super::signature::{Letter, Scheme, seal};

/// Its name below the repository's base.
pub const FILE: &str = ".cvmfspublished";

/// MD5 of the empty path, which every root catalog has as its root.
const ROOT_PATH_MD5: &str = "d41d8cd98f00b204e9800998ecf8427e";

/// The manifest's fields; the letter is the one that stands in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// `C`: the root catalog.
    pub root_hash: ContentHash,
    /// `B`: its size, uncompressed, in bytes.
    pub root_size: u64,
    /// `D`: seconds for which a client believes it.
    pub ttl: u64,
    /// `S`: the revision.
    pub revision: u64,
    /// `G`: objects may be garbage-collected.
    pub garbage_collectable: bool,
    /// `A`: catalog and certificate are linked from the base as well.
    pub alternative_paths: bool,
    /// `N`: the repository's fully qualified name.
    pub repository: String,
    /// `X`: the certificate.
    pub certificate: ContentHash,
    /// `H`: the history.
    pub history: Option<ContentHash>,
    /// `T`: when it was published, seconds since 1970.
    pub published_at: i64,
    /// `M`: the metainfo.
    pub metainfo: Option<ContentHash>,
    /// `Y`: the hash of the file `.cvmfsreflog`.
    pub reflog: Option<ContentHash>,
    /// Lines that this code does not know.
    pub unknown: Vec<String>,
}

impl Manifest {
    /// Reads the lines of a letter; verifying it is the caller's.
    pub fn parse(letter: &Letter) -> Result<Self, Error> {
        let mut fields = std::collections::BTreeMap::new();
        let mut unknown = Vec::new();
        for line in letter.lines() {
            match line.chars().next() {
                Some(key) if "CBRDSGANXHTMY".contains(key) => drop(fields.insert(key, &line[1..])),
                _ => unknown.push(line.to_owned()),
            }
        }
        let bad = |why: String| Error::malformed("the manifest", why);
        let optional = |key| fields.get(&key).copied();
        let required = |key| optional(key).ok_or_else(|| bad(format!("no line {key}")));
        let number = |key, text: &str| text.parse().map_err(|_| bad(format!("line {key} is no number: {text:?}")));
        let hash = |key| optional(key).map(ContentHash::parse).transpose();
        let yes = |key| optional(key) == Some("yes");
        if required('R')? != ROOT_PATH_MD5 {
            return Err(Error::Unsupported("a manifest whose root is not the repository's".into()));
        }
        Ok(Self {
            root_hash: ContentHash::parse(required('C')?)?,
            root_size: number('B', optional('B').unwrap_or("0"))?,
            ttl: number('D', required('D')?)?,
            revision: number('S', required('S')?)?,
            garbage_collectable: yes('G'),
            alternative_paths: yes('A'),
            repository: required('N')?.to_owned(),
            certificate: ContentHash::parse(required('X')?)?,
            history: hash('H')?,
            published_at: i64::try_from(number('T', optional('T').unwrap_or("0"))?).unwrap_or(i64::MAX),
            metainfo: hash('M')?,
            reflog: hash('Y')?,
            unknown,
        })
    }

    /// The lines as CernVM-FS orders them (`Manifest::ExportString`).
    pub fn body(&self) -> String {
        let yes = |flag| if flag { "yes" } else { "no" };
        let mut body = format!(
            "C{}\nB{}\nR{ROOT_PATH_MD5}\nD{}\nS{}\nG{}\nA{}\nN{}\nX{}\n",
            self.root_hash,
            self.root_size,
            self.ttl,
            self.revision,
            yes(self.garbage_collectable),
            yes(self.alternative_paths),
            self.repository,
            self.certificate,
        );
        let optional = [
            ('H', self.history.map(|hash| hash.to_string())),
            ('T', Some(self.published_at.to_string())),
            ('M', self.metainfo.map(|hash| hash.to_string())),
            ('Y', self.reflog.map(|hash| hash.to_string())),
        ];
        for (key, value) in optional {
            if let Some(value) = value {
                body += &format!("{key}{value}\n");
            }
        }
        body
    }

    /// The whole file, signed by the certificate's key.
    pub fn seal(&self, algorithm: Algorithm, key: &RsaPrivateKey) -> Result<Vec<u8>, Error> {
        seal(&self.body(), algorithm, Scheme::Digest, key)
    }
}
