//! The program `conveyor`: see `conveyor help`.

use std::process::ExitCode;

use clap::Parser;
use conveyor::cli::{self, Cli, Inherited};

fn main() -> ExitCode {
    // Before there is any other thread.
    let inherited = Inherited::take();
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return cli::failure::report(&anyhow::Error::from(error).context("cannot start the runtime")),
    };
    let code = runtime.block_on(cli::run(cli, inherited)).unwrap_or_else(|error| cli::failure::report(&error));
    // A blocking read, of standard input for example, must not hold up the exit.
    runtime.shutdown_background();
    code
}
