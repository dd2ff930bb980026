//! Making an application read its file again.
//!
//! In three steps: [`prepare`] looks whether there is anything to restart, [`Ready::carry_out`] restarts it, [`verify()`] sees
//! whether it is back. In between it is written down what is owed.

mod command;
mod output;
mod process;
mod signal;
mod systemd;
mod verify;

use std::fmt;
use std::time::Duration;

use watcher_core::config::{RestartHow, Target};
use watcher_core::wall_clock::WallClock;

/// The configuration does not fit what is there: only a person can make this restart work.
#[derive(Debug)]
pub(crate) struct Misconfigured(String);

impl fmt::Display for Misconfigured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Misconfigured {}

/// How a restart came out.
#[derive(Debug)]
pub(crate) enum CarriedOut {
    /// It was carried out.
    Restarted,
    /// The application does not run, on purpose: it reads the file when it is started.
    NotRunning,
    /// It still goes on, and is no longer waited for: another one is due.
    Overtaken,
    /// The application did not start, and is not taken for one that was stopped on purpose.
    Failed(anyhow::Error),
}

/// Whether an application is back after its restart.
#[derive(Debug)]
pub(crate) enum Back {
    /// It is.
    Yes,
    /// It was stopped on purpose, and reads the file when it is started; this tells of it.
    LeftStopped(String),
    /// Another restart is due, so that it does not matter any more.
    Overtaken,
    /// Not yet. It may be slow, and another restart would throw it back to the beginning.
    NotYet(anyhow::Error),
    /// It is not, and does not come back without another restart.
    Gone(anyhow::Error),
}

/// A restart that can be issued.
#[derive(Debug)]
pub(crate) enum Ready<'a> {
    /// A program will be run.
    Command(&'a [String]),
    /// A process will get a signal.
    Signal(signal::Ready),
    /// systemd will restart a unit.
    Unit(&'a str, Box<systemd::Ready>),
}

/// Looks whether a target's application is to be restarted; nothing if it does not run, on purpose. `may_be_down`: an earlier
/// restart may have left it stopped. `clock`: how the wall clock was set, which pid files are judged by.
pub(crate) async fn prepare(target: &Target, may_be_down: bool, clock: WallClock) -> anyhow::Result<Option<Ready<'_>>> {
    Ok(match &target.restart.how {
        RestartHow::Command(argv) => Some(Ready::Command(argv)),
        RestartHow::Signal { pid_file, signal } => {
            Some(Ready::Signal(signal::prepare(pid_file, *signal, clock).await?))
        }
        RestartHow::SystemdUnit(unit) => {
            systemd::prepare(&target.name, unit, may_be_down).await?.map(|ready| Ready::Unit(unit, Box::new(ready)))
        }
    })
}

impl Ready<'_> {
    /// That the restart is under way must be on disk before it is: half done, the application would look like one that was
    /// stopped on purpose.
    pub(crate) fn is_noted_first(&self) -> bool {
        match self {
            Self::Command(_) | Self::Signal(_) => false,
            Self::Unit(_, ready) => ready.looks_stopped_meanwhile(),
        }
    }

    /// Restarts the application; `overtaken` tells that another restart has become due meanwhile.
    pub(crate) async fn carry_out(self, target: &Target, overtaken: impl Fn() -> bool) -> anyhow::Result<CarriedOut> {
        let restart = &target.restart;
        match self {
            Self::Command(argv) => command::run(&target.name, argv, restart.timeout, restart.kill_after).await?,
            Self::Signal(ready) => ready.send(&target.name)?,
            Self::Unit(unit, ready) => return ready.carry_out(&target.name, unit, restart, overtaken).await,
        }
        Ok(CarriedOut::Restarted)
    }
}

/// Whether it can be seen that a target's application is back.
pub(crate) fn can_be_verified(target: &Target) -> bool {
    target.verify.is_some() || matches!(target.restart.how, RestartHow::SystemdUnit(_))
}

/// Waits until the application is seen to be back; `fresh`: it was restarted just now.
pub(crate) async fn verify(target: &Target, fresh: bool, clock: WallClock, overtaken: impl Fn() -> bool) -> Back {
    if let RestartHow::SystemdUnit(unit) = &target.restart.how {
        match systemd::is_back(unit, target.restart.settle, fresh, &overtaken).await {
            Back::Yes => {}
            other @ (Back::LeftStopped(_) | Back::Overtaken | Back::NotYet(_) | Back::Gone(_)) => return other,
        }
    }
    let Some(verify) = &target.verify else { return Back::Yes };
    match verify::tcp(verify, overtaken).await {
        Ok(true) => Back::Yes,
        Ok(false) => Back::Overtaken,
        Err(error) if is_gone(target, clock).await => Back::Gone(error),
        Err(error) => Back::NotYet(error),
    }
}

/// An application that does not answer is known to be dead, and not just slow.
async fn is_gone(target: &Target, clock: WallClock) -> bool {
    match &target.restart.how {
        // Nothing tells what a program has started.
        RestartHow::Command(_) => false,
        RestartHow::Signal { pid_file, .. } => signal::check(pid_file, clock).await.is_err(),
        RestartHow::SystemdUnit(unit) => systemd::has_failed(unit).await,
    }
}

/// What would keep a restart from working, as far as it can be seen without one.
pub(crate) async fn check(target: &Target, clock: WallClock) -> Result<(), String> {
    match &target.restart.how {
        RestartHow::Command(argv) => command::check(argv),
        RestartHow::Signal { pid_file, .. } => signal::check(pid_file, clock).await,
        RestartHow::SystemdUnit(unit) => systemd::check(unit).await,
    }
}

/// Between two looks at something that is waited for.
const LOOK_AGAIN: Duration = Duration::from_millis(50);
