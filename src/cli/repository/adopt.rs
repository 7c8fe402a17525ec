//! `conveyor repository adopt`.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;

use super::super::context::Context;
use super::{Folders, NamedArgs, now, time};
use crate::cvmfs::settings::Settings;
use crate::cvmfs::stratum0::{Adopted, Stratum0};

/// What to take over.
#[derive(Debug, Args)]
pub(in crate::cli) struct AdoptArgs {
    #[command(flatten)]
    #[allow(missing_docs)] // a doc comment would become the command's help
    pub repository: NamedArgs,
    /// Its server.conf [default: /etc/cvmfs/repositories.d/NAME/server.conf]
    #[arg(long, value_name = "FILE")]
    pub server_conf: Option<PathBuf>,
}

/// Takes it over and says what was found.
pub(super) fn run(args: AdoptArgs, context: &Context) -> anyhow::Result<()> {
    let NamedArgs { name, places } = args.repository;
    let folders = Folders::of(places, context);
    let default = || PathBuf::from(format!("/etc/cvmfs/repositories.d/{name}/server.conf"));
    let server_conf = args.server_conf.unwrap_or_else(default);
    let stratum0 = folders.stratum0(&name);
    let adopted = Stratum0::adopt(stratum0.directory(), name.as_str(), &folders.keys, &server_conf, now());
    let adopted = adopted.with_context(|| format!("cannot take over repository {name}"))?;
    if context.output.is_json() {
        return context.output.json(&json(&adopted));
    }
    let Adopted { settings, server, .. } = &adopted;
    let lines = [
        ("repository", name.to_string()),
        ("directory", adopted.stratum0.directory().display().to_string()),
        ("storage", server.storage.display().to_string()),
        ("spool", server.spool.display().to_string()),
        ("owner", server.user.clone()),
        ("revision", adopted.revision.to_string()),
        ("whitelist expires", time(adopted.whitelist_expires_at)),
        ("settings", words(settings)),
        ("taken over", if adopted.is_new { "now" } else { "before" }.to_owned()),
    ];
    lines.iter().try_for_each(|(name, value)| context.output.line(&format!("{name:<18} {value}")))
}

/// The settings that matter, in the words of `server.conf`.
fn words(settings: &Settings) -> String {
    let text = settings.to_text();
    text.lines().filter(|line| !line.starts_with('#')).collect::<Vec<_>>().join(" ")
}

fn json(adopted: &Adopted) -> serde_json::Value {
    serde_json::json!({
        "repository": adopted.stratum0.name(),
        "directory": adopted.stratum0.directory(),
        "storage": adopted.server.storage,
        "spool": adopted.server.spool,
        "owner": adopted.server.user,
        "revision": adopted.revision,
        "whitelist_expires_at": time(adopted.whitelist_expires_at),
        "settings": words(&adopted.settings),
        "is_new": adopted.is_new,
    })
}
