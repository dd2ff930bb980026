//! What the states of a systemd unit mean for its restart: whether there is one, how far it has come, and whether the
//! application lives after it.

use std::time::Duration;

use crate::config::Restart;

/// What systemd says of a unit at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unit {
    /// Its own name, which may have been asked for by an alias.
    pub id: String,
    /// `LoadState`: whether there is such a unit.
    pub load_state: String,
    /// `ActiveState`.
    pub active: ActiveState,
    /// `SubState`, for people and for `auto-restart`.
    pub sub_state: String,
    /// `Type=oneshot`: to have ended is its normal state.
    pub is_oneshot: bool,
    /// `Result` of a service: why it ended.
    pub result: String,
    /// `NRestarts`: how often systemd has started it again by itself.
    pub restarts: u32,
    /// `MainPID`; 0 if there is none.
    pub main_pid: u32,
    /// `InvocationID`: another one with every start.
    pub invocation: Vec<u8>,
    /// `ConditionResult`: false if its own conditions kept it from starting.
    pub conditions_met: bool,
    /// The job that is under way for it.
    pub job: Option<Job>,
}

/// A job of systemd's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// Its object path, by which the signal of its end is recognized.
    pub path: String,
    /// It stops the unit and does nothing more.
    pub is_stop: bool,
}

/// `ActiveState`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ActiveState {
    /// It runs, or takes in its configuration while it does.
    Active,
    /// It does not run, and nothing went wrong.
    Inactive,
    /// It does not run because something went wrong.
    Failed,
    /// It is being started, or waits for systemd to start it again.
    Activating,
    /// It is going down.
    Deactivating,
}

impl ActiveState {
    /// Reads systemd's word; one that is not known yet is told back.
    pub fn parse(word: &str) -> Result<Self, String> {
        match word {
            "active" | "reloading" | "refreshing" => Ok(Self::Active),
            "inactive" => Ok(Self::Inactive),
            "failed" => Ok(Self::Failed),
            "activating" => Ok(Self::Activating),
            "deactivating" | "maintenance" => Ok(Self::Deactivating),
            other => Err(other.to_owned()),
        }
    }
}

/// What to do about a unit whose application should read its file again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Before {
    /// Nothing: it does not run, on purpose, and reads the file when it is started.
    LeaveStopped,
    /// Restart it if it still runs by then: who stops it in this very moment wants it stopped.
    RestartIfRunning,
    /// Restart it, or start it if it has failed.
    Restart,
}

/// What to do while a restart goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Meanwhile {
    /// Wait on.
    Wait,
    /// It does not stop: kill it.
    Kill,
    /// It takes long to start. To throw it back to the beginning would not help, so it is only looked at from now on.
    LetStart,
    /// Another restart is due, and this one is no longer waited for.
    Overtaken,
    /// The restart gets nowhere, for this reason.
    GiveUp(String),
}

/// Whether an application lives after its restart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Life {
    /// It does.
    Up,
    /// Somebody stopped it, or its own conditions keep it from running; this is said about it.
    LeftStopped(&'static str),
    /// Not yet, for this reason; it may still come up by itself.
    NotYet(String),
    /// It does not, and will not without another restart.
    Gone(String),
}

impl Unit {
    /// The unit can be restarted at all; the error says what to correct.
    pub fn usable(&self) -> Result<(), String> {
        let id = &self.id;
        match self.load_state.as_str() {
            "loaded" => Ok(()),
            "masked" => Err(format!("{id} is masked; run systemctl unmask {id}, or correct systemd_unit")),
            "not-found" => Err(format!("{id} does not exist; correct systemd_unit, or install the unit")),
            "bad-setting" | "error" => Err(format!(
                "{id} cannot be loaded by systemd; run systemd-analyze verify {id} and correct its unit file"
            )),
            other => Err(format!("{id} is {other:?}, not loaded; see systemctl status {id}")),
        }
    }

    /// What to do; `may_be_down` if an earlier restart of ours may have left it stopped.
    pub fn before(&self, may_be_down: bool) -> Before {
        match self.active {
            ActiveState::Active | ActiveState::Activating => Before::RestartIfRunning,
            ActiveState::Failed => Before::Restart,
            // One that has ended as it should reads the file when it runs the next time.
            ActiveState::Inactive if may_be_down && !self.is_oneshot => Before::Restart,
            ActiveState::Inactive => Before::LeaveStopped,
            ActiveState::Deactivating if self.is_being_stopped() => Before::LeaveStopped,
            ActiveState::Deactivating => Before::Restart,
        }
    }

    /// A restart of a failed unit begins with making systemd forget the failure, after which it looks like one that was
    /// stopped on purpose. So what is owed to it must be on disk first.
    pub fn looks_stopped_once_reset(&self) -> bool {
        self.active == ActiveState::Failed
    }

    /// It was started since `before`.
    pub fn was_started_since(&self, before: &Self) -> bool {
        !self.invocation.is_empty() && self.invocation != before.invocation
    }

    /// Somebody's job stops it and does nothing more.
    pub fn is_being_stopped(&self) -> bool {
        self.job.as_ref().is_some_and(|job| job.is_stop)
    }

    /// It was stopped on purpose while its restart was under way, or its own conditions forbid it to run; not so if it has
    /// been started since `before`.
    pub fn was_left_stopped(&self, before: &Self) -> bool {
        let down = match self.active {
            ActiveState::Inactive => !self.is_oneshot,
            ActiveState::Deactivating => self.is_being_stopped(),
            ActiveState::Active | ActiveState::Failed | ActiveState::Activating => false,
        };
        down && (self.is_being_stopped() || !self.conditions_met || !self.was_started_since(before))
    }

    /// Whether it lives, `settle` after it looked like `started`. `fresh`: it was restarted just now, so that it cannot have
    /// been stopped on purpose since.
    pub fn life(&self, started: &Self, settle: Duration, fresh: bool) -> Life {
        let id = &self.id;
        match self.active {
            ActiveState::Active if self.restarts != started.restarts => {
                Life::NotYet(format!("{id} died and was started again within {settle:?}; see journalctl -u {id}"))
            }
            ActiveState::Active if started.main_pid != 0 && self.main_pid == 0 && self.sub_state == "running" => {
                Life::NotYet(format!("{id} has lost its main process {}; see journalctl -u {id}", started.main_pid))
            }
            ActiveState::Active => Life::Up,
            ActiveState::Activating if self.sub_state.starts_with("auto-restart") => {
                Life::NotYet(format!("{id} died, and systemd starts it again; see journalctl -u {id}"))
            }
            ActiveState::Activating => Life::NotYet(format!("{id} is still starting")),
            ActiveState::Deactivating if self.is_being_stopped() => Life::LeftStopped("is being stopped"),
            ActiveState::Deactivating => Life::NotYet(format!("{id} is going down; see journalctl -u {id}")),
            ActiveState::Failed => {
                Life::Gone(format!("{id} has failed after its restart ({}); see journalctl -u {id}", self.result))
            }
            ActiveState::Inactive if self.is_oneshot => Life::Up,
            ActiveState::Inactive if !self.conditions_met => {
                Life::LeftStopped("is not started: its conditions are not met")
            }
            ActiveState::Inactive if fresh => {
                Life::Gone(format!("{id} ended right after its start; see journalctl -u {id}"))
            }
            ActiveState::Inactive => Life::LeftStopped("is stopped"),
        }
    }
}

/// How long a killed unit may take to be gone.
const KILLED_WITHIN: Duration = Duration::from_secs(10);

/// How far a restart has come. A unit has `kill_after` to stop, and from then on `timeout` to start.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Progress {
    stopping_since: Option<Duration>,
    killed_at: Option<Duration>,
    other_since: Option<Duration>,
}

impl Progress {
    /// What to do, so long after the restart was issued.
    pub fn next(&mut self, unit: &Unit, elapsed: Duration, restart: &Restart, overtaken: bool) -> Meanwhile {
        let id = &unit.id;
        if unit.active == ActiveState::Deactivating {
            self.other_since = None;
            let since = *self.stopping_since.get_or_insert(elapsed);
            return match self.killed_at {
                Some(at) if elapsed.saturating_sub(at) >= KILLED_WITHIN => Meanwhile::GiveUp(format!(
                    "{id} was killed and has not gone within {KILLED_WITHIN:?}; see systemctl status {id}"
                )),
                Some(_) => Meanwhile::Wait,
                None if elapsed.saturating_sub(since) >= restart.kill_after => {
                    self.killed_at = Some(elapsed);
                    Meanwhile::Kill
                }
                None => Meanwhile::Wait,
            };
        }
        self.stopping_since = None;
        let since = *self.other_since.get_or_insert(elapsed);
        if overtaken {
            return Meanwhile::Overtaken;
        }
        if elapsed.saturating_sub(since) < restart.timeout {
            return Meanwhile::Wait;
        }
        match unit.active {
            ActiveState::Activating => Meanwhile::LetStart,
            ActiveState::Active | ActiveState::Inactive | ActiveState::Failed | ActiveState::Deactivating => {
                Meanwhile::GiveUp(format!(
                    "the restart of {id} has waited {:?} for its turn; see systemctl list-jobs",
                    restart.timeout
                ))
            }
        }
    }
}

#[cfg(test)]
#[path = "unit_tests.rs"]
mod tests;
