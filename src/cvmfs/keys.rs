//! The keys of a repository, as PEM files in one directory: `NAME.masterkey`, `NAME.pub`, `NAME.key`, `NAME.crt`.
//!
//! The master key signs whitelists and is best kept elsewhere; publishing needs only `NAME.key` and `NAME.crt`.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rsa::pkcs1::DecodeRsaPrivateKey;
use rsa::pkcs8::{DecodePrivateKey, DecodePublicKey, EncodePrivateKey, EncodePublicKey, LineEnding};
use rsa::rand_core::OsRng;
use rsa::{RsaPrivateKey, RsaPublicKey};

use super::certificate::SigningCertificate;
use super::{Error, durable};

const BITS: usize = 2048;

/// Which of a repository's keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum KeyFile {
    Master,
    Public,
    Private,
    Certificate,
}

impl KeyFile {
    fn path(self, directory: &Path, repository: &str) -> PathBuf {
        let extension = match self {
            Self::Master => "masterkey",
            Self::Public => "pub",
            Self::Private => "key",
            Self::Certificate => "crt",
        };
        directory.join(format!("{repository}.{extension}"))
    }
}

/// The key and certificate that sign manifests.
#[derive(Debug, Clone)]
pub struct SigningKeys {
    /// The private key.
    pub key: RsaPrivateKey,
    /// The certificate of its public half.
    pub certificate: SigningCertificate,
}

impl SigningKeys {
    /// Reads `NAME.key` and `NAME.crt`, which must belong together.
    pub fn load(directory: &Path, repository: &str) -> Result<Self, Error> {
        let key = load_private(&KeyFile::Private.path(directory, repository))?;
        let path = KeyFile::Certificate.path(directory, repository);
        let certificate = SigningCertificate::from_pem(&read(&path)?)?;
        if *certificate.public_key() != key.to_public_key() {
            let why = format!("it is not the key of the certificate {}", path.display());
            return Err(Error::Key { what: KeyFile::Private.path(directory, repository).display().to_string(), why });
        }
        Ok(Self { key, certificate })
    }
}

/// Tells whether the directory has any of a repository's keys.
pub fn any_exists(directory: &Path, repository: &str) -> bool {
    [KeyFile::Master, KeyFile::Public, KeyFile::Private, KeyFile::Certificate]
        .into_iter()
        .any(|file| file.path(directory, repository).exists())
}

/// Reads the public key `NAME.pub`.
pub fn load_public(directory: &Path, repository: &str) -> Result<RsaPublicKey, Error> {
    let path = KeyFile::Public.path(directory, repository);
    public_from_pem(&read(&path)?)
}

/// Reads the public keys that a client of a repository may trust: `NAME.pub`; else, for the innermost domain of the name that
/// has any, `DOMAIN.pub` and all `*.pub` of the directory `DOMAIN`, as packages of CernVM-FS configuration install them. There
/// must be one.
pub fn load_trusted(directory: &Path, repository: &str) -> Result<Vec<RsaPublicKey>, Error> {
    let keys = find_trusted(directory, repository)?;
    if keys.is_empty() {
        let why = format!("there is neither {repository}.pub nor one of its domain in {}", directory.display());
        return Err(Error::Key { what: format!("of {repository}"), why });
    }
    Ok(keys)
}

/// Reads the same keys where there are any: none is no error, and one that cannot be used is.
pub fn find_trusted(directory: &Path, repository: &str) -> Result<Vec<RsaPublicKey>, Error> {
    let mut name = repository;
    loop {
        let mut files: Vec<_> = fs::read_dir(directory.join(name))
            .map(|entries| entries.filter_map(|entry| Some(entry.ok()?.path())).collect())
            .unwrap_or_default();
        files.retain(|path: &PathBuf| path.extension().is_some_and(|extension| extension == "pub"));
        files.sort();
        let own = KeyFile::Public.path(directory, name);
        if own.exists() {
            files.insert(0, own);
        }
        if !files.is_empty() {
            let key = |path: &PathBuf| {
                let bad = |error: Error| Error::Key { what: path.display().to_string(), why: error.to_string() };
                public_from_pem(&read(path)?).map_err(bad)
            };
            return files.iter().map(key).collect();
        }
        let Some((_, domain)) = name.split_once('.') else { return Ok(Vec::new()) };
        name = domain;
    }
}

/// Reads a public master key from its PEM text, as clients are configured with it.
pub fn public_from_pem(pem: &[u8]) -> Result<RsaPublicKey, Error> {
    let bad = |why: String| Error::Key { what: "public".into(), why };
    let text = std::str::from_utf8(pem).map_err(|_| bad("not UTF-8".into()))?;
    RsaPublicKey::from_public_key_pem(text).map_err(|error| bad(error.to_string()))
}

/// Reads the private key `NAME.masterkey`.
pub fn load_master(directory: &Path, repository: &str) -> Result<RsaPrivateKey, Error> {
    load_private(&KeyFile::Master.path(directory, repository))
}

/// All keys of a new repository.
#[derive(Debug, Clone)]
pub struct NewKeys {
    /// Signs whitelists.
    pub master: RsaPrivateKey,
    /// Sign manifests.
    pub signing: SigningKeys,
}

impl NewKeys {
    /// Makes RSA keys of 2048 bits, which takes about a second, and the certificate.
    pub fn generate(repository: &str, now: i64) -> Result<Self, Error> {
        let make = || {
            RsaPrivateKey::new(&mut OsRng, BITS)
                .map_err(|error| Error::Key { what: "to be made".into(), why: error.to_string() })
        };
        let (master, key) = (make()?, make()?);
        let certificate = SigningCertificate::create(repository, &key, now)?;
        Ok(Self { master, signing: SigningKeys { key, certificate } })
    }

    /// Writes the four files, durably; private ones for the owner alone. Existing files are never replaced.
    pub fn store(&self, directory: &Path, repository: &str) -> Result<(), Error> {
        let encode = |error: String| Error::Key { what: "to be written".into(), why: error };
        let private = |key: &RsaPrivateKey| {
            key.to_pkcs8_pem(LineEnding::LF).map(|pem| pem.to_string()).map_err(|error| encode(error.to_string()))
        };
        let public = self.master.to_public_key().to_public_key_pem(LineEnding::LF);
        let public = public.map_err(|error| encode(error.to_string()))?;
        durable::create_directories(directory)?;
        let files = [
            (KeyFile::Master, 0o600, private(&self.master)?),
            (KeyFile::Private, 0o600, private(&self.signing.key)?),
            (KeyFile::Certificate, 0o644, self.signing.certificate.pem().to_owned()),
            (KeyFile::Public, 0o644, public),
        ];
        if let Some((file, ..)) = files.iter().find(|(file, ..)| file.path(directory, repository).exists()) {
            return Err(Error::Exists(format!("key {}", file.path(directory, repository).display())));
        }
        for (file, mode, pem) in &files {
            write_new(&file.path(directory, repository), *mode, pem.as_bytes())?;
        }
        durable::sync(directory)
    }
}

fn write_new(path: &Path, mode: u32, bytes: &[u8]) -> Result<(), Error> {
    let write = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
        file.write_all(bytes)
    };
    write().map_err(Error::io(format!("write key {}", path.display())))?;
    durable::sync(path)
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    fs::read(path).map_err(|error| Error::Key { what: path.display().to_string(), why: error.to_string() })
}

/// OpenSSL writes PKCS#8 today and wrote PKCS#1 formerly; both are about.
fn load_private(path: &Path) -> Result<RsaPrivateKey, Error> {
    let bad = |why: String| Error::Key { what: path.display().to_string(), why };
    let text = String::from_utf8(read(path)?).map_err(|_| bad("not UTF-8".into()))?;
    let key = if text.contains("BEGIN RSA PRIVATE KEY") {
        RsaPrivateKey::from_pkcs1_pem(&text).map_err(|error| error.to_string())
    } else {
        RsaPrivateKey::from_pkcs8_pem(&text).map_err(|error| error.to_string())
    };
    key.map_err(bad)
}
