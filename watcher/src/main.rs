//! `pg-keeper-watcher`: keeps an application's YAML configuration at the active PostgreSQL node and restarts the
//! application when that changes.
//!
//! Nodes are asked by [`node`], [`watcher_core`] decides, [`target`] acts on files and applications, [`monitor`] tells
//! others how the daemon is.
#![forbid(unsafe_code)]

mod cli;
mod clock;
mod command;
mod exit;
mod fault;
mod file;
mod load;
mod log;
mod monitor;
mod node;
mod output;
mod restart;
mod state;
mod target;

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use watcher_core::config::Config;
use watcher_core::status::Severity;

use crate::cli::{Check, Cli, Command};
use crate::exit::Exit;

/// How long threads that hang in the resolver or the file system are waited for at the end.
const LAST_WAIT: Duration = Duration::from_millis(200);

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return refuse(&error).into(),
    };
    let log = log::start();
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
    log.finish();
    exit.into()
}

/// A command line that is wrong, or asks for help.
fn refuse(error: &clap::Error) -> Exit {
    // Nobody is left to be told if even this cannot be printed.
    let _ = error.print();
    if !error.use_stderr() {
        Exit::Done
    } else if std::env::args_os().any(|argument| argument == "--nagios") {
        // A plugin's exit code 2 would say that the service is down.
        Exit::Nagios(Severity::Unknown)
    } else {
        Exit::Usage
    }
}

async fn run(cli: Cli) -> Exit {
    let file = &cli.config;
    let outcome = match cli.command {
        Command::Run => with_config(file, |config| command::run(config, file)).await,
        Command::Once { no_restart, target } => {
            with_config(file, |config| async move { command::once(config, !no_restart, &target).await }).await
        }
        Command::Check(Check { systemd_dropin: None }) => with_config(file, command::check).await,
        Command::Check(Check { systemd_dropin: Some(unit) }) => {
            with_config(file, |config| async move { command::dropin(&config, file, unit) }).await
        }
        Command::Status(options) if options.nagios => command::nagios(file, options.without_daemon).await,
        Command::Status(options) => with_config(file, |config| command::status(config, options.json)).await,
        Command::Diff => with_config(file, |config| async move { Ok(command::diff(config).await) }).await,
        Command::Completions { shell } => command::completions(shell),
        Command::Man => command::man(),
    };
    outcome.unwrap_or_else(|error| {
        let exit = exit::of_error(&error);
        tracing::error!("{error:#}");
        exit
    })
}

async fn with_config<Fut: Future<Output = anyhow::Result<Exit>>>(
    file: &Path,
    command: impl FnOnce(Config) -> Fut,
) -> anyhow::Result<Exit> {
    match load::config(file) {
        Ok(config) => command(config).await,
        Err(error) => {
            tracing::error!("{error:#}");
            Ok(Exit::Config)
        }
    }
}
