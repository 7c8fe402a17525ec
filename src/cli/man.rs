//! `conveyor man`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, CommandFactory};
use clap_mangen::Man;

use super::Cli;

/// Arguments of `conveyor man`.
#[derive(Debug, Args)]
pub(super) struct ManArgs {
    /// Where they are written; it is made where it is not there
    directory: PathBuf,
}

/// Writes a manual page for each command: `conveyor.1`, `conveyor-submit.1`, …
pub(super) fn run(args: &ManArgs) -> anyhow::Result<ExitCode> {
    let directory = &args.directory;
    std::fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
    let mut command = Cli::command().disable_help_subcommand(true);
    command.build();
    write_pages(command, directory)?;
    Ok(ExitCode::SUCCESS)
}

fn write_pages(command: clap::Command, directory: &Path) -> anyhow::Result<()> {
    for inner in command.get_subcommands().filter(|inner| !inner.is_hide_set()) {
        write_pages(inner.clone(), directory)?;
    }
    let page = Man::new(command).source(concat!("conveyor ", env!("CARGO_PKG_VERSION"))).manual("Conveyor");
    let path = directory.join(page.get_filename());
    page.generate_to(directory).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(())
}
