//! `conveyor repository list` and `show`.

use anyhow::Context as _;
use comfy_table::Cell;

use super::super::context::Context;
use super::super::failure::tell;
use super::super::output::printable;
use super::{Folders, Places, reader, time};
use crate::cvmfs::reader::Info;
use crate::cvmfs::stratum0::Stratum0;
use crate::domain::names::RepositoryName;

/// Tags that `show` lists.
const SHOWN_TAGS: usize = 20;

/// Shows one repository.
pub(super) fn show(stratum0: &Stratum0, context: &Context) -> anyhow::Result<()> {
    let info = info(stratum0)?;
    if context.output.is_json() {
        return context.output.json(&json(&info));
    }
    context.output.line(&format!("repository         {}", info.repository))?;
    context.output.line(&format!("revision           {}", info.revision))?;
    context.output.line(&format!("root hash          {}", info.root_hash))?;
    context.output.line(&format!("published          {}", time(info.published_at)))?;
    context.output.line(&format!("whitelist expires  {}", time(info.whitelist_expires_at)))?;
    context.output.line(&format!("tags               {}", info.tags.len()))?;
    for tag in info.tags.iter().take(SHOWN_TAGS) {
        context.output.line(&format!("  {:>8}  {}  {}", tag.revision, tag.name, printable(&tag.description)))?;
    }
    Ok(())
}

/// Lists all of them.
pub(super) fn list(places: Places, context: &Context) -> anyhow::Result<()> {
    let folders = Folders::of(places, context)?;
    let mut names = Vec::new();
    let directory = &folders.repositories;
    for entry in std::fs::read_dir(directory).with_context(|| format!("cannot list {}", directory.display()))? {
        // What has no repository's name is none.
        if let Some(name) = entry?.file_name().to_str().and_then(|name| RepositoryName::new(name).ok()) {
            names.push(name);
        }
    }
    names.sort();
    let mut rows = Vec::new();
    for stratum0 in names.iter().map(|name| folders.stratum0(name)).filter(Stratum0::exists) {
        match info(&stratum0) {
            Ok(info) if context.output.is_json() => context.output.json(&json(&info))?,
            Ok(info) => rows.push(vec![
                Cell::new(&info.repository),
                Cell::new(info.revision),
                Cell::new(info.root_hash.to_string()),
                Cell::new(time(info.whitelist_expires_at)),
            ]),
            Err(error) => tell(&format!("{error:#}")),
        }
    }
    if context.output.is_json() {
        Ok(())
    } else {
        context.output.table(&["REPOSITORY", "REVISION", "ROOT HASH", "WHITELIST EXPIRES"], rows)
    }
}

fn info(stratum0: &Stratum0) -> anyhow::Result<Info> {
    let info = reader(stratum0)?.info();
    info.with_context(|| format!("cannot read the tags of repository {}", stratum0.name()))
}

fn json(info: &Info) -> serde_json::Value {
    let tags: Vec<_> =
        info.tags.iter().map(|tag| serde_json::json!({"name": tag.name, "revision": tag.revision})).collect();
    serde_json::json!({
        "repository": info.repository,
        "revision": info.revision,
        "root_hash": info.root_hash.to_string(),
        "published_at": time(info.published_at),
        "whitelist_expires_at": time(info.whitelist_expires_at),
        "tags": tags,
    })
}
