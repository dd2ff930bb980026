//! `pg-keeper-watcher`: keeps an application's YAML configuration at the active PostgreSQL node and restarts the
//! application when that changes.
//!
//! Nodes are asked by [`node`], [`watcher_core`] decides, [`target`] acts on files and applications.
#![forbid(unsafe_code)]

mod cli;
mod clock;
mod command;
mod exit;
mod file;
mod load;
mod log;
mod node;
mod restart;
mod state;
mod target;

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;

use crate::cli::{Cli, Command};
use crate::exit::Exit;

/// How long threads that hang in the resolver or the file system are waited for at the end.
const LAST_WAIT: Duration = Duration::from_millis(200);

fn main() -> ExitCode {
    let cli = Cli::parse();
    log::start();
    let exit = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => {
            let exit = runtime.block_on(run(cli));
            runtime.shutdown_timeout(LAST_WAIT);
            exit
        }
        Err(error) => {
            tracing::error!("cannot start: {error}");
            Exit::Failed
        }
    };
    exit.into()
}

async fn run(cli: Cli) -> Exit {
    let config = match load::config(&cli.config) {
        Ok(config) => config,
        Err(error) => {
            tracing::error!("{error:#}");
            return Exit::Config;
        }
    };
    let outcome = match cli.command {
        Command::Run => command::run(config, &cli.config).await,
        Command::Once { no_restart } => command::once(config, !no_restart).await,
        Command::Check => command::check(config).await,
        Command::Status => command::status(config).await,
        Command::Diff => Ok(command::diff(config).await),
    };
    outcome.unwrap_or_else(|error| {
        let exit = exit::of_error(&error);
        tracing::error!("{error:#}");
        exit
    })
}
