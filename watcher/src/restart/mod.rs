//! Making an application read its file again.

mod command;
mod process;
mod signal;
mod systemd;
mod verify;

use std::time::Duration;

use watcher_core::config::{RestartHow, Target};

/// Restarts a target's application and sees, where it is configured, that it is back.
pub(crate) async fn restart(target: &Target) -> anyhow::Result<()> {
    let restart = &target.restart;
    if !restart.splay.is_zero() {
        let wait = restart.splay.mul_f64(fastrand::f64());
        tracing::info!("{}: restart in {} ms", target.name, wait.as_millis());
        tokio::time::sleep(wait).await;
    }
    match &restart.how {
        RestartHow::Command(argv) => command::run(&target.name, argv, restart.timeout, restart.kill_after).await?,
        RestartHow::Signal { pid_file, signal } => signal::send(&target.name, pid_file, *signal)?,
        RestartHow::SystemdUnit(unit) => systemd::restart(&target.name, unit, restart).await?,
    }
    match &target.verify {
        Some(verify) => verify::tcp(verify).await,
        None => Ok(()),
    }
}

/// What would keep a restart from working, as far as it can be seen without one.
pub(crate) async fn check(target: &Target) -> Result<(), String> {
    match &target.restart.how {
        RestartHow::Command(argv) => command::check(argv),
        RestartHow::Signal { pid_file, .. } => signal::check(pid_file),
        RestartHow::SystemdUnit(unit) => systemd::check(unit).await,
    }
}

/// Between two looks at something that is waited for.
const LOOK_AGAIN: Duration = Duration::from_millis(50);
