//! `conveyor token`: of a server's database, or with `--file` of a token list.

mod create;
mod list_file;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use comfy_table::Cell;
use jiff::Timestamp;

use super::context::Context;
use super::failure::{FAILED, describe, tell};
use super::output::printable;
use crate::config::read_token_list;
use crate::domain::access::{TokenId, TokenRecord, TokenSource};
use crate::domain::protocol::TokenView;

/// What to do with tokens.
#[derive(Debug, Subcommand)]
pub(super) enum TokenCommand {
    /// Make a token; it is shown once and kept nowhere
    Create(create::CreateArgs),
    /// List tokens, never their secrets
    List(ListArgs),
    /// Take tokens back, at once and for ever
    Revoke(RevokeArgs),
}

/// Which tokens to list.
#[derive(Debug, Args)]
pub(super) struct ListArgs {
    /// Those of this token list, without a server
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
}

/// Which tokens to take back.
#[derive(Debug, Args)]
pub(super) struct RevokeArgs {
    /// Their ids, as listed: the middle part of conveyor_ID_SECRET
    #[arg(value_name = "ID", required = true)]
    ids: Vec<TokenId>,
    /// In this token list, without a server; one that runs notices it within seconds
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
}

/// Carries out one of them.
pub(super) async fn run(command: TokenCommand, context: &Context) -> anyhow::Result<ExitCode> {
    match command {
        TokenCommand::Create(args) => create::run(args, context).await,
        TokenCommand::List(args) => list(args, context).await,
        TokenCommand::Revoke(args) => revoke(args, context).await,
    }
}

async fn list(args: ListArgs, context: &Context) -> anyhow::Result<ExitCode> {
    let tokens = match &args.file {
        Some(path) => read_token_list(path)?.into_iter().map(view).collect(),
        None => context.client()?.tokens().await?.tokens,
    };
    if context.output.is_json() {
        tokens.iter().try_for_each(|token| context.output.json(token))?;
    } else if !tokens.is_empty() {
        let head = ["ID", "NAME", "ROLES", "STATE", "SOURCE", "CREATED", "EXPIRES", "LAST USED", "NOTE"];
        context.output.table(&head, tokens.iter().map(row).collect())?;
    }
    Ok(ExitCode::SUCCESS)
}

fn row(token: &TokenView) -> Vec<Cell> {
    let day = |at: Option<Timestamp>, without: &str| {
        Cell::new(at.map_or_else(|| without.to_owned(), |at| at.strftime("%Y-%m-%d %H:%MZ").to_string()))
    };
    vec![
        Cell::new(&token.id),
        Cell::new(&token.name),
        Cell::new(&token.roles),
        Cell::new(token.state),
        Cell::new(token.source),
        day(token.created_at, "-"),
        day(token.expires_at, "never"),
        day(token.last_used_at, "-"),
        Cell::new(printable(&token.note)),
    ]
}

/// One that cannot be revoked does not keep the others from it.
async fn revoke(args: RevokeArgs, context: &Context) -> anyhow::Result<ExitCode> {
    let client = if args.file.is_none() { Some(context.client()?) } else { None };
    let mut code = ExitCode::SUCCESS;
    for id in args.ids {
        let revoked = match (&client, &args.file) {
            (Some(client), _) => client.revoke_token(&id).await.map_err(anyhow::Error::from),
            (None, path) => list_file::revoke(path.as_deref().unwrap_or("".as_ref()), &id, Timestamp::now()).map(view),
        };
        match revoked {
            Ok(token) if context.output.is_json() => context.output.json(&token)?,
            Ok(token) => context.output.line(&format!("token {id} ({}) is revoked", token.name))?,
            Err(error) => {
                tell(&describe(&error.context(format!("token {id}"))));
                code = ExitCode::from(FAILED);
            }
        }
    }
    Ok(code)
}

/// An entry of a token list as the server would show it.
fn view(token: TokenRecord) -> TokenView {
    TokenView {
        state: token.standing(Timestamp::now()),
        id: token.id,
        name: token.name,
        roles: token.roles,
        source: TokenSource::File,
        note: token.note,
        created_at: token.created_at,
        created_by: token.created_by,
        expires_at: token.expires_at,
        revoked_at: token.revoked_at,
        last_used_at: token.last_used_at,
    }
}
