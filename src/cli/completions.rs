//! `conveyor completions`.

use std::process::ExitCode;

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::{Cli, Output};

/// Arguments of `conveyor completions`.
#[derive(Debug, Args)]
pub(super) struct CompletionsArgs {
    /// The shell
    shell: Shell,
}

/// Prints the script by which a shell completes our commands and flags.
pub(super) fn run(args: &CompletionsArgs, output: Output) -> anyhow::Result<ExitCode> {
    // Into memory first: the generator panics where it cannot write.
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "conveyor", &mut script);
    output.raw(&script)?;
    Ok(ExitCode::SUCCESS)
}
