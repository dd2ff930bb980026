//! A child process with a time limit.

use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::process::{Child, Command};
use tokio::time::timeout;

/// How a child ended that was given a time limit.
#[derive(Debug)]
pub(super) enum Ended {
    /// By itself.
    Exited(ExitStatus),
    /// It was told to end, or killed, because its time was up.
    TimedOut,
}

/// Runs a program in a process group of its own, its output going to the watcher's log.
///
/// The output is not piped through the watcher: a daemon that the program leaves behind would lose its output, and
/// perhaps its life, together with the watcher.
pub(super) async fn run(argv: &[String], limit: Duration, kill_after: Duration) -> anyhow::Result<Ended> {
    let Some((program, arguments)) = argv.split_first() else { bail!("the command is empty") };
    let output = std::os::fd::AsFd::as_fd(&std::io::stderr()).try_clone_to_owned().context("duplicate stderr")?;
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(output)
        .process_group(0)
        .spawn()
        .with_context(|| format!("cannot start {program}"))?;
    // Taken now: it is gone once the child has been waited for.
    let group = child.id();
    match timeout(limit, child.wait()).await {
        Ok(status) => Ok(Ended::Exited(status.context("wait for the command")?)),
        Err(_) => {
            end(&mut child, group, kill_after).await;
            Ok(Ended::TimedOut)
        }
    }
}

/// How long a killed process may take to be gone.
const KILLED_WITHIN: Duration = Duration::from_secs(5);

async fn end(child: &mut Child, group: Option<u32>, kill_after: Duration) {
    let Some(group) = group.and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw) else {
        return;
    };
    // Each may find nobody left.
    let _ = killpg(group, Signal::SIGTERM);
    if timeout(kill_after, child.wait()).await.is_err() {
        let _ = killpg(group, Signal::SIGKILL);
        // What hangs in the kernel outlives even that.
        let _ = timeout(KILLED_WITHIN, child.wait()).await;
    }
}
