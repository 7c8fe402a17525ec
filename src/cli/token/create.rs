//! `conveyor token create`.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::super::context::Context;
use super::super::failure::tell;
use super::{list_file, view};
use crate::app::clock::{Entropy, SystemEntropy};
use crate::domain::access::{Role, Roles, TokenId, TokenName, TokenRecord};
use crate::domain::protocol::{NewToken, TokenView};
use crate::domain::token::Token;

/// Arguments of `conveyor token create`.
#[derive(Debug, Args)]
pub(in crate::cli) struct CreateArgs {
    /// What it is good for: read, submit, notify, worker, operator or admin; several are separated by commas
    #[arg(long = "role", value_name = "ROLE,…", value_delimiter = ',', required = true)]
    roles: Vec<Role>,
    /// Whose it is: what jobs submitted with it are known as [default: its id]
    #[arg(long)]
    name: Option<TokenName>,
    /// A text about it
    #[arg(long, value_name = "TEXT", default_value = "")]
    note: String,
    /// How long it is good, such as 12h, 90d or 52w [default: for ever]
    #[arg(long, value_name = "TIME", value_parser = lifetime)]
    expires: Option<SignedDuration>,
    /// Add its hash to this token list instead of a server's database; no server is asked
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Write the token into this new file, for this account only, instead of showing it
    #[arg(long, value_name = "FILE")]
    save: Option<PathBuf>,
}

fn lifetime(text: &str) -> Result<SignedDuration, String> {
    let wrong = || "write a number and one of m, h, d, w, such as 90d".to_owned();
    let unit = text.chars().next_back().ok_or_else(wrong)?;
    let minutes = match unit {
        'm' => 1,
        'h' => 60,
        'd' => 24 * 60,
        'w' => 7 * 24 * 60,
        _ => return Err(wrong()),
    };
    let number: u16 = text[..text.len() - 1].parse().map_err(|_| wrong())?;
    if number == 0 { Err(wrong()) } else { Ok(SignedDuration::from_mins(i64::from(number) * minutes)) }
}

/// Makes a token. What is shown is all that there will ever be to see of it.
pub(super) async fn run(args: CreateArgs, context: &Context) -> anyhow::Result<ExitCode> {
    let secret = SystemEntropy.secret();
    let id = TokenId::new(&SystemEntropy.secret()[..12])?;
    let token = Token::assemble(&id, &secret)?;
    let now = Timestamp::now();
    let new = NewToken {
        id,
        name: args.name,
        roles: Roles::new(args.roles)?,
        sha256: token.digest(),
        note: args.note,
        expires_at: args.expires.map(|lifetime| now.checked_add(lifetime)).transpose()?,
    };
    // First, so that no token comes into being whose secret cannot be kept.
    if let Some(path) = &args.save {
        save(path, &token)?;
    }
    let made = match &args.file {
        Some(path) => list_file::add(path, record(new, now)).map(view),
        None => register(&new, context).await,
    };
    if let (Err(_), Some(path)) = (&made, &args.save) {
        let _ = std::fs::remove_file(path);
    }
    show(&made?, &token, args.save.as_deref(), context)?;
    Ok(ExitCode::SUCCESS)
}

async fn register(new: &NewToken, context: &Context) -> anyhow::Result<TokenView> {
    Ok(context.client()?.create_token(new).await?)
}

fn record(new: NewToken, now: Timestamp) -> TokenRecord {
    TokenRecord {
        name: new.name.unwrap_or_else(|| new.id.clone().into()),
        id: new.id,
        roles: new.roles,
        sha256: new.sha256,
        note: new.note,
        created_at: Some(now),
        created_by: None,
        expires_at: new.expires_at,
        revoked_at: None,
        last_used_at: None,
    }
}

fn save(path: &Path, token: &Token) -> anyhow::Result<()> {
    let write = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        file.write_all(format!("{}\n", token.expose()).as_bytes())?;
        file.sync_all()
    };
    write().with_context(|| format!("cannot write the token to {}", path.display()))
}

/// The one place where a token is shown.
fn show(made: &TokenView, token: &Token, saved: Option<&Path>, context: &Context) -> anyhow::Result<()> {
    let end = made.expires_at.map_or_else(|| "never expires".to_owned(), |end| format!("expires {end:.0}"));
    if context.output.is_json() {
        let mut line = serde_json::to_value(made)?;
        if let Value::Object(fields) = &mut line {
            match saved {
                Some(path) => fields.insert("saved".into(), json!(path)),
                None => fields.insert("token".into(), json!(token.expose())),
            };
        }
        return context.output.json(&line);
    }
    match saved {
        Some(path) => context.output.line(&format!("token {} is in {}", made.id, path.display()))?,
        None => context.output.line(token.expose())?,
    }
    tell(&format!("token {} ({}): role {}, {end}", made.id, made.name, made.roles));
    if saved.is_none() {
        tell("it is shown this once; put it into a file that only its user can read, and name that as token_file");
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_lifetime_has_a_unit() {
        for (text, hours) in [("60m", 1), ("12h", 12), ("90d", 90 * 24), ("52w", 52 * 7 * 24)] {
            assert_eq!(lifetime(text).unwrap(), SignedDuration::from_hours(hours));
        }
        for bad in ["", "d", "90", "0d", "-1d", "1.5d", "90y", "99999999999d", "90é"] {
            assert!(lifetime(bad).is_err(), "{bad:?}");
        }
    }
}
