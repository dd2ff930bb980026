//! Which restart of a target is due, and when it is tried again.
//!
//! A restart is owed from the moment before the file is renamed until the restart has succeeded, and that is on disk
//! the whole time: whatever happens to the watcher in between, the application is restarted at least once.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::choose::Position;
use crate::units::Limit;

/// The pause after the first failed restart; it doubles with each further one.
const FIRST_RETRY: Duration = Duration::from_secs(1);
/// The longest pause between two attempts.
const LONGEST_RETRY: Duration = Duration::from_secs(60);

/// A moment on a clock that runs through sleep and is the same for all processes since the machine started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Moment(pub u64);

impl Moment {
    /// This long after.
    pub fn after(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)))
    }

    /// How long it is from `now` until this moment.
    pub fn since(self, now: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(now.0))
    }
}

/// What a target's file is made to say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wanted {
    /// The active node's name.
    pub node: String,
    /// Its place in the history, so that a later failover is another one even if it leads to the same node.
    pub position: WantedPosition,
}

/// A position, as it is written to disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct WantedPosition {
    /// The cluster.
    pub system_identifier: u64,
    /// The timeline.
    pub timeline: u32,
}

impl From<Position> for WantedPosition {
    fn from(position: Position) -> Self {
        Self { system_identifier: position.system_identifier.0, timeline: position.timeline.0 }
    }
}

/// What is owed to one target.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Debt {
    /// What its file is made to say; kept for the reader of the state file.
    pub wanted: Option<Wanted>,
    /// A restart is owed.
    pub restart_pending: bool,
    /// Restarts that failed since it is owed.
    pub attempts: u32,
    /// No attempt before this moment.
    pub not_before: Option<Moment>,
    /// When restarts were tried, as far back as a limit may look.
    pub restarts: Vec<Moment>,
}

/// What to do about a restart now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// None is owed.
    Nothing,
    /// Restart now.
    Now,
    /// Wait for the next attempt after a failed one.
    Retry(Moment),
    /// Wait because there were as many restarts as the limit allows.
    Limited(Moment),
}

impl Debt {
    /// The file is about to be renamed: from now on a restart is owed, and at once, whatever failed before.
    pub fn rewrite_begins(&mut self, wanted: Wanted) {
        self.wanted = Some(wanted);
        self.restart_pending = true;
        self.attempts = 0;
        self.not_before = None;
    }

    /// What is due.
    pub fn due(&self, now: Moment, limit: Option<Limit>) -> Due {
        if !self.restart_pending {
            return Due::Nothing;
        }
        if let Some(until) = limit.and_then(|limit| self.limited_until(now, limit)) {
            return Due::Limited(until);
        }
        match self.not_before {
            Some(moment) if moment > now => Due::Retry(moment),
            Some(_) | None => Due::Now,
        }
    }

    /// A restart is being tried.
    pub fn restart_begins(&mut self, now: Moment, limit: Option<Limit>) {
        self.restarts.push(now);
        let keep = limit.map_or(0, |limit| limit.count.get() as usize);
        let surplus = self.restarts.len().saturating_sub(keep);
        self.restarts.drain(..surplus);
    }

    /// It succeeded.
    pub fn restart_succeeded(&mut self) {
        self.restart_pending = false;
        self.attempts = 0;
        self.not_before = None;
    }

    /// It failed, and is still owed.
    pub fn restart_failed(&mut self, now: Moment) {
        let pause = FIRST_RETRY.saturating_mul(2_u32.saturating_pow(self.attempts)).min(LONGEST_RETRY);
        self.attempts = self.attempts.saturating_add(1);
        self.not_before = Some(now.after(pause));
    }

    /// The machine was started again: its clock began anew, so moments mean nothing any more.
    pub fn forget_moments(&mut self) {
        self.not_before = None;
        self.restarts.clear();
    }

    fn limited_until(&self, now: Moment, limit: Limit) -> Option<Moment> {
        let count = limit.count.get() as usize;
        let oldest = self.restarts.len().checked_sub(count).and_then(|at| self.restarts.get(at))?;
        let until = oldest.after(limit.window);
        (until > now).then_some(until)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::units::parse_limit;

    fn wanted(timeline: u32) -> Wanted {
        Wanted { node: "db02".to_owned(), position: WantedPosition { system_identifier: 7, timeline } }
    }

    #[test]
    fn a_restart_is_owed_until_it_succeeded() {
        let mut debt = Debt::default();
        assert_eq!(debt.due(Moment(0), None), Due::Nothing);
        debt.rewrite_begins(wanted(2));
        assert_eq!(debt.due(Moment(0), None), Due::Now);
        debt.restart_begins(Moment(0), None);
        assert_eq!(debt.due(Moment(0), None), Due::Now);
        debt.restart_succeeded();
        assert_eq!(debt.due(Moment(0), None), Due::Nothing);
        assert_eq!(debt, Debt { wanted: Some(wanted(2)), ..Debt::default() });
    }

    #[test]
    fn failed_restarts_are_tried_less_and_less_often() {
        let mut debt = Debt::default();
        debt.rewrite_begins(wanted(2));
        let mut pauses = Vec::new();
        for _ in 0..8 {
            debt.restart_failed(Moment(1000));
            pauses.push(match debt.due(Moment(1000), None) {
                Due::Retry(moment) => moment.since(Moment(1000)).as_secs(),
                Due::Nothing | Due::Now | Due::Limited(_) => 0,
            });
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(debt.due(Moment(61_000), None), Due::Now);
    }

    #[test]
    fn a_new_failover_does_not_wait_for_the_retry_of_an_old_one() {
        let mut debt = Debt::default();
        debt.rewrite_begins(wanted(2));
        debt.restart_failed(Moment(0));
        assert_eq!(debt.due(Moment(0), None), Due::Retry(Moment(1000)));
        debt.rewrite_begins(wanted(3));
        assert_eq!(debt.due(Moment(0), None), Due::Now);
    }

    #[test]
    fn the_limit_holds_back_and_lets_go() {
        let limit = Some(parse_limit("2 per 10s").unwrap());
        let mut debt = Debt::default();
        for (begun, due) in [(0, Due::Now), (4000, Due::Now), (5000, Due::Limited(Moment(10_000)))] {
            debt.rewrite_begins(wanted(2));
            assert_eq!(debt.due(Moment(begun), limit), due);
            debt.restart_begins(Moment(begun), limit);
            debt.restart_succeeded();
        }
        debt.rewrite_begins(wanted(3));
        assert_eq!(debt.due(Moment(10_000), limit), Due::Limited(Moment(14_000)));
        assert_eq!(debt.due(Moment(14_000), limit), Due::Now);
        assert_eq!(debt.restarts.len(), 2);
        debt.forget_moments();
        assert_eq!(debt.due(Moment(0), limit), Due::Now);
    }
}
