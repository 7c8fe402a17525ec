//! When what is published is visible: which URLs are asked, what they serve, and what follows from that.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use url::Url;
use utoipa::ToSchema;

use crate::domain::progress::Replicas;

/// Most characters of a URL.
const MAX_URL: usize = 2000;

/// What a URL served when it was asked last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// When it was asked, on the clock that does not jump.
    pub asked: Duration,
    /// The revision, or why that is not known.
    pub served: Result<u64, String>,
}

/// What one of a job's URLs serves, as it is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ReplicaView {
    /// The URL.
    #[schema(value_type = String)]
    pub url: Url,
    /// Whether it serves the job's revision, or a newer one.
    pub serves: bool,
    /// The revision that it served last; absent before its first answer, and where it gave none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<u64>,
    /// Why that is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

impl ReplicaView {
    /// What its last answer, if there was one, says about a revision.
    pub fn new(url: &Url, revision: u64, answer: Option<&Answer>) -> Self {
        let (serves, served, problem) = match answer.map(|answer| &answer.served) {
            Some(Ok(served)) => (*served >= revision, Some(*served), None),
            Some(Err(why)) => (false, None, Some(why.clone())),
            None => (false, None, None),
        };
        Self { url: url.clone(), serves, revision: served, problem }
    }

    /// What it serves, for people.
    pub fn serving(&self) -> String {
        match (self.revision, &self.problem) {
            (Some(revision), _) => format!("revision {revision}"),
            (None, Some(problem)) => format!("nothing that counts: {problem}"),
            (None, None) => "not known yet".into(),
        }
    }
}

/// How a job stands that waits for its URLs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// All of them serve its revision.
    Visible,
    /// Not all of them do.
    NotYet,
    /// Not all of them did, and the time is over.
    OutOfTime {
        /// Which, and what they serve.
        lacking: String,
    },
}

/// Judges by the last answers of all URLs. The time is over only when every URL that lacks the revision was asked after it.
///
/// `deadline`: on the clock that does not jump.
pub fn judge<'a>(
    revision: u64,
    deadline: Duration,
    urls: &[Url],
    answer: impl Fn(&Url) -> Option<&'a Answer>,
) -> (Verdict, Vec<ReplicaView>) {
    let views: Vec<_> = urls.iter().map(|url| ReplicaView::new(url, revision, answer(url))).collect();
    let lacking: Vec<_> = views.iter().filter(|view| !view.serves).collect();
    let asked_late = |view: &&ReplicaView| answer(&view.url).is_some_and(|answer| answer.asked >= deadline);
    let verdict = if lacking.is_empty() {
        Verdict::Visible
    } else if lacking.iter().all(asked_late) {
        let said: Vec<_> = lacking.iter().map(|view| format!("{} serves {}", view.url, view.serving())).collect();
        Verdict::OutOfTime { lacking: said.join("; ") }
    } else {
        Verdict::NotYet
    };
    (verdict, views)
}

/// How many of the URLs serve a revision.
pub fn count(revision: u64, views: &[ReplicaView]) -> Replicas {
    let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    let serving = views.iter().filter(|view| view.serves).count();
    Replicas { revision, serving: number(serving), of: number(views.len()) }
}

/// Tells whether a URL can be the base of a repository that is asked for its revision.
pub fn check_url(url: &Url) -> Result<(), String> {
    if !matches!(url.scheme(), "http" | "https") {
        return Err(format!("has the scheme {:?}; only http and https are asked", url.scheme()));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("contains a user or password, which everyone who reads the job would see".into());
    }
    if url.query().is_some() || url.fragment().is_some() || url.as_str().len() > MAX_URL {
        return Err(format!("must be at most {MAX_URL} characters without ? and #: the base of a repository"));
    }
    Ok(())
}

/// The URLs that jobs may have the server ask.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VisibleUrls {
    all: bool,
    prefixes: Vec<Url>,
}

impl VisibleUrls {
    /// All of them.
    pub fn all() -> Self {
        Self { all: true, prefixes: Vec::new() }
    }

    /// Those below some URLs; `*` is all.
    pub fn parse(texts: &[String]) -> Result<Self, String> {
        let mut allowed = Self::default();
        for text in texts {
            if text == "*" {
                allowed.all = true;
                continue;
            }
            let url: Url = text.parse().map_err(|error| format!("has {text:?}, which is no URL: {error}"))?;
            check_url(&url).map_err(|why| format!("has {text:?}, which {why}"))?;
            allowed.prefixes.push(url);
        }
        Ok(allowed)
    }

    /// Tells whether a URL is one of them, or below one: same scheme, host and port, and a path that begins with the same parts.
    pub fn allows(&self, url: &Url) -> bool {
        let below = |prefix: &Url| {
            let path = prefix.path().trim_end_matches('/');
            let rest = url.path().strip_prefix(path);
            prefix.origin() == url.origin() && rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        self.all || self.prefixes.iter().any(below)
    }
}
