//! A timeline's history, and how the histories of two servers lie to each other.
//!
//! A promotion ends the old timeline at a switch point and begins a new one; the history file of timeline N lists every switch
//! point on the way from timeline 1 to N. Numbers alone say little: two standbys of one primary promoted by themselves both bear the
//! number N + 1. What tells forks apart is the list of switch points, and the point where each server stands.

use crate::ident::{Lsn, Timeline};
use alloc::vec::Vec;
use core::fmt;

/// The end of one timeline: the history left `timeline` at `at`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Switch {
    /// The timeline that was left.
    pub timeline: Timeline,
    /// The LSN at which it was left.
    pub at: Lsn,
}

/// The way to a timeline: the switches that led to it, oldest first.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct History {
    timeline: Timeline,
    switches: Vec<Switch>,
}

/// A history file that cannot be believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HistoryError {
    /// A line that is not «number, LSN, reason».
    #[error("line {0} of the timeline history is not a timeline number and an LSN")]
    Line(usize),
    /// Timelines or LSNs do not rise towards the timeline that the file belongs to.
    #[error("the timeline history is out of order at line {0}")]
    Order(usize),
}

/// How another server's history lies to ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Relation {
    /// One timeline, one history.
    Same,
    /// The other left our timeline at a point that we have not passed: it goes on where we stand or stood.
    Descendant,
    /// We left its timeline at a point that it has not passed.
    Ancestor,
    /// Both went on past the point where the histories part: each has WAL that the other lacks.
    Forked {
        /// The last LSN that both have in common.
        at: Lsn,
    },
}

/// How another server's history lies to ours by its switches alone, wherever the two stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Branch {
    /// One timeline.
    Same,
    /// The other's history runs through our timeline and left it here. What we wrote beyond that point is on no branch but ours.
    TheyLeft(Switch),
    /// Our history runs through the other's timeline and left it here.
    WeLeft(Switch),
    /// Neither is the other's continuation.
    Apart,
}

impl fmt::Display for History {
    /// The history as [`History::parse`] reads it, without reasons.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.switches.iter().try_for_each(|switch| writeln!(f, "{}\t{}", switch.timeline, switch.at))
    }
}

impl History {
    /// The history of a timeline that has none: timeline 1, or one whose history is not known.
    pub fn of_first(timeline: Timeline) -> Self {
        History { timeline, switches: Vec::new() }
    }

    /// Reads the content of a history file (`TIMELINE_HISTORY n`, or `pg_wal/0000000N.history`) of `timeline`.
    ///
    /// A line is a timeline's number, the LSN at which it was left, and a reason which is passed over; lines that are empty or begin with
    /// `#` are comments (PostgreSQL, `timeline.c`).
    ///
    /// # Errors
    /// The number of the first line that is not of that form or breaks the rising order.
    pub fn parse(timeline: Timeline, text: &str) -> Result<Self, HistoryError> {
        let mut switches: Vec<Switch> = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let number = index + 1;
            let mut words = line.split_whitespace();
            let from = words.next().and_then(|word| word.parse().ok()).map(Timeline);
            let at = words.next().and_then(|word| word.parse::<Lsn>().ok());
            let (Some(from), Some(at)) = (from, at) else {
                return Err(HistoryError::Line(number));
            };
            let rises = switches.last().is_none_or(|last| last.timeline < from && last.at <= at);
            if !rises || from >= timeline {
                return Err(HistoryError::Order(number));
            }
            switches.push(Switch { timeline: from, at });
        }
        Ok(History { timeline, switches })
    }

    /// The timeline that the history leads to.
    pub fn timeline(&self) -> Timeline {
        self.timeline
    }

    /// The switch by which the present timeline began; none for the first.
    pub fn last_switch(&self) -> Option<Switch> {
        self.switches.last().copied()
    }

    /// How `other`, standing at `other_at`, lies to this history, standing at `own_at`.
    pub fn relation(&self, own_at: Lsn, other: &History, other_at: Lsn) -> Relation {
        let common = self.switches.iter().zip(&other.switches).take_while(|(ours, theirs)| ours == theirs).count();
        let own_end = self.end_of_segment(common, own_at);
        let other_end = other.end_of_segment(common, other_at);
        let at = own_end.1.min(other_end.1);
        match (own_end, other_end) {
            // Both stand on the segment after the common switches, and it has to be the same timeline.
            ((ours, _), (theirs, _)) if ours != theirs => {
                Relation::Forked { at: common.checked_sub(1).map_or(Lsn(0), |last| self.switches[last].at) }
            }
            _ => match (self.switches.len() > common, other.switches.len() > common) {
                (false, false) => Relation::Same,
                (false, true) if own_at <= other_end.1 => Relation::Descendant,
                (true, false) if other_at <= own_end.1 => Relation::Ancestor,
                _ => Relation::Forked { at },
            },
        }
    }

    /// How `other` lies to this history, whatever either has written since: an old primary has mostly written beyond the point at which its
    /// standby was promoted, and is superseded all the same.
    pub fn branch(&self, other: &History) -> Branch {
        let common = self.switches.iter().zip(&other.switches).take_while(|(ours, theirs)| ours == theirs).count();
        match (self.switches.get(common), other.switches.get(common)) {
            (None, None) if self.timeline == other.timeline => Branch::Same,
            (None, Some(switch)) if switch.timeline == self.timeline => Branch::TheyLeft(*switch),
            (Some(switch), None) if switch.timeline == other.timeline => Branch::WeLeft(*switch),
            _ => Branch::Apart,
        }
    }

    /// Whether the history left that timeline at that point.
    pub fn holds(&self, switch: Switch) -> bool {
        self.switches.contains(&switch)
    }

    /// The timeline of segment `index` of the history and the LSN where it ends, which is `here` for the last.
    fn end_of_segment(&self, index: usize, here: Lsn) -> (Timeline, Lsn) {
        self.switches.get(index).map_or((self.timeline, here), |switch| (switch.timeline, switch.at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    fn history(timeline: u32, text: &str) -> History {
        History::parse(Timeline(timeline), text).unwrap()
    }

    #[test]
    fn a_history_file_is_read_as_the_server_writes_it() {
        let text = "1\t0/3000148\tno recovery target specified\n\n# a comment\n2\t0/5000000\treason with spaces\n";
        let read = history(3, text);
        assert_eq!(read.last_switch(), Some(Switch { timeline: Timeline(2), at: Lsn(0x500_0000) }));
        assert_eq!(history(3, &read.to_string()), read);
        assert_eq!(History::parse(Timeline(2), "one 0/1 x"), Err(HistoryError::Line(1)));
        assert_eq!(History::parse(Timeline(2), "1 0/1 x\n1 0/2 y"), Err(HistoryError::Order(2)));
        assert_eq!(History::parse(Timeline(2), "2 0/1 x"), Err(HistoryError::Order(1)));
    }

    #[test]
    fn forks_of_one_number_are_told_apart() {
        let (low, mid, high) = (Lsn(100), Lsn(200), Lsn(300));
        let first = History::of_first(Timeline(1));
        let second = history(2, "1 0/C8 x"); // left timeline 1 at 200
        let sibling = history(2, "1 0/96 x"); // left timeline 1 at 150
        let third = history(3, "1 0/C8 x\n2 0/FA y"); // and timeline 2 at 250

        assert_eq!(first.relation(low, &first, high), Relation::Same);
        assert_eq!(first.relation(mid, &second, high), Relation::Descendant);
        assert_eq!(first.relation(high, &second, high), Relation::Forked { at: mid });
        assert_eq!(second.relation(high, &first, mid), Relation::Ancestor);
        assert_eq!(second.relation(high, &first, high), Relation::Forked { at: mid });
        assert_eq!(second.relation(high, &sibling, high), Relation::Forked { at: Lsn(150) });
        assert_eq!(first.relation(low, &third, high), Relation::Descendant);
        assert_eq!(second.relation(Lsn(250), &third, high), Relation::Descendant);
        assert_eq!(second.relation(Lsn(251), &third, high), Relation::Forked { at: Lsn(250) });
        assert_eq!(third.relation(high, &second, Lsn(240)), Relation::Ancestor);
    }

    #[test]
    fn a_branch_is_told_by_switches_alone() {
        let switch = |timeline, at| Switch { timeline: Timeline(timeline), at: Lsn(at) };
        let first = History::of_first(Timeline(1));
        let second = history(2, "1 0/C8 x");
        let sibling = history(2, "1 0/96 x");
        let third = history(3, "1 0/C8 x\n2 0/FA y");

        assert_eq!(first.branch(&first), Branch::Same);
        assert_eq!(first.branch(&second), Branch::TheyLeft(switch(1, 200)));
        assert_eq!(first.branch(&third), Branch::TheyLeft(switch(1, 200)));
        assert_eq!(second.branch(&third), Branch::TheyLeft(switch(2, 250)));
        assert_eq!(third.branch(&first), Branch::WeLeft(switch(1, 200)));
        assert_eq!(second.branch(&sibling), Branch::Apart);
        assert_eq!(sibling.branch(&third), Branch::Apart);
        assert!(third.holds(switch(1, 200)) && !sibling.holds(switch(1, 200)));
    }
}
