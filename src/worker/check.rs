//! Whether a worker could work here: everything is tried, nothing is changed.

use std::path::Path;
use std::sync::Arc;

use super::failure::chain;
use super::isolation::try_isolation;
use super::{Account, WorkerSettings, make_temp_dir};
use crate::client::{Client, ClientError};
use crate::domain::ids::{BatchId, InstanceId};
use crate::domain::protocol::ClaimRequest;
use crate::payload::script::ScriptError;
use crate::publisher::{Finding, FindingState, Publisher};

/// Tries everything that a worker with these settings needs, while another one may be running with them.
pub async fn check(client: &Client, publisher: Arc<dyn Publisher>, settings: &WorkerSettings) -> Vec<Finding> {
    let mut findings = vec![state_dir(&settings.state_dir), account(settings.run_as)];
    let temp_dir = temp_dir(&settings.temp_dir);
    let is_there = temp_dir.state != FindingState::Missing;
    findings.push(temp_dir);
    if is_there {
        findings.push(isolation(settings).await);
    }
    findings.push(server(client, settings).await);
    let named = settings.adjustable.repositories.clone();
    let of_publisher = tokio::task::spawn_blocking(move || {
        let mut findings = publisher.check(named.as_deref());
        let there = publisher.repositories();
        for name in named.into_iter().flatten() {
            if there.as_ref().is_some_and(|there| !there.contains(&name)) {
                let hint = "take it out of repositories in [worker], or make it";
                findings.push(Finding::missing(format!("repository {name}"), "is not on this machine", hint));
            }
        }
        findings
    });
    match of_publisher.await {
        Ok(found) => findings.extend(found),
        Err(panic) => findings.push(Finding::missing("publisher", format!("failed: {panic}"), "report this defect")),
    }
    findings
}

fn state_dir(path: &Path) -> Finding {
    let what = "state directory";
    let shown = path.display();
    let tried = std::fs::create_dir_all(path).and_then(|()| tempfile::tempfile_in(path));
    match tried {
        Err(error) => {
            let hint = "give it to the worker's account, or set state_dir in [worker]";
            Finding::missing(what, format!("cannot write in {shown}: {error}"), hint)
        }
        Ok(_) => Finding::good(what, shown.to_string()),
    }
}

fn account(run_as: Option<Account>) -> Finding {
    let what = "account of scripts";
    match run_as {
        Some(Account { uid, gid }) => Finding::good(what, format!("uid {uid}, gid {gid}")),
        None => Finding::good(what, format!("the worker's own, uid {}", nix::unistd::geteuid())),
    }
}

fn temp_dir(path: &Path) -> Finding {
    use std::os::unix::fs::PermissionsExt;
    let what = "directory for payloads";
    let shown = path.display();
    let tried = make_temp_dir(path).and_then(|()| Ok((path.metadata()?, tempfile::tempfile_in(path)?)));
    match tried {
        Err(error) => {
            let hint = "give it to the worker's account, or set temp_dir in [worker]";
            Finding::missing(what, format!("cannot write in {shown}: {error}"), hint)
        }
        Ok((metadata, _)) if metadata.permissions().mode() & 0o022 != 0 => {
            let text = format!("others can write in {shown}, mode {:o}", metadata.permissions().mode() & 0o7777);
            Finding::warning(what, text, format!("chmod 711 {shown}: it is for the worker alone"))
        }
        Ok((metadata, _)) if nix::unistd::geteuid().is_root() && metadata.permissions().mode() & 0o001 == 0 => {
            let text = format!("scripts of another account cannot pass through {shown}");
            Finding::warning(what, text, format!("chmod 711 {shown}, or scripts run only where they can be isolated"))
        }
        Ok(_) => Finding::good(what, shown.to_string()),
    }
}

async fn isolation(settings: &WorkerSettings) -> Finding {
    let what = "isolation of scripts";
    match try_isolation(&settings.temp_dir, settings.run_as).await {
        Ok(()) => Finding::good(what, "namespaces and mounts can be made, rights be given up"),
        Err(ScriptError::Isolation { step, hint, source, .. }) => {
            let text = format!("cannot {step}: {source}");
            let hint = if hint.is_empty() { "see docs/operating.md, \"Isolation of scripts\"" } else { hint };
            match settings.isolation_required {
                true => Finding::missing(what, text, hint),
                false => Finding::warning(what, format!("{text}; scripts run without"), hint),
            }
        }
        Err(error) => {
            let hint =
                "scripts need a directory that they may run programs in (not noexec) and an account that may enter it";
            Finding::missing(what, chain(&error), hint)
        }
    }
}

/// Asks for a batch that there cannot be: only a worker's token is told so.
async fn server(client: &Client, settings: &WorkerSettings) -> Finding {
    let what = "server";
    let instance = InstanceId(uuid::Uuid::now_v7());
    let claim = ClaimRequest { generation: 0, node: settings.node.clone(), instance };
    let nothing = BatchId(uuid::Uuid::now_v7());
    match client.with_retry_for(std::time::Duration::ZERO).claim(nothing, &claim).await {
        Err(ClientError::Refused { status: 404, .. }) => {
            Finding::good(what, format!("{} takes our token", client.url()))
        }
        Ok(_) => Finding::missing(what, format!("{} has batches that nobody made", client.url()), "check its address"),
        Err(error) => {
            let hint = error.hint().unwrap_or_else(|| "check server and token_file in [worker]".into());
            Finding::missing(what, chain(&error), hint)
        }
    }
}
