//! Tags: setting and removing them, and those that come and go by themselves (`cvmfs/swissknife_history.cc`,
//! `cvmfs/server/cvmfs_server_publish.sh`).

use jiff::Timestamp;

use super::super::Error;
use super::super::history::{History, Tag, check_tag_name};
use super::super::manifest::Manifest;
use super::super::settings::Settings;
use super::change::{Change, Next};
use super::{NewTag, RepositoryLock, Stratum0, target};

/// How the tags of Conveyor's batches begin.
const BATCH_PREFIX: &str = "cj-";

/// Seconds for which the tag of a batch stays in any case: a week. It is the evidence that the batch was published, and
/// who asks for it may have been away over a long weekend.
pub(super) const EVIDENCE_SECONDS: i64 = 7 * 86_400;

impl Stratum0 {
    /// Tags a revision, named by a tag, root hash or number; the present one by default. A tag that exists is moved only
    /// if that is asked for, and keeps its description unless it gets a new one. Gives the tag.
    pub fn add_tag(
        &self,
        lock: RepositoryLock,
        tag: NewTag<'_>,
        at: Option<&str>,
        move_existing: bool,
        now: i64,
    ) -> Result<Tag, Error> {
        check_tag_name(tag.name)?;
        let change = Change::begin(self, lock, now)?;
        let found = match at {
            Some(at) => target::find(&change.reader, at)?,
            None => target::look(&change.reader, change.reader.manifest().root_hash)?,
        };
        let mut new = Tag { name: tag.name.to_owned(), description: tag.description.to_owned(), ..found };
        if let Some(old) = change.reader.tag(tag.name)? {
            if !move_existing {
                return Err(Error::Exists(format!("tag {}, at revision {},", old.name, old.revision)));
            }
            if new.description.is_empty() {
                new.description = old.description;
            }
        }
        let mut edit = |history: &History, _: &Manifest| {
            history.remove(&new.name)?;
            history.insert(&new)
        };
        change.commit(Next { tags: Some(&mut edit), ..Next::default() }, now, &|_| {})?;
        Ok(new)
    }

    /// Removes tags, all or none; gives what they were.
    pub fn remove_tags(&self, lock: RepositoryLock, names: &[&str], now: i64) -> Result<Vec<Tag>, Error> {
        for name in names {
            check_tag_name(name)?;
        }
        let change = Change::begin(self, lock, now)?;
        let history = change.reader.history()?.ok_or_else(|| Error::Missing("the history".into()))?;
        let mut removed: Vec<Tag> = Vec::new();
        for name in names {
            let tag = history.tag(name)?.ok_or_else(|| Error::Missing(format!("tag {name}")))?;
            if !removed.contains(&tag) {
                removed.push(tag);
            }
        }
        let mut edit = |history: &History, _: &Manifest| {
            removed.iter().try_for_each(|tag| history.remove(&tag.name).map(drop))?;
            history.compact()
        };
        change.commit(Next { tags: Some(&mut edit), ..Next::default() }, now, &|_| {})?;
        Ok(removed)
    }
}

/// The name for a revision that nobody named, in a history that has no such tag yet (`cvmfs_server_publish`).
pub(super) fn automatic_name(history: &History, now: i64) -> Result<String, Error> {
    let time = Timestamp::from_second(now).map_err(|error| Error::malformed("a time", error.to_string()))?;
    let time = time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let mut name = format!("generic-{time}");
    let mut number = 1;
    while history.tag(&name)?.is_some() {
        name = format!("generic_{number}-{time}");
        number += 1;
    }
    Ok(name)
}

/// Removes the tags that came by themselves and whose time is over; gives their names.
///
/// Those of Conveyor's batches go when there are newer ones enough (`keep_batch_tags`) and a week has passed: until then
/// they are what tells, after a crash, that the batch was published.
pub(super) fn prune(history: &History, settings: &Settings, now: i64) -> Result<Vec<String>, Error> {
    let tags = history.tags()?;
    let batches = tags.iter().filter(|tag| is_batch(&tag.name));
    let keep = usize::try_from(settings.keep_batch_tags).unwrap_or(usize::MAX);
    let old_batches = batches.skip(keep).filter(|tag| tag.timestamp < now.saturating_sub(EVIDENCE_SECONDS));
    let end = settings.auto_tag_span.map(|span| now.saturating_sub_unsigned(span));
    let old_automatic = tags.iter().filter(|tag| is_automatic(&tag.name) && end.is_some_and(|end| tag.timestamp < end));
    let names: Vec<_> = old_batches.chain(old_automatic).map(|tag| tag.name.clone()).collect();
    for name in &names {
        history.remove(name)?;
    }
    if !names.is_empty() {
        history.compact()?;
    }
    Ok(names)
}

/// Tells whether a tag is a batch's evidence.
pub(super) fn is_batch(name: &str) -> bool {
    name.starts_with(BATCH_PREFIX)
}

/// Tells whether a tag came by itself: `generic-TIME` or `generic_N-TIME`.
fn is_automatic(name: &str) -> bool {
    let Some(rest) = name.strip_prefix("generic") else { return false };
    let time = match rest.strip_prefix('_') {
        Some(rest) => rest.split_once('-').filter(|(number, _)| is_number(number)).map(|(_, time)| time),
        None => rest.strip_prefix('-'),
    };
    time.is_some_and(|time| time.ends_with('Z') && time.parse::<Timestamp>().is_ok())
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_that_came_by_themselves_are_told_by_their_name() {
        for name in
            ["generic-2026-11-21T05:01:19Z", "generic_12-2026-11-21T05:01:19Z", "generic-2026-11-21T05:01:19.123Z"]
        {
            assert!(is_automatic(name), "{name}");
        }
        for name in
            ["generic", "generic-", "generic-1.0", "generic_-2026-11-21T05:01:19Z", "generics-2026-11-21T05:01:19Z"]
        {
            assert!(!is_automatic(name), "{name}");
        }
    }
}
