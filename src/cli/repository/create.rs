//! `conveyor repository create` and `resign`.

use anyhow::Context as _;
use clap::{Args, ValueEnum};

use super::super::context::Context;
use super::{Folders, NamedArgs, now, show};
use crate::cvmfs::catalog;
use crate::cvmfs::hash::Algorithm;
use crate::cvmfs::ingest::ChunkSizes;
use crate::cvmfs::settings::{AutoCatalogs, Settings};
use crate::cvmfs::stratum0::{CreateOptions, Stratum0};

/// How a repository is to be.
#[derive(Debug, Args)]
pub(in crate::cli) struct CreateArgs {
    #[command(flatten)]
    #[allow(missing_docs)] // a doc comment would become the command's help
    pub repository: NamedArgs,
    /// What names objects
    #[arg(long, value_name = "ALGORITHM", default_value = "sha1")]
    pub hash: Hash,
    /// How the content of files is stored
    #[arg(long, value_name = "ALGORITHM", default_value = "zlib")]
    pub compression: Compression,
    /// For how long clients believe a manifest
    #[arg(long, value_name = "SECONDS", default_value_t = CreateOptions::default().ttl)]
    pub ttl: u64,
    /// For how long the whitelist is valid
    #[arg(long, value_name = "DAYS", default_value_t = CreateOptions::default().whitelist_days)]
    pub whitelist_days: u32,
    /// Garbage may be collected
    #[arg(long)]
    pub garbage_collectable: bool,
    /// Clients put its files out of their caches first
    #[arg(long)]
    pub volatile: bool,
    /// Split and merge catalogs without being asked
    #[arg(long)]
    pub auto_catalogs: bool,
    /// Tag each publish that names no tag itself
    #[arg(long)]
    pub auto_tags: bool,
    /// Store every file whole
    #[arg(long)]
    pub no_chunking: bool,
    /// Leave extended attributes out
    #[arg(long)]
    pub no_xattrs: bool,
}

/// An algorithm that names objects, in the words of cvmfs_server.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(in crate::cli) enum Hash {
    /// SHA-1.
    Sha1,
    /// SHAKE-128, of which 160 bits are taken.
    Shake128,
    /// RIPEMD-160.
    Rmd160,
}

/// How content is stored.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(in crate::cli) enum Compression {
    /// Compressed.
    Zlib,
    /// As it is.
    None,
}

/// Which whitelist is signed.
#[derive(Debug, Args)]
pub(in crate::cli) struct ResignArgs {
    #[command(flatten)]
    #[allow(missing_docs)] // a doc comment would become the command's help
    pub repository: NamedArgs,
    /// For how long the whitelist is valid
    #[arg(long, value_name = "DAYS", default_value_t = CreateOptions::default().whitelist_days,
        value_parser = clap::value_parser!(u32).range(1..=3650))]
    pub days: u32,
}

/// Makes a repository.
pub(super) fn create(args: CreateArgs, context: &Context) -> anyhow::Result<()> {
    let settings = Settings {
        algorithm: Some(match args.hash {
            Hash::Sha1 => Algorithm::Sha1,
            Hash::Shake128 => Algorithm::Shake128,
            Hash::Rmd160 => Algorithm::Rmd160,
        }),
        compression: match args.compression {
            Compression::Zlib => catalog::Compression::Zlib,
            Compression::None => catalog::Compression::None,
        },
        chunking: (!args.no_chunking).then(ChunkSizes::default),
        auto_catalogs: args.auto_catalogs.then(AutoCatalogs::default),
        xattrs: !args.no_xattrs,
        auto_tag: args.auto_tags,
        garbage_collection: Some(args.garbage_collectable),
        ..Settings::default()
    };
    let options = CreateOptions {
        ttl: args.ttl,
        whitelist_days: args.whitelist_days,
        volatile: args.volatile,
        settings,
        ..CreateOptions::default()
    };
    let NamedArgs { name, places } = args.repository;
    let folders = Folders::of(places, context);
    let stratum0 = folders.stratum0(&name);
    let made = Stratum0::create(stratum0.directory(), name.as_str(), &folders.keys, &options, now());
    let stratum0 = made.with_context(|| format!("cannot make repository {name}"))?;
    show::show_local(&stratum0, context)
}

/// Signs a whitelist anew.
pub(super) fn resign(args: ResignArgs, context: &Context) -> anyhow::Result<()> {
    let stratum0 = args.repository.stratum0(context);
    let resigned = stratum0.resign(args.days, now());
    resigned.with_context(|| format!("cannot sign the whitelist of {} anew", stratum0.name()))?;
    show::show_local(&stratum0, context)
}
