//! When a node is asked again.

use std::time::Duration;

/// How fast both nodes are asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// An active node is known and answers.
    Calm,
    /// It does not, or is late with its answer: whoever is promoted must be seen at once.
    Outage,
}

/// The intervals of the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Intervals {
    /// Between two questions in the calm.
    pub calm: Duration,
    /// Between two questions in an outage.
    pub outage: Duration,
}

/// How the last attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// With an answer; the connection stays open.
    Answered,
    /// Nobody listens there. Asking again costs the host next to nothing.
    Refused,
    /// A server said no: starting, shutting down, full, unwilling. It forks a process each time it is asked.
    Rejected,
    /// Nothing came until the time was up, or the name was not resolved.
    Silent,
}

/// The longest pause after attempts without an answer, in intervals of the calm.
const SILENT_PAUSE_LIMIT: u32 = 5;

/// The pause before the next attempt; `in_a_row` counts the attempts that ended the same way.
pub fn pause(intervals: Intervals, pace: Pace, ended: Ended, in_a_row: u32) -> Duration {
    let doubled = |start: Duration, longest: Duration| {
        start.saturating_mul(2_u32.saturating_pow(in_a_row.saturating_sub(1))).min(longest)
    };
    let base = match pace {
        Pace::Calm => intervals.calm,
        Pace::Outage => intervals.outage.min(intervals.calm),
    };
    match ended {
        Ended::Answered | Ended::Refused => base,
        Ended::Rejected => doubled(base, intervals.calm),
        Ended::Silent => doubled(base, intervals.calm.saturating_mul(SILENT_PAUSE_LIMIT)),
    }
}

/// How long an answer may take before the node counts as late: long enough for a busy server, far below the time limit
/// of an attempt.
pub fn late_after(intervals: Intervals) -> Duration {
    (intervals.outage * 5).clamp(Duration::from_millis(100), Duration::from_secs(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVALS: Intervals = Intervals { calm: Duration::from_secs(1), outage: Duration::from_millis(50) };

    #[test]
    fn what_costs_the_server_something_is_asked_less_often() {
        for (pace, ended, in_a_row, want) in [
            (Pace::Calm, Ended::Answered, 9, 1000),
            (Pace::Outage, Ended::Answered, 9, 50),
            (Pace::Outage, Ended::Refused, 9, 50),
            (Pace::Calm, Ended::Refused, 9, 1000),
            (Pace::Outage, Ended::Rejected, 1, 50),
            (Pace::Outage, Ended::Rejected, 3, 200),
            (Pace::Outage, Ended::Rejected, 30, 1000),
            (Pace::Outage, Ended::Silent, 1, 50),
            (Pace::Outage, Ended::Silent, 30, 5000),
            (Pace::Calm, Ended::Silent, 1, 1000),
            (Pace::Calm, Ended::Silent, u32::MAX, 5000),
        ] {
            assert_eq!(
                pause(INTERVALS, pace, ended, in_a_row),
                Duration::from_millis(want),
                "{pace:?} {ended:?} {in_a_row}"
            );
        }
    }
}
