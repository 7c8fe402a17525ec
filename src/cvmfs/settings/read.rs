//! Reading and writing settings (`cvmfs/publish/settings.cc`, `cvmfs/server/cvmfs_server_publish.sh`).

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use super::super::Error;
use super::super::catalog::Compression;
use super::super::hash::Algorithm;
use super::shell::Assignments;
use super::{AutoCatalogs, ChunkSizes, GARBAGE_COLLECTION_SPAN, KEEP_BATCH_TAGS, Limits, Server, Settings};

/// The names that count. Others are ignored: they are about mounts, statistics, Apache and the like.
const NAMES: &[&str] = &[
    "CVMFS_REPOSITORY_NAME",
    "CVMFS_REPOSITORY_TYPE",
    "CVMFS_UPSTREAM_STORAGE",
    "CVMFS_SPOOL_DIR",
    "CVMFS_USER",
    "CVMFS_HASH_ALGORITHM",
    "CVMFS_COMPRESSION_ALGORITHM",
    "CVMFS_USE_FILE_CHUNKING",
    "CVMFS_MIN_CHUNK_SIZE",
    "CVMFS_AVG_CHUNK_SIZE",
    "CVMFS_MAX_CHUNK_SIZE",
    "CVMFS_AUTOCATALOGS",
    "CVMFS_INCLUDE_XATTRS",
    "CVMFS_ENABLE_MTIME_NS",
    "CVMFS_ENFORCE_LIMITS",
    "CVMFS_FILE_MBYTE_LIMIT",
    "CVMFS_ROOT_KCATALOG_LIMIT",
    "CVMFS_NESTED_KCATALOG_LIMIT",
    "CVMFS_REPOSITORY_TTL",
    "CVMFS_AUTO_TAG",
    "CVMFS_GARBAGE_COLLECTION",
    "CVMFS_AUTO_GC_TIMESPAN",
    "CVMFS_EXTERNAL_DATA",
    "CVMFS_CATALOG_ALT_PATHS",
    "CVMFS_VIRTUAL_DIR",
    "CVMFS_VOMS_AUTHZ",
    "CONVEYOR_KEEP_BATCH_TAGS",
];

impl Settings {
    /// Reads a file's text; `what` names the file in errors. What is not set in it is as `cvmfs_server` takes it then.
    ///
    /// Refused are values that make no sense, and features that a publish of ours would damage.
    pub fn parse(what: &str, text: &str, repository: &str) -> Result<Self, Error> {
        let file = Assignments::parse(what, text, NAMES)?;
        if let Some(name) = file.text("CVMFS_REPOSITORY_NAME")?.filter(|name| *name != repository) {
            let why = format!("it is {name:?}, and the repository is {repository:?}");
            return Err(file.bad("CVMFS_REPOSITORY_NAME", &why));
        }
        refuse_damage(&file)?;
        Ok(Self {
            algorithm: algorithm(&file)?,
            compression: compression(&file)?,
            chunking: chunking(&file)?,
            auto_catalogs: auto_catalogs(&file)?,
            xattrs: file.is_true("CVMFS_INCLUDE_XATTRS")?,
            mtime_ns: file.is_true("CVMFS_ENABLE_MTIME_NS")?,
            limits: limits(&file)?,
            ttl: file.number("CVMFS_REPOSITORY_TTL")?,
            auto_tag: file.is_true("CVMFS_AUTO_TAG")?,
            auto_tag_span: span(&file, "CVMFS_AUTO_TAG_TIMESPAN")?,
            keep_batch_tags: file.number("CONVEYOR_KEEP_BATCH_TAGS")?.unwrap_or(KEEP_BATCH_TAGS),
            garbage_collection: file.text("CVMFS_GARBAGE_COLLECTION")?.map(|text| text == "true"),
            garbage_collection_span: span(&file, "CVMFS_AUTO_GC_TIMESPAN")?.unwrap_or(GARBAGE_COLLECTION_SPAN),
            server: server(&file)?,
        })
    }

    /// The settings as a file, each of them written out.
    pub fn to_text(&self) -> String {
        let mut text = String::from("# Settings of this repository, in the words of cvmfs_server's server.conf.\n");
        let mut set = |name: &str, value: String| {
            let _ = writeln!(text, "{name}={value}");
        };
        let algorithm = match self.algorithm {
            None => None,
            Some(Algorithm::Sha1) => Some("sha1"),
            Some(Algorithm::Rmd160) => Some("rmd160"),
            Some(Algorithm::Shake128) => Some("shake128"),
        };
        if let Some(algorithm) = algorithm {
            set("CVMFS_HASH_ALGORITHM", algorithm.into());
        }
        let compression = if self.compression == Compression::Zlib { "default" } else { "none" };
        set("CVMFS_COMPRESSION_ALGORITHM", compression.into());
        set("CVMFS_USE_FILE_CHUNKING", self.chunking.is_some().to_string());
        if let Some(sizes) = self.chunking {
            set("CVMFS_MIN_CHUNK_SIZE", sizes.min.to_string());
            set("CVMFS_AVG_CHUNK_SIZE", sizes.average.to_string());
            set("CVMFS_MAX_CHUNK_SIZE", sizes.max.to_string());
        }
        set("CVMFS_AUTOCATALOGS", self.auto_catalogs.is_some().to_string());
        if let Some(weights) = self.auto_catalogs {
            set("CVMFS_AUTOCATALOGS_MIN_WEIGHT", weights.min_weight.to_string());
            set("CVMFS_AUTOCATALOGS_MAX_WEIGHT", weights.max_weight.to_string());
        }
        set("CVMFS_INCLUDE_XATTRS", self.xattrs.to_string());
        set("CVMFS_ENABLE_MTIME_NS", self.mtime_ns.to_string());
        set("CVMFS_ENFORCE_LIMITS", self.limits.is_some().to_string());
        if let Some(limits) = self.limits {
            set("CVMFS_FILE_MBYTE_LIMIT", (limits.file_bytes >> 20).to_string());
            set("CVMFS_ROOT_KCATALOG_LIMIT", (limits.root_entries / 1000).to_string());
            set("CVMFS_NESTED_KCATALOG_LIMIT", (limits.nested_entries / 1000).to_string());
        }
        if let Some(ttl) = self.ttl {
            set("CVMFS_REPOSITORY_TTL", ttl.to_string());
        }
        set("CVMFS_AUTO_TAG", self.auto_tag.to_string());
        if let Some(seconds) = self.auto_tag_span {
            set("CVMFS_AUTO_TAG_TIMESPAN", format!("\"{seconds} seconds ago\""));
        }
        set("CONVEYOR_KEEP_BATCH_TAGS", self.keep_batch_tags.to_string());
        if let Some(collectable) = self.garbage_collection {
            set("CVMFS_GARBAGE_COLLECTION", collectable.to_string());
        }
        set("CVMFS_AUTO_GC_TIMESPAN", format!("\"{} seconds ago\"", self.garbage_collection_span));
        text
    }
}

fn refuse_damage(file: &Assignments) -> Result<(), Error> {
    let unsupported = |what: &str| Err(Error::Unsupported(what.to_owned()));
    match file.text("CVMFS_REPOSITORY_TYPE")? {
        None | Some("stratum0") => {}
        Some(other) => return unsupported(&format!("publishing into a {other} (CVMFS_REPOSITORY_TYPE)")),
    }
    if file.is_true("CVMFS_EXTERNAL_DATA")? {
        return unsupported("publishing into a repository of external data (CVMFS_EXTERNAL_DATA)");
    }
    if file.text("CVMFS_VOMS_AUTHZ")?.is_some() {
        return unsupported("publishing into a repository with access control (CVMFS_VOMS_AUTHZ)");
    }
    if file.is_true("CVMFS_CATALOG_ALT_PATHS")? {
        return unsupported("publishing with alternative paths (CVMFS_CATALOG_ALT_PATHS)");
    }
    if file.is_true("CVMFS_VIRTUAL_DIR")? {
        return unsupported("keeping the directory .cvmfs of snapshots (CVMFS_VIRTUAL_DIR)");
    }
    Ok(())
}

fn algorithm(file: &Assignments) -> Result<Option<Algorithm>, Error> {
    Ok(match file.text("CVMFS_HASH_ALGORITHM")? {
        None => None,
        Some("sha1") => Some(Algorithm::Sha1),
        Some("rmd160") => Some(Algorithm::Rmd160),
        Some("shake128") => Some(Algorithm::Shake128),
        Some(other) => return Err(file.bad("CVMFS_HASH_ALGORITHM", &format!("{other:?} is not known"))),
    })
}

fn compression(file: &Assignments) -> Result<Compression, Error> {
    match file.text("CVMFS_COMPRESSION_ALGORITHM")? {
        None | Some("default" | "zlib") => Ok(Compression::Zlib),
        Some("none") => Ok(Compression::None),
        Some(other) => Err(file.bad("CVMFS_COMPRESSION_ALGORITHM", &format!("{other:?} is not known"))),
    }
}

fn chunking(file: &Assignments) -> Result<Option<ChunkSizes>, Error> {
    if !file.is_true("CVMFS_USE_FILE_CHUNKING")? {
        return Ok(None);
    }
    let default = ChunkSizes::default();
    let sizes = ChunkSizes {
        min: file.number("CVMFS_MIN_CHUNK_SIZE")?.unwrap_or(default.min),
        average: file.number("CVMFS_AVG_CHUNK_SIZE")?.unwrap_or(default.average),
        max: file.number("CVMFS_MAX_CHUNK_SIZE")?.unwrap_or(default.max),
    };
    if !(0 < sizes.min && sizes.min < sizes.average && sizes.average < sizes.max) {
        return Err(file.bad("CVMFS_MIN_CHUNK_SIZE", "minimum, average and maximum size of chunks must grow"));
    }
    Ok(Some(sizes))
}

fn auto_catalogs(file: &Assignments) -> Result<Option<AutoCatalogs>, Error> {
    if !file.is_true("CVMFS_AUTOCATALOGS")? {
        return Ok(None);
    }
    let default = AutoCatalogs::default();
    let weights = AutoCatalogs {
        min_weight: file.number("CVMFS_AUTOCATALOGS_MIN_WEIGHT")?.unwrap_or(default.min_weight),
        max_weight: file.number("CVMFS_AUTOCATALOGS_MAX_WEIGHT")?.unwrap_or(default.max_weight),
    };
    if weights.min_weight >= weights.max_weight {
        return Err(file.bad("CVMFS_AUTOCATALOGS_MIN_WEIGHT", "it must be less than CVMFS_AUTOCATALOGS_MAX_WEIGHT"));
    }
    Ok(Some(weights))
}

fn limits(file: &Assignments) -> Result<Option<Limits>, Error> {
    if !file.is_true("CVMFS_ENFORCE_LIMITS")? {
        return Ok(None);
    }
    let default = Limits::default();
    let scaled = |name, unit: u64, default| -> Result<u64, Error> {
        let too_large = || file.bad(name, "it is too large");
        file.number(name)?.map_or(Ok(default), |count| count.checked_mul(unit).ok_or_else(too_large))
    };
    Ok(Some(Limits {
        file_bytes: scaled("CVMFS_FILE_MBYTE_LIMIT", 1 << 20, default.file_bytes)?,
        root_entries: scaled("CVMFS_ROOT_KCATALOG_LIMIT", 1000, default.root_entries)?,
        nested_entries: scaled("CVMFS_NESTED_KCATALOG_LIMIT", 1000, default.nested_entries)?,
    }))
}

fn server(file: &Assignments) -> Result<Option<Server>, Error> {
    let Some(upstream) = file.text("CVMFS_UPSTREAM_STORAGE")? else { return Ok(None) };
    let mut parts = upstream.split(',');
    let (kind, _temporary, storage, more) = (parts.next(), parts.next(), parts.next(), parts.next());
    if kind != Some("local") {
        let what = format!("publishing to storage that is not on this machine (CVMFS_UPSTREAM_STORAGE={upstream})");
        return Err(Error::Unsupported(what));
    }
    let absolute = |name, path: Option<&str>| match path.map(PathBuf::from).filter(|path| path.is_absolute()) {
        Some(path) => Ok(path),
        None => Err(file.bad(name, "no absolute path")),
    };
    if more.is_some() {
        return Err(file.bad("CVMFS_UPSTREAM_STORAGE", "more than local,TEMPORARY,STORAGE"));
    }
    Ok(Some(Server {
        spool: absolute("CVMFS_SPOOL_DIR", file.text("CVMFS_SPOOL_DIR")?)?,
        storage: absolute("CVMFS_UPSTREAM_STORAGE", storage)?,
        user: file.text("CVMFS_USER")?.unwrap_or("root").to_owned(),
    }))
}

/// A time span as `date --date` takes it: `3 days ago`. Months and years count at their longest, so that nothing goes
/// sooner than under `cvmfs_server`.
fn span(file: &Assignments, name: &str) -> Result<Option<u64>, Error> {
    let Some(text) = file.text(name)? else { return Ok(None) };
    let words: Vec<_> = text.split_whitespace().collect();
    let seconds = match words[..] {
        [count, unit, "ago"] => count.parse::<u64>().ok().zip(unit_seconds(unit)),
        _ => None,
    };
    let seconds = seconds.and_then(|(count, unit)| count.checked_mul(unit).filter(|span| *span < 1 << 40));
    let bad = || file.bad(name, &format!("{text:?} is no time span such as \"30 days ago\""));
    seconds.map(Some).ok_or_else(bad)
}

fn unit_seconds(unit: &str) -> Option<u64> {
    const DAY: u64 = 86_400;
    Some(match unit.strip_suffix('s').unwrap_or(unit) {
        "sec" | "second" => 1,
        "min" | "minute" => 60,
        "hour" => 3600,
        "day" => DAY,
        "week" => 7 * DAY,
        "fortnight" => 14 * DAY,
        "month" => 31 * DAY,
        "year" => 366 * DAY,
        _ => return None,
    })
}

/// Where the settings of the repository in `directory` are.
pub fn file(directory: &Path, repository: &str) -> PathBuf {
    directory.with_file_name(format!(".{repository}.conf"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Settings, Error> {
        Settings::parse("server.conf", text, "test.example.org")
    }

    #[test]
    fn what_is_not_set_is_as_the_scripts_take_it() {
        let settings = parse("").unwrap();
        let expected = Settings { chunking: None, xattrs: false, mtime_ns: false, ..Settings::default() };
        assert_eq!(settings, expected);
    }

    #[test]
    fn what_is_written_is_read() {
        let all = Settings {
            algorithm: Some(Algorithm::Shake128),
            compression: Compression::None,
            chunking: Some(ChunkSizes { min: 1, average: 2, max: 3 }),
            auto_catalogs: Some(AutoCatalogs { min_weight: 10, max_weight: 20 }),
            mtime_ns: false,
            limits: Some(Limits { file_bytes: 5 << 20, root_entries: 7000, nested_entries: 0 }),
            ttl: Some(60),
            auto_tag: true,
            auto_tag_span: Some(86_400),
            keep_batch_tags: 3,
            garbage_collection: Some(true),
            garbage_collection_span: 17,
            ..Settings::default()
        };
        for settings in [Settings::default(), all] {
            assert_eq!(parse(&settings.to_text()).unwrap(), settings);
        }
    }

    #[test]
    fn a_server_conf_tells_where_things_are() {
        let text = "CVMFS_REPOSITORY_NAME=test.example.org\nCVMFS_USER=nobody\nCVMFS_SPOOL_DIR=/var/spool/cvmfs/x\n\
                    CVMFS_UPSTREAM_STORAGE=local,/srv/cvmfs/x/data/txn,/srv/cvmfs/x\nCVMFS_AUTO_TAG_TIMESPAN=\"2 weeks ago\"";
        let settings = parse(text).unwrap();
        let server =
            Server { spool: "/var/spool/cvmfs/x".into(), storage: "/srv/cvmfs/x".into(), user: "nobody".into() };
        assert_eq!((settings.server, settings.auto_tag_span), (Some(server), Some(14 * 86_400)));
    }

    #[test]
    fn what_would_be_damaged_or_makes_no_sense_is_refused_by_name() {
        let local = "CVMFS_UPSTREAM_STORAGE=local,/t,/s\n";
        for (text, name) in [
            ("CVMFS_REPOSITORY_NAME=other.example.org", "CVMFS_REPOSITORY_NAME"),
            ("CVMFS_REPOSITORY_TYPE=stratum1", "CVMFS_REPOSITORY_TYPE"),
            ("CVMFS_UPSTREAM_STORAGE=gw,/srv/cvmfs/x,http://localhost:4929/api/v1", "CVMFS_UPSTREAM_STORAGE"),
            ("CVMFS_UPSTREAM_STORAGE=S3,/t,x@/etc/s3.conf", "CVMFS_UPSTREAM_STORAGE"),
            (local, "CVMFS_SPOOL_DIR"),
            ("CVMFS_UPSTREAM_STORAGE=local,/t,relative\nCVMFS_SPOOL_DIR=/s", "CVMFS_UPSTREAM_STORAGE"),
            ("CVMFS_SPOOL_DIR=$SPOOL\nCVMFS_UPSTREAM_STORAGE=local,/t,/s", "CVMFS_SPOOL_DIR"),
            ("CVMFS_EXTERNAL_DATA=true", "CVMFS_EXTERNAL_DATA"),
            ("CVMFS_VOMS_AUTHZ=/cms", "CVMFS_VOMS_AUTHZ"),
            ("CVMFS_CATALOG_ALT_PATHS=true", "CVMFS_CATALOG_ALT_PATHS"),
            ("CVMFS_VIRTUAL_DIR=true", "CVMFS_VIRTUAL_DIR"),
            ("CVMFS_HASH_ALGORITHM=md5", "CVMFS_HASH_ALGORITHM"),
            ("CVMFS_COMPRESSION_ALGORITHM=lz4", "CVMFS_COMPRESSION_ALGORITHM"),
            ("CVMFS_USE_FILE_CHUNKING=true\nCVMFS_MAX_CHUNK_SIZE=5", "CVMFS_MIN_CHUNK_SIZE"),
            ("CVMFS_AUTOCATALOGS=true\nCVMFS_AUTOCATALOGS_MAX_WEIGHT=5", "CVMFS_AUTOCATALOGS_MIN_WEIGHT"),
            ("CVMFS_REPOSITORY_TTL=soon", "CVMFS_REPOSITORY_TTL"),
            ("CVMFS_AUTO_TAG_TIMESPAN=\"3 days\"", "CVMFS_AUTO_TAG_TIMESPAN"),
            ("CVMFS_AUTO_TAG_TIMESPAN=yesterday", "CVMFS_AUTO_TAG_TIMESPAN"),
            ("CVMFS_AUTO_GC_TIMESPAN=\"99999999999999999 years ago\"", "CVMFS_AUTO_GC_TIMESPAN"),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(name), "{text}: {error}");
        }
    }
}
