//! When a node is asked again.

use std::time::Duration;

use crate::choose::{Choice, Nobody};

/// How fast both nodes are asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// An active node is known and answers.
    Calm,
    /// It does not, or is late with its answer: whoever is promoted must be seen at once.
    Outage,
}

impl Pace {
    /// What a choice calls for; `late` says that the active node takes longer than usual to answer.
    ///
    /// Where evidence contradicts itself somebody has to step in, and nothing is won by asking fast.
    pub fn after(choice: Choice, late: bool) -> Self {
        match choice {
            Choice::Active(..) if late => Self::Outage,
            Choice::Active(..) | Choice::TwoPrimaries(_) => Self::Calm,
            Choice::Nobody(reason) => match reason {
                Nobody::BothUnreachable | Nobody::NoPrimary | Nobody::Superseded { .. } => Self::Outage,
                Nobody::IdentifiersDiffer(_) | Nobody::OtherCluster { .. } | Nobody::PredecessorUnknown { .. } => {
                    Self::Calm
                }
            },
        }
    }
}

/// The intervals of the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Intervals {
    /// Between two questions in the calm.
    pub calm: Duration,
    /// Between two questions in an outage.
    pub outage: Duration,
}

/// How the last attempt ended, in the order of how long it keeps us from knowing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
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

/// What part of an outage may pass between two questions. A short outage is not made longer by that, and one that lasts for
/// hours does not cost the node that answers twenty questions a second.
const PART_OF_OUTAGE: u32 = 1000;

/// The pause before the next attempt; `in_a_row` counts the attempts that ended the same way, `lasting` is how long the
/// pace has been what it is.
pub fn pause(intervals: Intervals, pace: Pace, lasting: Duration, ended: Ended, in_a_row: u32) -> Duration {
    let doubled = |start: Duration, longest: Duration| {
        start.saturating_mul(2_u32.saturating_pow(in_a_row.saturating_sub(1))).min(longest)
    };
    let base = match pace {
        Pace::Calm => intervals.calm,
        Pace::Outage => intervals.outage.max(lasting / PART_OF_OUTAGE).min(intervals.calm),
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
    use crate::choose::{NodeId, Position, TwoPrimaries};
    use crate::units::{SystemIdentifier, Timeline};

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
                pause(INTERVALS, pace, Duration::ZERO, ended, in_a_row),
                Duration::from_millis(want),
                "{pace:?} {ended:?} {in_a_row}"
            );
        }
    }

    #[test]
    fn an_outage_that_lasts_is_asked_about_less_often() {
        for (seconds, want) in [(20, 50), (50, 50), (200, 200), (86_400, 1000)] {
            let lasting = Duration::from_secs(seconds);
            let pause = pause(INTERVALS, Pace::Outage, lasting, Ended::Answered, 1);
            assert_eq!(pause, Duration::from_millis(want), "{seconds} s");
        }
    }

    #[test]
    fn a_contradiction_is_no_outage() {
        let (one, two) = (SystemIdentifier(1), SystemIdentifier(2));
        let position = Position { system_identifier: one, timeline: Timeline(2) };
        let node = NodeId::First;
        for (choice, late, want) in [
            (Choice::Active(node, position), false, Pace::Calm),
            (Choice::Active(node, position), true, Pace::Outage),
            (Choice::Nobody(Nobody::BothUnreachable), false, Pace::Outage),
            (Choice::Nobody(Nobody::NoPrimary), false, Pace::Outage),
            (
                Choice::Nobody(Nobody::Superseded { node, timeline: Timeline(1), highest: Timeline(2) }),
                false,
                Pace::Outage,
            ),
            (Choice::Nobody(Nobody::IdentifiersDiffer([one, two])), true, Pace::Calm),
            (Choice::Nobody(Nobody::OtherCluster { node, system_identifier: two }), false, Pace::Calm),
            (Choice::Nobody(Nobody::PredecessorUnknown { node, timeline: Timeline(2) }), false, Pace::Calm),
            (Choice::TwoPrimaries(TwoPrimaries::SameTimeline(Timeline(2))), false, Pace::Calm),
        ] {
            assert_eq!(Pace::after(choice, late), want, "{choice:?}");
        }
    }
}
