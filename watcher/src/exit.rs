//! Exit codes: what a script may rely on.

use std::process::ExitCode;

use watcher_core::choose::Choice;
use watcher_core::status::Severity;

use crate::state::LockHeld;

/// How the program ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Nothing to do, or done.
    Done,
    /// Failed; the file is as it was.
    Failed,
    /// The command line is wrong.
    Usage,
    /// `diff` could not compare.
    Trouble,
    /// No active node.
    NoActiveNode,
    /// Two primaries.
    TwoPrimaries,
    /// Rewritten, and a restart is pending.
    RestartPending,
    /// Another instance holds the lock.
    Locked,
    /// The configuration is refused.
    Config,
    /// As a Nagios plugin.
    Nagios(Severity),
}

impl Exit {
    /// What a choice alone means.
    pub(crate) fn of_choice(choice: &Choice) -> Self {
        match choice {
            Choice::Active(..) => Self::Done,
            Choice::Nobody(_) => Self::NoActiveNode,
            Choice::TwoPrimaries(_) => Self::TwoPrimaries,
        }
    }

    /// The one that is told where several targets ended differently: a failure goes before a pending restart.
    pub(crate) fn worse(self, other: Self) -> Self {
        match (self, other) {
            (Self::Done, other) | (other, Self::Done) => other,
            (Self::Failed, _) | (_, Self::Failed) => Self::Failed,
            (one, _) => one,
        }
    }
}

/// The exit code of an error that ended a command.
pub(crate) fn of_error(error: &anyhow::Error) -> Exit {
    if error.is::<LockHeld>() { Exit::Locked } else { Exit::Failed }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Done => 0,
            Exit::Failed => 1,
            Exit::Usage | Exit::Trouble => 2,
            Exit::NoActiveNode => 3,
            Exit::TwoPrimaries => 4,
            Exit::RestartPending => 5,
            Exit::Locked => 75,
            Exit::Config => 78,
            Exit::Nagios(Severity::Ok) => 0,
            Exit::Nagios(Severity::Warning) => 1,
            Exit::Nagios(Severity::Critical) => 2,
            Exit::Nagios(Severity::Unknown) => 3,
        })
    }
}
