//! Payloads as the command line gives them, the old program's `script|URL[|ARG]` among them.

use std::path::{Path, PathBuf};

use url::Url;

use super::failure::Usage;
use crate::domain::digest::Checksum;
use crate::domain::job::spec::{Payload, Source};

/// Where bytes are, as the user says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Origin {
    /// On this machine: uploaded before the job is submitted.
    File(PathBuf),
    /// Fetched by the worker.
    Url(Url),
}

impl Origin {
    /// A URL where it looks like one, a file otherwise.
    pub(super) fn parse(text: &str) -> Result<Self, Usage> {
        if text.starts_with("http://") || text.starts_with("https://") {
            return web_url(text).map(Self::Url);
        }
        if let Some((scheme, _)) = text.split_once("://") {
            return Err(Usage::new(format!("{text:?} has the scheme {scheme:?}; only http and https are fetched"))
                .with_hint("give a local file or an http(s) URL"));
        }
        if text.is_empty() {
            return Err(Usage::new("the name of the payload's file is empty"));
        }
        Ok(Self::File(text.into()))
    }

    /// What a job with these bytes is called when nobody says.
    pub(super) fn name(&self) -> Option<String> {
        match self {
            Self::File(path) => path.file_name().map(|name| name.to_string_lossy().into_owned()),
            Self::Url(url) => last_segment(url),
        }
    }
}

/// The last part of a URL's path.
pub(super) fn last_segment(url: &Url) -> Option<String> {
    url.path_segments()?.rfind(|segment| !segment.is_empty()).map(str::to_owned)
}

fn web_url(text: &str) -> Result<Url, Usage> {
    Url::parse(text).map_err(|error| Usage::new(format!("{text:?} is not a URL: {error}")))
}

/// The old program's payload string, and what to tell about it.
///
/// As there: an empty text is an empty publish, the script always gets a third argument, even an empty one, and what
/// comes after a third `|` is dropped. `checksum` in the URL's query says what the bytes must hash to.
pub(super) fn parse_old(text: &str) -> Result<(Payload, Option<String>), Usage> {
    if text.is_empty() {
        return Ok((Payload::Empty, None));
    }
    let hint = "write it as 'script|URL' or 'script|URL|ARGUMENT', or use --script, --tarball or --delete";
    let mut parts = text.split('|');
    let (kind, url) = (parts.next(), parts.next());
    let (Some("script"), Some(url)) = (kind, url) else {
        return Err(Usage::new(format!("payload {text:?} is not valid")).with_hint(hint));
    };
    if !(url.starts_with("http://") || url.starts_with("https://")) {
        let local = if Path::new(url).exists() { "; for a local file use --script" } else { "" };
        return Err(Usage::new(format!("payload {text:?} has no http(s) URL{local}")).with_hint(hint));
    }
    let argument = parts.next().unwrap_or("");
    let dropped: Vec<&str> = parts.collect();
    let note = (!dropped.is_empty())
        .then(|| format!("the payload's {:?} is dropped: a script gets one argument", dropped.join("|")));
    let (url, checksum) = take_checksum(web_url(url)?)?;
    Ok((Payload::Script { source: Source::Url { url, checksum }, args: vec![argument.to_owned()] }, note))
}

/// Takes the first `checksum` out of a URL's query and leaves the rest as it is, byte for byte.
fn take_checksum(mut url: Url) -> Result<(Url, Option<Checksum>), Usage> {
    let Some(query) = url.query().map(str::to_owned) else { return Ok((url, None)) };
    let decode = |pair: &str| {
        url::form_urlencoded::parse(pair.as_bytes()).next().map(|(key, value)| (key.into_owned(), value.into_owned()))
    };
    let pairs: Vec<&str> = query.split('&').collect();
    let found = pairs.iter().enumerate().find_map(|(position, pair)| {
        decode(pair).filter(|(key, _)| key == "checksum").map(|(_, value)| (position, value))
    });
    let Some((position, value)) = found else { return Ok((url, None)) };
    let rest: Vec<&str> =
        pairs.iter().enumerate().filter(|(other, _)| *other != position).map(|(_, pair)| *pair).collect();
    url.set_query(if rest.is_empty() { None } else { Some(rest.join("&")) }.as_deref());
    if value.is_empty() {
        return Ok((url, None));
    }
    let checksum = value.parse().map_err(|error| Usage::new(format!("the payload's URL: {error}")))?;
    Ok((url, Some(checksum)))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const MD5: &str = "d41d8cd98f00b204e9800998ecf8427e";

    /// The URL, the checksum and the arguments of an old payload.
    fn old(text: &str) -> (String, Option<String>, Vec<String>) {
        match parse_old(text).unwrap().0 {
            Payload::Script { source: Source::Url { url, checksum }, args } => {
                (url.into(), checksum.map(|sum| sum.to_string()), args)
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_old_payload_string_means_what_it_meant() {
        assert_eq!(parse_old("").unwrap(), (Payload::Empty, None));
        assert_eq!(old("script|http://h/a.sh"), ("http://h/a.sh".into(), None, vec![String::new()]));
        assert_eq!(old("script|http://h/a.sh|"), ("http://h/a.sh".into(), None, vec![String::new()]));
        assert_eq!(old("script|https://h/a.sh|one two").2, ["one two"]);
        assert_eq!(old("script|http://h/a.sh|x|dropped").2, ["x"]);
        assert!(parse_old("script|http://h/a.sh|x|y|z").unwrap().1.unwrap().contains("\"y|z\""));
    }

    #[test]
    fn the_checksum_leaves_the_url_and_the_rest_of_the_query_stays() {
        let md5 = Some(format!("md5:{MD5}"));
        for (query, rest, checksum) in [
            (format!("?checksum={MD5}"), "", md5.clone()),
            (format!("?checksum=md5:{MD5}"), "", md5.clone()),
            (format!("?checksum=md5%3A{MD5}"), "", md5.clone()),
            (format!("?a=%7E+1&checksum={MD5}&b"), "?a=%7E+1&b", md5),
            ("?checksum=".into(), "", None),
            ("?xchecksum=1".into(), "?xchecksum=1", None),
        ] {
            let (url, found, _) = old(&format!("script|http://h/a.sh{query}|x"));
            assert_eq!((url, found), (format!("http://h/a.sh{rest}"), checksum), "{query}");
        }
    }

    #[test]
    fn what_the_old_worker_would_have_failed_on_is_refused_at_once() {
        for bad in [
            "x",
            "script",
            "tarball|http://h/a",
            "script|",
            "script|/a.sh",
            "script|ftp://h/a",
            "script|http://",
            "|http://h/a",
            "Script|http://h/a",
            "script|http://h/a?checksum=12",
            "script|http://h/a?checksum=crc:00",
        ] {
            assert!(parse_old(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn an_origin_is_a_file_or_a_url_and_has_a_name() {
        assert_eq!(Origin::parse("/tmp/a.tar").unwrap(), Origin::File("/tmp/a.tar".into()));
        assert_eq!(Origin::parse("http://h/x/a.tar?b=1").unwrap().name().unwrap(), "a.tar");
        assert_eq!(Origin::parse("dir/a.tar").unwrap().name().unwrap(), "a.tar");
        assert_eq!(Origin::parse("http://h/").unwrap().name(), None);
        assert!(Origin::parse("").is_err() && Origin::parse("s3://b/k").is_err() && Origin::parse("http://").is_err());
    }
}
