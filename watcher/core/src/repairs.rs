//! How often a file is put right that another program changed back. Two programs that undo each other's work for ever
//! would restart the application for ever.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::plan::Moment;

/// The repairs of one file. They are part of the state file: a watcher that cron starts each minute must know them as well as
/// one that runs all the time.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Repairs {
    /// When the file was put right, as far back as that matters.
    moments: Vec<Moment>,
    /// It is left as it is, until it is right by itself or is to say something else.
    given_up: bool,
}

impl Repairs {
    /// So often,
    pub const COUNT: usize = 3;
    /// in so much time.
    pub const WINDOW: Duration = Duration::from_secs(600);

    /// Whether the file is put right once more.
    pub fn allow(&self, now: Moment) -> bool {
        !self.given_up && self.recent(now).count() < Self::COUNT
    }

    /// The file is put right.
    pub fn count(&mut self, now: Moment) {
        self.moments = self.recent(now).copied().chain([now]).collect();
    }

    /// The file is not put right any more.
    pub fn give_up(&mut self) {
        self.given_up = true;
    }

    /// Nobody disputes what the file says: it is right by itself, or is to say something else.
    pub fn settle(&mut self) {
        self.given_up = false;
    }

    /// The machine was started again: its clock began anew, so moments mean nothing any more.
    pub fn forget_moments(&mut self) {
        self.moments.clear();
    }

    fn recent(&self, now: Moment) -> impl Iterator<Item = &Moment> {
        self.moments.iter().filter(move |moment| moment.after(Self::WINDOW) > now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_put_right_so_often_and_no_more() {
        let mut repairs = Repairs::default();
        let allowed = [0, 1000, 2000, 3000, 599_999, 600_000, 600_500, 601_000].map(|at| {
            let allowed = repairs.allow(Moment(at));
            if allowed {
                repairs.count(Moment(at));
            }
            allowed
        });
        assert_eq!(allowed, [true, true, true, false, false, true, false, true]);
    }

    #[test]
    fn once_given_up_it_stays_so_until_nobody_disputes() {
        let mut repairs = Repairs::default();
        repairs.give_up();
        assert!(!repairs.allow(Moment(u64::MAX)));
        repairs.settle();
        assert!(repairs.allow(Moment(0)));
    }
}
