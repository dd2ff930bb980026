//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;

/// Keeps applications' YAML configuration at the active PostgreSQL node, and restarts the applications.
///
/// Two PostgreSQL nodes, a primary and its standby, are asked which of them is active. When that changes, the named values in
/// each configured YAML file are rewritten, byte for byte nothing else, and the application that reads the file is restarted.
#[derive(Debug, Parser)]
#[command(
    name = "pg-keeper-watcher",
    version,
    after_help = "Exit codes: 0 nothing to do or done, 1 failed and the file is as it was, 2 usage, \
    3 no active node, 4 two primaries, 5 rewritten and restart pending, 75 another instance holds the lock, \
    78 configuration. diff: 0 same, 1 differs, 2 trouble. status --nagios: 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN.\n\n\
    State is kept in $STATE_DIRECTORY, or in /var/lib/pg-keeper-watcher."
)]
pub(crate) struct Cli {
    /// The configuration file.
    #[arg(short, long, global = true, value_name = "FILE", default_value = "/etc/pg-keeper-watcher/watcher.yaml")]
    pub(crate) config: PathBuf,
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum Command {
    /// Watch both nodes until SIGTERM; SIGHUP reads the configuration again.
    ///
    /// If a new configuration is refused, the old one stays. At the end a rewrite that is under way is finished; a restart
    /// that is owed stays owed and is done by the next run.
    Run,
    /// Look once, bring the files up to date, restart what needs it; for cron.
    ///
    /// Silent unless something changed or failed, so that cron sends mail only then.
    Once {
        /// Rewrite only, also while the daemon runs: for the moment before an application starts (ExecStartPre).
        #[arg(long)]
        no_restart: bool,
        /// Only this target's file, may be repeated. Others that were rewritten without a restart would stay without one.
        #[arg(long, value_name = "NAME", requires = "no_restart")]
        target: Vec<String>,
    },
    /// Try the configuration, both nodes, all files and what restarts need, and say what to do.
    ///
    /// Changes nothing. Each line begins with «ok», «problem», or «unknown» for what could not be checked without doing it.
    Check(Check),
    /// Show both nodes, the files and what is pending.
    Status(Status),
    /// Show what `once` would change in the files.
    Diff,
    /// Print the completions for a shell.
    ///
    /// The Debian package installs those for bash, zsh and fish. Elsewhere, for example: pg-keeper-watcher completions bash >
    /// /etc/bash_completion.d/pg-keeper-watcher
    Completions {
        /// The shell.
        shell: Shell,
    },
    /// Print the manual page.
    #[command(hide = true)]
    Man,
}

/// How `check` checks.
#[derive(Debug, Clone, Args)]
pub(crate) struct Check {
    /// Check nothing, and print the systemd drop-in that is needed instead.
    ///
    /// Without UNIT: what the watcher's own unit needs to write to the files' folders. With the unit of an application: the
    /// line that brings its file up to date before it starts.
    #[arg(long, value_name = "UNIT", num_args = 0..=1)]
    pub(crate) systemd_dropin: Option<Option<String>>,
}

/// How `status` shows it.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct Status {
    /// As JSON, for programs; its keys stay as they are.
    #[arg(long, conflicts_with = "nagios")]
    pub(crate) json: bool,
    /// As one line with performance data, and with the exit codes of a Nagios plugin.
    ///
    /// WARNING: applications are served, and the next failure might not be survived. CRITICAL: an application may be without
    /// its database. UNKNOWN: it cannot be told.
    #[arg(long)]
    pub(crate) nagios: bool,
    /// With --nagios: no warning when no daemon runs; for hosts where cron runs `once`.
    #[arg(long, requires = "nagios")]
    pub(crate) without_daemon: bool,
}
