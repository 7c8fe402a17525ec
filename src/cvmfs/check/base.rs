//! What stands at the base, and what the manifest names besides the catalogs.

use std::collections::BTreeMap;
use std::io;

use super::super::Error;
use super::super::hash::{ContentHash, ObjectKind};
use super::super::history::{History, TRUNK};
use super::super::object;
use super::super::reflog::{self, Reflog};
use super::super::whitelist::rfc3339;
use super::catalog::chain;
use super::report::{Code, Place};
use super::{Check, Data};

/// How long before its end a whitelist is worth a warning, in seconds.
const EXPIRES_SOON: i64 = 7 * 86_400;

/// Bytes that a metainfo may have.
const MOST_METAINFO: u64 = 16 << 20;

/// Bytes that a reflog may have: far above what a million revisions need.
const MOST_REFLOG: u64 = 1 << 32;

impl Check<'_> {
    /// Checks all of it.
    pub(super) fn base(&self) {
        self.whitelist();
        self.metainfo();
        self.alternative_paths();
        if !self.options.ignore_reflog
            && let Err(error) = self.reflog()
        {
            self.say("reflog", Code::ReflogUnreadable, chain(&error));
        }
        match self.reader.history() {
            Ok(Some(history)) => {
                if let Err(error) = self.history(&history) {
                    self.say("history", Code::HistoryUnreadable, chain(&error));
                }
            }
            Ok(None) => {}
            Err(error) => self.say("history", Code::HistoryUnreadable, chain(&error)),
        }
    }

    fn say(&self, place: &'static str, code: Code, message: String) {
        self.note(Place::Base(place), code, message);
    }

    fn whitelist(&self) {
        let (Some(now), expires_at) = (self.options.now, self.reader.whitelist().expires_at) else { return };
        let at = rfc3339(expires_at);
        if now >= expires_at {
            self.say("whitelist", Code::WhitelistExpired, format!("it expired at {at}: sign it anew"));
        } else if now >= expires_at - EXPIRES_SOON {
            self.say("whitelist", Code::WhitelistExpiresSoon, format!("it expires at {at}: sign it anew in time"));
        }
    }

    fn metainfo(&self) {
        let Some(hash) = self.reader.manifest().metainfo else { return };
        match object::read_small(self.reader.fetch(), &hash, ObjectKind::Metainfo, MOST_METAINFO) {
            Ok(text) if serde_json::from_slice::<serde_json::Value>(&text).is_ok() => {}
            Ok(_) => self.say("metainfo", Code::MetainfoText, "it is no JSON".into()),
            Err(error) => self.say("metainfo", Code::MetainfoUnreadable, chain(&error)),
        }
    }

    fn alternative_paths(&self) {
        let manifest = self.reader.manifest();
        if !manifest.alternative_paths {
            return;
        }
        let objects = [(manifest.certificate, ObjectKind::Certificate), (manifest.root_hash, ObjectKind::Catalog)];
        for (hash, kind) in objects {
            let link = format!(".cvmfsalt-{hash}{}", kind.letter());
            match self.reader.fetch().exists(&link) {
                Ok(true) => {}
                Ok(false) => self.say("manifest", Code::AlternativePath, format!("the link {link} is missing")),
                Err(error) => self.say("manifest", Code::AlternativePath, format!("{link} cannot be read: {error}")),
            }
        }
    }

    fn reflog(&self) -> Result<(), Error> {
        let manifest = self.reader.manifest();
        let stored = self.reader.fetch().fetch(reflog::FILE).map_err(Error::io("open the reflog"))?;
        let noted = self.options.noted_reflog;
        let (stored, expected) = match (stored, noted.or(manifest.reflog)) {
            (Some(stored), Some(expected)) => (stored, expected),
            (Some(_), None) => {
                self.say("reflog", Code::ReflogUnvouched, "the manifest has no hash of it".into());
                return Ok(());
            }
            (None, Some(_)) => {
                self.say("reflog", Code::ReflogMissing, "it is missing; garbage cannot be collected safely".into());
                return Ok(());
            }
            (None, None) => return Ok(()),
        };
        let copy = self.reader.temporary_file()?;
        let mut file = copy.as_file();
        object::copy(&mut io::Read::take(stored, MOST_REFLOG), &mut file).map_err(Error::io("copy the reflog"))?;
        let found = reflog::hash_file(copy.path(), expected.algorithm())?;
        if found != Some(expected) {
            let found = found.map_or_else(String::new, |hash| hash.to_string());
            let says = if noted.is_some() { "what is noted in the spool directory" } else { "the manifest" };
            self.say("reflog", Code::ReflogHash, format!("its hash is {found}, by {says} it is {expected}"));
        }
        let reflog = Reflog::open(copy.path())?;
        if let Some(name) = reflog.repository()?.filter(|name| *name != manifest.repository) {
            self.say("reflog", Code::ReflogUnreadable, format!("it is of the repository {name:?}"));
        }
        let objects = [
            ("root catalog", ObjectKind::Catalog, Some(manifest.root_hash)),
            ("certificate", ObjectKind::Certificate, Some(manifest.certificate)),
            ("history", ObjectKind::History, manifest.history),
            ("metainfo", ObjectKind::Metainfo, manifest.metainfo),
        ];
        for (what, kind, hash) in objects {
            if let Some(hash) = hash
                && !reflog.lists(kind, &hash)?
            {
                self.say("reflog", Code::ReflogIncomplete, format!("it lacks the manifest's {what}, {hash}"));
            }
        }
        Ok(())
    }

    fn history(&self, history: &History) -> Result<(), Error> {
        self.branches(history)?;
        let manifest = self.reader.manifest();
        let branches: BTreeMap<String, String> = history.tags_of_branches()?.into_iter().collect();
        let mut roots: BTreeMap<ContentHash, (String, u64, u64)> = BTreeMap::new();
        for tag in history.tags()? {
            let wrong = |message| self.say("history", Code::TagWrong, message);
            let name = &tag.name;
            let of_main_branch = branches.get(name).is_some_and(String::is_empty);
            if of_main_branch && tag.revision > manifest.revision {
                wrong(format!("the tag {name:?} is of revision {}, after the manifest's", tag.revision));
            }
            if of_main_branch && tag.revision == manifest.revision && tag.root_hash != manifest.root_hash {
                wrong(format!(
                    "the tag {name:?} has another root catalog for the manifest's revision: {}",
                    tag.root_hash
                ));
            }
            if name == TRUNK && tag.root_hash != manifest.root_hash {
                wrong(format!("the tag {name:?} is not at the manifest's root catalog, but at {}", tag.root_hash));
            }
            let (first, revision, size) =
                roots.entry(tag.root_hash).or_insert_with(|| (name.clone(), tag.revision, tag.size));
            if (*revision, *size) != (tag.revision, tag.size) {
                wrong(format!("the tags {first:?} and {name:?} say different things of the same root catalog"));
            }
        }
        for (hash, (name, revision, size)) in roots {
            self.tag_catalog(&hash, &name, revision, size);
        }
        Ok(())
    }

    /// Branches and what the tags say of them, as `CommandCheck::InspectHistory` wants it.
    fn branches(&self, history: &History) -> Result<(), Error> {
        let wrong = |message| self.say("history", Code::HistoryBranch, message);
        let branches: BTreeMap<String, u64> = history.branches()?.into_iter().collect();
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.@/".contains(&byte);
        for name in branches.keys().filter(|name| !name.bytes().all(allowed)) {
            wrong(format!("the branch {name:?} has a character that no branch may have"));
        }
        let of_tags: BTreeMap<String, String> = history.tags_of_branches()?.into_iter().collect();
        for tag in history.tags()? {
            let branch = of_tags.get(&tag.name).map(String::as_str).unwrap_or_default();
            match branches.get(branch) {
                None => wrong(format!("the tag {:?} is on the branch {branch:?}, which does not exist", tag.name)),
                Some(first) if tag.revision < *first => {
                    wrong(format!("the tag {:?} is older than its branch {branch:?}", tag.name));
                }
                Some(_) => {}
            }
        }
        for name in branches.keys().filter(|name| !of_tags.values().any(|used| used == *name)) {
            wrong(format!("the branch {name:?} has no tags"));
        }
        Ok(())
    }

    fn tag_catalog(&self, hash: &ContentHash, name: &str, revision: u64, size: u64) {
        let say = |code, message| self.say("history", code, message);
        if self.options.tags {
            match self.reader.catalog_and_size(hash) {
                Ok((catalog, found)) => {
                    if size != 0 && found != size {
                        let message =
                            format!("the tag {name:?} says that its root catalog has {size} bytes, not {found}");
                        say(Code::TagWrong, message);
                    }
                    match catalog.revision() {
                        Ok(found) if found == revision => {}
                        Ok(found) => {
                            let message =
                                format!("the tag {name:?} is of revision {revision}, its root catalog of {found}");
                            say(Code::TagWrong, message);
                        }
                        Err(error) => say(Code::TagCatalog, format!("the tag {name:?}: {}", chain(&error))),
                    }
                }
                Err(error) => say(Code::TagCatalog, format!("the tag {name:?}: {}", chain(&error))),
            }
        } else if self.options.data != Data::None {
            match self.reader.fetch().exists(&hash.object_path(ObjectKind::Catalog)) {
                Ok(true) => {}
                Ok(false) => say(Code::TagCatalog, format!("the tag {name:?}: its root catalog {hash} is missing")),
                Err(error) => say(Code::TagCatalog, format!("the tag {name:?}: {error}")),
            }
        }
    }
}
