//! Which restart of a target is due, and when it is tried again.
//!
//! A restart is owed from the moment before the file is renamed until the restart has succeeded, and that is on disk
//! the whole time: whatever happens to the watcher in between, the application is restarted at least once.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::choose::Position;
use crate::repairs::Repairs;
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
    /// The edition of the configuration, so that an edited one is not taken for another program's doing.
    #[serde(default)]
    pub edition: String,
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
    /// What its file was made to say last, or was found to say.
    pub wanted: Option<Wanted>,
    /// How often it was put right after another program had changed it back.
    pub repairs: Repairs,
    /// Counts the rewrites. A restart makes good those that came before it was issued, and no later one.
    pub rewrites: u64,
    /// The rewrites that have been made good.
    pub restarted: u64,
    /// The application was restarted and has not been seen to be back.
    pub unverified: bool,
    /// A restart was issued and is not known to have ended well: an application that is found stopped may have been stopped
    /// by it, and not on purpose.
    pub may_be_down: bool,
    /// Attempts that failed since something is owed.
    pub attempts: u32,
    /// No attempt before this moment.
    pub not_before: Option<Moment>,
    /// When restarts were tried, as far back as a limit may look.
    pub restarts: Vec<Moment>,
}

/// What to do about a file that is not right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RewriteDue {
    /// Rewrite it: it was not right before.
    Now,
    /// Rewrite it: it was right, and another program changed it back.
    Again,
    /// Leave it: another program keeps changing it back.
    Never,
}

/// What to do about a restart now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// Nothing is owed.
    Nothing,
    /// Restart now.
    Restart,
    /// The restart was carried out; see now whether the application is back.
    Verify,
    /// Wait for the next attempt after a failed one.
    Retry(Moment),
    /// Wait because there were as many restarts as the limit allows.
    Limited(Moment),
}

impl Debt {
    /// What is due for a file that does not say what is wanted.
    pub fn rewrite_due(&self, wanted: &Wanted, now: Moment) -> RewriteDue {
        if self.wanted.as_ref() != Some(wanted) {
            RewriteDue::Now
        } else if self.repairs.allow(now) {
            RewriteDue::Again
        } else {
            RewriteDue::Never
        }
    }

    /// The file is left as it is.
    pub fn rewrite_given_up(&mut self) {
        self.repairs.give_up();
    }

    /// The file says what is wanted.
    pub fn found_right(&mut self, wanted: &Wanted) {
        self.wanted = Some(wanted.clone());
        self.repairs.settle();
    }

    /// The file is about to be renamed: from now on a restart is owed, and at once, whatever failed before.
    pub fn rewrite_begins(&mut self, wanted: Wanted, now: Moment) {
        if self.wanted.as_ref() == Some(&wanted) {
            self.repairs.count(now);
        } else {
            self.repairs.settle();
        }
        self.wanted = Some(wanted);
        self.rewrites += 1;
        self.owe_anew();
    }

    /// The file is as it was: nothing more is owed than before. What a restart that was under way has achieved meanwhile
    /// stays.
    pub fn rewrite_undone(&mut self, before: &Self) {
        self.wanted.clone_from(&before.wanted);
        self.repairs.clone_from(&before.repairs);
        self.rewrites = before.rewrites.max(self.restarted);
        self.attempts = before.attempts;
        self.not_before = before.not_before;
    }

    /// A restart is owed.
    pub fn restart_pending(&self) -> bool {
        self.restarted < self.rewrites
    }

    /// What is due.
    pub fn due(&self, now: Moment, limit: Option<Limit>) -> Due {
        let pending = self.restart_pending();
        if !pending && !self.unverified {
            return Due::Nothing;
        }
        if pending && let Some(until) = limit.and_then(|limit| self.limited_until(now, limit)) {
            return Due::Limited(until);
        }
        match self.not_before {
            Some(moment) if moment > now => Due::Retry(moment),
            Some(_) | None if pending => Due::Restart,
            Some(_) | None => Due::Verify,
        }
    }

    /// A restart is about to be issued.
    pub fn restart_begins(&mut self, now: Moment, limit: Option<Limit>) {
        self.may_be_down = true;
        self.restarts.push(now);
        let keep = limit.map_or(0, |limit| limit.count.get() as usize);
        let surplus = self.restarts.len().saturating_sub(keep);
        self.restarts.drain(..surplus);
    }

    /// A restart that was issued after so many rewrites was carried out; `verify`: it is not known yet whether the
    /// application is back.
    pub fn restart_carried_out(&mut self, rewrites: u64, verify: bool) {
        self.restarted = self.restarted.max(rewrites);
        self.unverified = verify;
        self.may_be_down = false;
        if !self.restart_pending() {
            self.owe_anew();
        }
    }

    /// A restart that was issued after so many rewrites, at a moment, failed, and is still owed. Back-off holds the next one back, and
    /// not the limit: that is for applications that are up.
    pub fn restart_failed(&mut self, rewrites: u64, begun: Moment, now: Moment) {
        self.restarts.retain(|moment| *moment != begun);
        if self.rewrites == rewrites {
            self.put_off(now);
        }
    }

    /// After a failed restart the application is known not to have been stopped by it: if it is found stopped later, that
    /// was on purpose.
    pub fn not_stopped_by_us(&mut self) {
        self.may_be_down = false;
    }

    /// The application was seen to be back.
    pub fn verified(&mut self) {
        self.unverified = false;
        if !self.restart_pending() {
            self.owe_anew();
        }
    }

    /// The application was not seen to be back. It may just be slow, and another restart would throw it back to the
    /// start, so it is looked at again; only if it is `gone` it is restarted again.
    pub fn verify_failed(&mut self, rewrites: u64, now: Moment, gone: bool) {
        if self.rewrites == rewrites {
            if gone {
                self.restarted = rewrites.saturating_sub(1);
                self.unverified = false;
                self.may_be_down = true;
            }
            self.put_off(now);
        }
    }

    /// The machine was started again: its clock began anew, so moments mean nothing any more.
    pub fn forget_moments(&mut self) {
        self.not_before = None;
        self.restarts.clear();
        self.repairs.forget_moments();
    }

    fn owe_anew(&mut self) {
        self.attempts = 0;
        self.not_before = None;
    }

    fn put_off(&mut self, now: Moment) {
        let pause = FIRST_RETRY.saturating_mul(2_u32.saturating_pow(self.attempts)).min(LONGEST_RETRY);
        self.attempts = self.attempts.saturating_add(1);
        self.not_before = Some(now.after(pause));
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
        let position = WantedPosition { system_identifier: 7, timeline };
        Wanted { node: "db02".to_owned(), position, edition: String::new() }
    }

    fn owing() -> Debt {
        let mut debt = Debt::default();
        debt.rewrite_begins(wanted(2), Moment(0));
        debt
    }

    #[test]
    fn a_restart_is_owed_until_it_succeeded() {
        assert_eq!(Debt::default().due(Moment(0), None), Due::Nothing);
        let mut debt = owing();
        assert_eq!(debt.due(Moment(0), None), Due::Restart);
        debt.restart_begins(Moment(0), None);
        assert_eq!(debt.due(Moment(0), None), Due::Restart);
        debt.restart_carried_out(1, false);
        assert_eq!(debt.due(Moment(0), None), Due::Nothing);
        assert_eq!(debt, Debt { wanted: Some(wanted(2)), rewrites: 1, restarted: 1, ..Debt::default() });
    }

    #[test]
    fn a_restart_makes_good_only_the_rewrites_before_it() {
        let mut debt = owing();
        debt.restart_begins(Moment(0), None);
        debt.rewrite_begins(wanted(3), Moment(0));
        debt.restart_carried_out(1, false);
        assert_eq!(debt.due(Moment(0), None), Due::Restart);
        debt.restart_failed(1, Moment(0), Moment(0));
        debt.verify_failed(1, Moment(0), true);
        assert_eq!(debt.due(Moment(0), None), Due::Restart);
        debt.restart_carried_out(2, false);
        assert_eq!(debt.due(Moment(0), None), Due::Nothing);
    }

    #[test]
    fn a_rewrite_that_did_not_happen_owes_nothing() {
        let mut debt = owing();
        debt.restart_failed(1, Moment(0), Moment(0));
        let before = debt.clone();
        debt.rewrite_begins(wanted(3), Moment(0));
        debt.rewrite_undone(&before);
        assert_eq!(debt, before);
        debt.rewrite_begins(wanted(3), Moment(0));
        debt.restart_carried_out(1, false);
        debt.rewrite_undone(&before);
        assert!(!debt.restart_pending());
    }

    #[test]
    fn a_slow_application_is_looked_at_again_and_not_restarted_again() {
        let mut debt = owing();
        debt.restart_carried_out(1, true);
        assert_eq!(debt.due(Moment(0), None), Due::Verify);
        debt.verify_failed(1, Moment(0), false);
        assert_eq!(debt.due(Moment(0), None), Due::Retry(Moment(1000)));
        assert_eq!(debt.due(Moment(1000), None), Due::Verify);
        let mut back = debt.clone();
        back.verified();
        assert_eq!(back.due(Moment(1000), None), Due::Nothing);
        // Unless it died.
        debt.verify_failed(1, Moment(1000), true);
        assert_eq!(debt.due(Moment(3000), None), Due::Restart);
        // Or there is another node to follow.
        back.restart_carried_out(1, true);
        back.rewrite_begins(wanted(3), Moment(0));
        assert_eq!(back.due(Moment(0), None), Due::Restart);
    }

    #[test]
    fn only_a_restart_of_ours_excuses_starting_what_is_stopped() {
        let mut debt = owing();
        assert!(!debt.may_be_down);
        debt.restart_begins(Moment(0), None);
        debt.restart_failed(1, Moment(0), Moment(0));
        assert!(debt.may_be_down);
        debt.not_stopped_by_us();
        assert!(!debt.may_be_down);
        debt.restart_begins(Moment(0), None);
        debt.restart_carried_out(1, true);
        assert!(!debt.may_be_down);
        debt.verify_failed(1, Moment(0), true);
        assert!(debt.may_be_down);
        debt.restart_carried_out(1, false);
        assert_eq!(debt, Debt { wanted: debt.wanted.clone(), rewrites: 1, restarted: 1, ..Debt::default() });
    }

    #[test]
    fn failed_restarts_are_tried_less_and_less_often() {
        let mut debt = owing();
        let mut pauses = Vec::new();
        for _ in 0..8 {
            debt.restart_failed(1, Moment(1000), Moment(1000));
            pauses.push(match debt.due(Moment(1000), None) {
                Due::Retry(moment) => moment.since(Moment(1000)).as_secs(),
                Due::Nothing | Due::Restart | Due::Verify | Due::Limited(_) => 0,
            });
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(debt.due(Moment(61_000), None), Due::Restart);
    }

    #[test]
    fn a_new_failover_does_not_wait_for_the_retry_of_an_old_one() {
        let mut debt = owing();
        debt.restart_failed(1, Moment(0), Moment(0));
        assert_eq!(debt.due(Moment(0), None), Due::Retry(Moment(1000)));
        debt.rewrite_begins(wanted(3), Moment(0));
        assert_eq!(debt.due(Moment(0), None), Due::Restart);
    }

    #[test]
    fn the_limit_holds_back_and_lets_go() {
        let limit = Some(parse_limit("2 per 10s").unwrap());
        let mut debt = Debt::default();
        for (begun, due) in [(0, Due::Restart), (4000, Due::Restart), (5000, Due::Limited(Moment(10_000)))] {
            debt.rewrite_begins(wanted(2), Moment(0));
            assert_eq!(debt.due(Moment(begun), limit), due);
            debt.restart_begins(Moment(begun), limit);
            debt.restart_carried_out(debt.rewrites, false);
        }
        debt.rewrite_begins(wanted(3), Moment(0));
        assert_eq!(debt.due(Moment(10_000), limit), Due::Limited(Moment(14_000)));
        assert_eq!(debt.due(Moment(14_000), limit), Due::Restart);
        assert_eq!(debt.restarts.len(), 2);
        debt.forget_moments();
        assert_eq!(debt.due(Moment(0), limit), Due::Restart);
    }

    #[test]
    fn a_restart_that_failed_does_not_count_towards_the_limit() {
        let limit = Some(parse_limit("1 per 10m").unwrap());
        let mut debt = owing();
        for begun in [Moment(0), Moment(1_000), Moment(3_000)] {
            assert_eq!(debt.due(begun, limit), Due::Restart);
            debt.restart_begins(begun, limit);
            debt.restart_failed(1, begun, begun);
        }
        assert_eq!(debt.due(Moment(3_000), limit), Due::Retry(Moment(7_000)));
    }

    #[test]
    fn a_file_that_another_program_keeps_changing_back_is_left_alone() {
        let mut debt = Debt::default();
        assert_eq!(debt.rewrite_due(&wanted(2), Moment(0)), RewriteDue::Now);
        debt.rewrite_begins(wanted(2), Moment(0));
        for at in 1..=3 {
            assert_eq!(debt.rewrite_due(&wanted(2), Moment(at)), RewriteDue::Again);
            // What came to nothing does not count.
            let before = debt.clone();
            debt.rewrite_begins(wanted(2), Moment(at));
            debt.rewrite_undone(&before);
            assert_eq!(debt, before);
            debt.rewrite_begins(wanted(2), Moment(at));
        }
        assert_eq!(debt.rewrite_due(&wanted(2), Moment(4)), RewriteDue::Never);
        debt.rewrite_given_up();
        assert_eq!(debt.rewrite_due(&wanted(2), Moment(u64::MAX)), RewriteDue::Never);
        // Another node, or another configuration, has nothing to do with that.
        let edited = Wanted { edition: "edited".to_owned(), ..wanted(2) };
        for other in [wanted(3), edited] {
            assert_eq!(debt.rewrite_due(&other, Moment(4)), RewriteDue::Now);
            let mut followed = debt.clone();
            followed.rewrite_begins(other.clone(), Moment(4));
            assert_eq!(followed.rewrite_due(&other, Moment(600_004)), RewriteDue::Again);
        }
        // It was put right by somebody else.
        debt.found_right(&wanted(2));
        assert_eq!(debt.rewrite_due(&wanted(2), Moment(5)), RewriteDue::Never);
        assert_eq!(debt.rewrite_due(&wanted(2), Moment(600_002)), RewriteDue::Again);
        // After a start of the machine the moments mean nothing.
        debt.forget_moments();
        assert_eq!(debt.rewrite_due(&wanted(2), Moment(0)), RewriteDue::Again);
    }

    #[test]
    fn a_file_that_was_right_from_the_beginning_is_put_right_again_no_more_often() {
        let mut debt = Debt::default();
        debt.found_right(&wanted(2));
        assert!(!debt.restart_pending());
        assert_eq!(debt.rewrite_due(&wanted(2), Moment(0)), RewriteDue::Again);
    }
}
