//! How long ago a file was written.
//!
//! A file bears the time of the wall clock, which is set now and then: at the start of a machine, by hand, after a virtual
//! machine was paused. The age of a process is counted on the machine's own clock, which nobody sets. Between two settings
//! the wall clock is ahead of the machine's own by the same amount (what NTP slews, it slews on both), so with a list of these
//! amounts a wall time is found again on the machine's clock. What was set before a watcher was first started on this start of
//! the machine is not known.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::plan::Moment;

/// How often the wall clock was set since the machine was started, as far as that was seen. It is part of the state file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct WallClock(Vec<Setting>);

/// How far the wall clock was ahead, and since when that was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Setting {
    since: Moment,
    /// Milliseconds.
    ahead: i64,
}

/// The same moment on both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// On the machine's own clock.
    pub moment: Moment,
    /// On the wall clock, in milliseconds since 1970.
    pub wall: i64,
}

impl Now {
    fn ahead(self) -> i64 {
        self.wall.saturating_sub_unsigned(self.moment.0)
    }
}

/// The two clocks are read one after the other, so that a smaller difference is none.
const NOTICED: u64 = 500;
/// A clock that is set all the time is not worth more of the state file; the oldest are forgotten.
const KEPT: usize = 32;

impl WallClock {
    /// Looks at the clocks; true if the wall clock was set since the last look.
    pub fn look(&mut self, now: Now) -> bool {
        let ahead = now.ahead();
        if self.0.last().is_some_and(|last| last.ahead.abs_diff(ahead) < NOTICED) {
            return false;
        }
        self.0.push(Setting { since: now.moment, ahead });
        let surplus = self.0.len().saturating_sub(KEPT);
        self.0.drain(..surplus);
        true
    }

    /// The machine was started again.
    pub fn forget(&mut self) {
        self.0.clear();
    }

    /// How long ago it was this late on the wall clock, in milliseconds since 1970; zero for a time to come. If it was this late
    /// twice, the first time is taken: a file that is thought too old is one that somebody has to look at, and a file that is
    /// thought too young may name a stranger's process.
    pub fn age(&self, wall: i64, now: Now) -> Duration {
        let mut known = self.clone();
        known.look(now);
        let mut written = now.moment_as_signed();
        for (at, setting) in known.0.iter().enumerate() {
            let moment = wall.saturating_sub(setting.ahead);
            let end = known.0.get(at + 1).map_or(now.moment, |next| next.since);
            if moment < i64::try_from(end.0).unwrap_or(i64::MAX) {
                // What the wall clock left out when it was set forward is the moment when it was set.
                let begin = if at == 0 { i64::MIN } else { i64::try_from(setting.since.0).unwrap_or(i64::MAX) };
                written = moment.max(begin);
                break;
            }
        }
        Duration::from_millis(now.moment_as_signed().abs_diff(written))
    }
}

impl Now {
    fn moment_as_signed(self) -> i64 {
        i64::try_from(self.moment.0).unwrap_or(i64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The wall clock shows this at the start of the machine.
    const START: i64 = 1_700_000_000_000;
    const HOUR: i64 = 3_600_000;

    /// So many seconds after the start, with the wall clock set by so many milliseconds since.
    fn at(seconds: u64, set_by: i64) -> Now {
        let milliseconds = seconds * 1000;
        Now { moment: Moment(milliseconds), wall: START + set_by + i64::try_from(milliseconds).unwrap_or(0) }
    }

    fn age(clock: &WallClock, written: Now, now: Now) -> u64 {
        clock.age(written.wall, now).as_secs()
    }

    #[test]
    fn a_clock_that_nobody_sets() {
        let mut clock = WallClock::default();
        assert_eq!(age(&clock, at(60, 0), at(100, 0)), 40);
        assert!(clock.look(at(50, 0)));
        assert!(!clock.look(at(70, 499)) && !clock.look(at(80, -499)));
        for written in [0, 49, 51, 99] {
            assert_eq!(age(&clock, at(written, 0), at(100, 0)), 100 - written);
        }
        // Before the machine was started, and a time to come.
        assert_eq!(age(&clock, at(0, -HOUR), at(100, 0)), 3700);
        assert_eq!(age(&clock, at(0, HOUR), at(100, 0)), 0);
    }

    #[test]
    fn a_clock_that_was_set_forward() {
        let mut clock = WallClock::default();
        clock.look(at(50, 0));
        clock.look(at(80, HOUR));
        for (written, set_by) in [(10, 0), (60, 0), (79, 0), (80, HOUR), (99, HOUR)] {
            assert_eq!(age(&clock, at(written, set_by), at(100, HOUR)), 100 - written, "{written}");
        }
        // A time that never was.
        assert_eq!(age(&clock, at(80, HOUR / 2), at(100, HOUR)), 20);
        // It is noticed at the latest when the age is asked for.
        let mut late = WallClock::default();
        late.look(at(50, 0));
        assert_eq!(age(&late, at(60, 0), at(100, HOUR)), 40);
    }

    #[test]
    fn a_clock_that_was_set_back() {
        let mut clock = WallClock::default();
        clock.look(at(50, 0));
        clock.look(at(4000, -HOUR));
        for written in [10, 60, 3999] {
            assert_eq!(age(&clock, at(written, 0), at(4100, -HOUR)), 4100 - written, "{written}");
        }
        // It was this late twice: 450 seconds after the start, and 50 ago.
        assert_eq!(age(&clock, at(4050, -HOUR), at(4100, -HOUR)), 3650);
        assert_eq!(age(&clock, at(7700, -HOUR), at(7800, -HOUR)), 100);
    }

    #[test]
    fn set_again_and_again_it_forgets_the_oldest() {
        let mut clock = WallClock::default();
        for second in 0..1000 {
            clock.look(at(second, i64::try_from(second).unwrap_or(0) * HOUR));
        }
        assert_eq!(clock.0.len(), KEPT);
        assert_eq!(age(&clock, at(990, 990 * HOUR), at(1000, 999 * HOUR)), 10);
    }
}
