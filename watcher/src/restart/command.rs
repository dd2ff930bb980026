//! Restart by a program.

use std::time::Duration;

use anyhow::bail;
use nix::unistd::{AccessFlags, access};

use super::process::{Ended, run as run_process};

/// Runs the program until it ends, at most for its time.
pub(super) async fn run(name: &str, argv: &[String], limit: Duration, kill_after: Duration) -> anyhow::Result<()> {
    // Its arguments may hold a password.
    let program = argv.first().map(String::as_str).unwrap_or_default();
    tracing::info!("{name}: restart issued: {program}");
    match run_process(name, argv, limit, kill_after).await? {
        Ended::Exited(status) if status.success() => Ok(()),
        Ended::Exited(status) => bail!("{program} ended with {status}"),
        Ended::TimedOut => {
            bail!("{program} did not end within {limit:?} and was ended; raise timeout if it needs longer")
        }
    }
}

/// The program must be there.
pub(super) fn check(argv: &[String]) -> Result<(), String> {
    let program = argv.first().map(String::as_str).unwrap_or_default();
    access(program, AccessFlags::X_OK)
        .map_err(|error| format!("{program} cannot be run ({}); install it or correct restart.command", error.desc()))
}
