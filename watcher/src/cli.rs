//! The command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

/// Keeps an application's YAML configuration at the active PostgreSQL node, and restarts the application.
#[derive(Debug, Parser)]
#[command(
    version,
    after_help = "Exit codes: 0 nothing to do or done, 1 failed and the file is as it was, 2 usage, \
    3 no active node, 4 two primaries, 5 rewritten and restart pending, 75 another instance holds the lock, \
    78 configuration. diff: 0 same, 1 differs, 2 trouble."
)]
pub(crate) struct Cli {
    /// The configuration file.
    #[arg(short, long, value_name = "FILE", default_value = "/etc/pg-keeper-watcher/watcher.yaml")]
    pub(crate) config: PathBuf,
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do.
#[derive(Debug, Clone, Copy, Subcommand)]
pub(crate) enum Command {
    /// Watch both nodes until SIGTERM.
    Run,
    /// Look once, bring the files up to date, restart what needs it; for cron. Silent unless something changed.
    Once {
        /// Rewrite only: for the moment before the application starts.
        #[arg(long)]
        no_restart: bool,
    },
    /// Check the configuration, both nodes and all files, and say what to do.
    Check,
    /// Show both nodes, the files and what is pending.
    Status,
    /// Show what `once` would change in the files.
    Diff,
}
