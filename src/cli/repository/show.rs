//! `conveyor repository list` and `show`.

use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use comfy_table::Cell;

use super::super::context::Context;
use super::super::failure::tell;
use super::super::output::printable;
use super::{Folders, NamedArgs, Places, reader, service, time};
use crate::cvmfs::reader::Info;
use crate::cvmfs::stratum0::Stratum0;
use crate::domain::names::RepositoryName;
use crate::domain::repository::RepositoryView;

/// Tags that `show` lists.
const SHOWN_TAGS: usize = 20;

/// What to show.
#[derive(Debug, Args)]
pub(in crate::cli) struct ShowArgs {
    #[command(flatten)]
    #[allow(missing_docs)] // a doc comment would become the command's help
    pub named: NamedArgs,
    /// Print one JSON object, also on a terminal
    #[arg(long)]
    json: bool,
    /// Do not ask the server
    #[arg(long)]
    local: bool,
}

/// Shows one repository: what is on this machine, where it is, and what the server says, where it answers.
pub(super) async fn show(args: ShowArgs, context: &Context) -> anyhow::Result<()> {
    let (is_json, name) = (args.json || context.output.is_json(), args.named.name.clone());
    let stratum0 = args.named.stratum0(context);
    let view = if args.local { None } else { Some(server_view(&name, context).await) };
    let (info, view) = match (stratum0.exists(), view) {
        (true, None) => (Some(info(&stratum0)?), None),
        (true, Some(Ok(view))) => (Some(info(&stratum0)?), Some(view)),
        (true, Some(Err(error))) => {
            let info = info(&stratum0)?;
            tell(&format!("note: without what the server says (--local does not ask): {error:#}"));
            (Some(info), None)
        }
        (false, Some(Ok(view))) => (None, Some(view)),
        // What is not here is an error of its own.
        (false, None) => (Some(info(&stratum0)?), None),
        (false, Some(Err(error))) => {
            let here = stratum0.directory().display();
            anyhow::bail!("there is no repository in {here}, and the server does not tell of {name}: {error:#}");
        }
    };
    if is_json {
        let mut object = match &info {
            Some(info) => json(info),
            None => serde_json::json!({"repository": name}),
        };
        if let Some(view) = &view {
            object["server"] = serde_json::to_value(view)?;
        }
        return context.output.json(&object);
    }
    context.output.line(&format!("repository         {name}"))?;
    if let Some(view) = &view {
        service::print(view, context)?;
    }
    info.map_or(Ok(()), |info| print(&info, context))
}

/// Shows what is on this machine.
pub(super) fn show_local(stratum0: &Stratum0, context: &Context) -> anyhow::Result<()> {
    let info = info(stratum0)?;
    if context.output.is_json() {
        return context.output.json(&json(&info));
    }
    context.output.line(&format!("repository         {}", info.repository))?;
    print(&info, context)
}

/// What the server says. One that does not answer is not waited for: what is here is shown all the same.
async fn server_view(name: &RepositoryName, context: &Context) -> anyhow::Result<RepositoryView> {
    Ok(context.client()?.with_retry_for(Duration::ZERO).repository(name).await?)
}

fn print(info: &Info, context: &Context) -> anyhow::Result<()> {
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
    let folders = Folders::of(places, context);
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
