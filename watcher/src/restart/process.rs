//! A child process with a time limit.

use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::Context;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::process::{Child, Command};

use super::LOOK_AGAIN;
use super::output::Output;
use crate::clock::{sleep, within};

/// How a child ended that was given a time limit.
#[derive(Debug)]
pub(super) enum Ended {
    /// By itself.
    Exited(ExitStatus),
    /// It was told to end, or killed, because its time was up.
    TimedOut,
}

/// Runs a program in a process group of its own, its output going to the log under the target's name.
pub(super) async fn run(name: &str, argv: &[String], limit: Duration, kill_after: Duration) -> anyhow::Result<Ended> {
    let (name, argv) = (name.to_owned(), argv.to_owned());
    // On a file system that hangs, a start hangs too, and must not take everything else along. It is not given up: a
    // program that starts late would meet the one of the next attempt.
    let mut child = tokio::task::spawn_blocking(move || start(&name, &argv)).await??;
    // Taken now: it is gone once the child has been waited for.
    let group = child.id();
    match within(limit, child.wait()).await {
        Some(status) => Ok(Ended::Exited(status.context("wait for the command")?)),
        None => {
            end(&mut child, group, kill_after).await;
            Ok(Ended::TimedOut)
        }
    }
}

fn start(name: &str, argv: &[String]) -> anyhow::Result<Child> {
    let (program, arguments) = argv.split_first().context("the command is empty")?;
    let Output { stdout, stderr } = Output::of_target(name)?;
    Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(stdout)
        .stderr(stderr)
        .process_group(0)
        .spawn()
        .with_context(|| format!("cannot start {program}"))
}

/// How long a killed process may take to be gone.
const KILLED_WITHIN: Duration = Duration::from_secs(5);

/// Ends the whole group, also those that outlive the first process.
async fn end(child: &mut Child, group: Option<u32>, kill_after: Duration) {
    let Some(group) = group.and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw) else {
        return;
    };
    // Each may find nobody left.
    let _ = killpg(group, Signal::SIGTERM);
    if within(kill_after, gone(child, group)).await.is_none() {
        let _ = killpg(group, Signal::SIGKILL);
        // What hangs in the kernel outlives even that.
        let _ = within(KILLED_WITHIN, child.wait()).await;
    }
}

/// Waits until nobody of the group is left. The number is not given away as long as somebody is.
async fn gone(child: &mut Child, group: Pid) {
    let _ = child.wait().await;
    while killpg(group, None).is_ok() {
        sleep(LOOK_AGAIN).await;
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use tokio::time::{Instant, timeout};

    use super::*;

    fn shell(script: &str) -> Vec<String> {
        ["/bin/sh", "-c", script].map(str::to_owned).to_vec()
    }

    #[tokio::test]
    async fn what_ends_in_time_is_left_alone() {
        let ended = run("shop", &shell("exit 3"), Duration::from_secs(60), Duration::from_secs(60)).await.unwrap();
        assert!(matches!(ended, Ended::Exited(status) if status.code() == Some(3)));
    }

    /// The first process ends at once when it is told to; its child ignores that, and is killed.
    #[tokio::test]
    async fn the_whole_group_is_ended() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("pid");
        let script = format!(
            "sh -c 'trap \"\" TERM; echo $$ > {0}.new; mv {0}.new {0}; while :; do sleep 1; done' & \
             trap 'exit 0' TERM; while :; do sleep 1; done",
            file.display()
        );
        let limit = Duration::from_secs(60);
        let running = tokio::spawn(async move {
            run("shop", &shell(&script), Duration::from_secs(2), Duration::from_millis(500)).await
        });
        assert!(matches!(timeout(limit, running).await.unwrap().unwrap().unwrap(), Ended::TimedOut));
        let pid: i32 = std::fs::read_to_string(&file).unwrap().trim().parse().unwrap();
        let end = Instant::now() + limit;
        let state = || std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // Killed, it may wait as a zombie for whoever adopts it.
        while !state().is_empty() && !state().contains(") Z ") {
            assert!(Instant::now() < end, "{}", state());
            sleep(LOOK_AGAIN).await;
        }
    }
}
