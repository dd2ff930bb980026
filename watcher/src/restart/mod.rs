//! Making an application read its file again.

mod command;
mod process;
mod signal;
mod systemd;
mod verify;

use std::time::Duration;

use watcher_core::config::{RestartHow, Target};

/// How a restart came out that did not fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CarriedOut {
    /// It was carried out.
    Restarted,
    /// The application does not run, on purpose: it reads the file when it is started.
    NotRunning,
    /// It still goes on, and is no longer waited for: another one is due.
    Overtaken,
}

/// Restarts a target's application; `overtaken` tells that another restart has become due meanwhile.
pub(crate) async fn carry_out(target: &Target, overtaken: impl Fn() -> bool) -> anyhow::Result<CarriedOut> {
    let restart = &target.restart;
    match &restart.how {
        RestartHow::Command(argv) => command::run(&target.name, argv, restart.timeout, restart.kill_after).await?,
        RestartHow::Signal { pid_file, signal } => signal::prepare(pid_file, *signal).await?.send(&target.name)?,
        RestartHow::SystemdUnit(unit) => return systemd::restart(&target.name, unit, restart, overtaken).await,
    }
    Ok(CarriedOut::Restarted)
}

/// Waits, where it is configured, until the application is back; false if it was overtaken.
pub(crate) async fn verify(target: &Target, overtaken: impl Fn() -> bool) -> anyhow::Result<bool> {
    match &target.verify {
        Some(verify) => verify::tcp(verify, overtaken).await,
        None => Ok(true),
    }
}

/// An application that does not answer is known to be dead, and not just slow.
pub(crate) async fn is_gone(target: &Target) -> bool {
    match &target.restart.how {
        // Nothing tells what a program has started.
        RestartHow::Command(_) => false,
        RestartHow::Signal { pid_file, .. } => signal::check(pid_file).await.is_err(),
        RestartHow::SystemdUnit(unit) => systemd::has_failed(unit).await,
    }
}

/// What would keep a restart from working, as far as it can be seen without one.
pub(crate) async fn check(target: &Target) -> Result<(), String> {
    match &target.restart.how {
        RestartHow::Command(argv) => command::check(argv),
        RestartHow::Signal { pid_file, .. } => signal::check(pid_file).await,
        RestartHow::SystemdUnit(unit) => systemd::check(unit).await,
    }
}

/// Between two looks at something that is waited for.
const LOOK_AGAIN: Duration = Duration::from_millis(50);
