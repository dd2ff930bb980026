//! Which node is active.
//!
//! Evidence comes from the connection that was asked, never from a name in a table. Where there is no evidence, or it
//! contradicts itself, nothing is chosen and so nothing is changed.

use std::collections::BTreeMap;
use std::fmt;

use crate::units::{SystemIdentifier, Timeline};

/// One of the two nodes, in the order of the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NodeId {
    /// The first.
    First,
    /// The second.
    Second,
}

impl NodeId {
    /// Both.
    pub const ALL: [Self; 2] = [Self::First, Self::Second];

    /// The place in an array of two.
    pub fn index(self) -> usize {
        match self {
            Self::First => 0,
            Self::Second => 1,
        }
    }

    /// The other one.
    pub fn other(self) -> Self {
        match self {
            Self::First => Self::Second,
            Self::Second => Self::First,
        }
    }
}

/// What one node was seen to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Observation {
    /// It gave no usable answer: down, starting, silent, refusing us, not resolved.
    Unreachable,
    /// It answered, in recovery.
    Standby {
        /// Its cluster.
        system_identifier: SystemIdentifier,
    },
    /// It answered, out of recovery.
    Primary {
        /// Its cluster.
        system_identifier: SystemIdentifier,
        /// The timeline that it writes.
        timeline: Timeline,
        /// It lets no client commit.
        fenced: bool,
    },
}

impl Observation {
    fn system_identifier(self) -> Option<SystemIdentifier> {
        match self {
            Self::Unreachable => None,
            Self::Standby { system_identifier } | Self::Primary { system_identifier, .. } => Some(system_identifier),
        }
    }

    fn candidate(self) -> Option<Position> {
        match self {
            Self::Primary { system_identifier, timeline, fenced: false } => {
                Some(Position { system_identifier, timeline })
            }
            Self::Unreachable | Self::Standby { .. } | Self::Primary { fenced: true, .. } => None,
        }
    }
}

/// A primary's cluster and timeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// The cluster.
    pub system_identifier: SystemIdentifier,
    /// The timeline.
    pub timeline: Timeline,
}

/// The highest timeline that an active node was ever seen on, by cluster.
pub type Highest = BTreeMap<SystemIdentifier, Timeline>;

/// The outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// This node is active.
    Active(NodeId, Position),
    /// No node is; change nothing.
    Nobody(Nobody),
    /// Two unfenced primaries, neither of which is known to be the newer one; change nothing and raise the alarm.
    TwoPrimaries(TwoPrimaries),
}

/// Why no node is active.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nobody {
    /// Neither answers.
    BothUnreachable,
    /// Nobody who answers is an unfenced primary.
    NoPrimary,
    /// The only primary is on a timeline that has been left already.
    Superseded {
        /// Who.
        node: NodeId,
        /// Its timeline.
        timeline: Timeline,
        /// The timeline seen before.
        highest: Timeline,
    },
    /// The two nodes belong to different clusters.
    IdentifiersDiffer([SystemIdentifier; 2]),
    /// The only node that answers belongs to another cluster than the one that was active.
    UnknownIdentifier {
        /// Who.
        node: NodeId,
        /// Its cluster.
        system_identifier: SystemIdentifier,
    },
}

/// Why two primaries cannot be told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TwoPrimaries {
    /// They are on the same timeline.
    SameTimeline(Timeline),
    /// They belong to different clusters.
    IdentifiersDiffer([SystemIdentifier; 2]),
}

/// Chooses from the last observation of each node and what was seen before.
pub fn choose(observations: [Observation; 2], highest: &Highest) -> Choice {
    let [first, second] = observations;
    let candidates = [first.candidate(), second.candidate()];
    if let (Some(one), Some(two)) = (first.system_identifier(), second.system_identifier())
        && one != two
    {
        return if candidates.iter().all(Option::is_some) {
            Choice::TwoPrimaries(TwoPrimaries::IdentifiersDiffer([one, two]))
        } else {
            Choice::Nobody(Nobody::IdentifiersDiffer([one, two]))
        };
    }
    let (node, position) = match candidates {
        [None, None] => {
            return Choice::Nobody(if observations == [Observation::Unreachable; 2] {
                Nobody::BothUnreachable
            } else {
                Nobody::NoPrimary
            });
        }
        [Some(position), None] => (NodeId::First, position),
        [None, Some(position)] => (NodeId::Second, position),
        [Some(one), Some(two)] => match one.timeline.cmp(&two.timeline) {
            std::cmp::Ordering::Greater => (NodeId::First, one),
            std::cmp::Ordering::Less => (NodeId::Second, two),
            std::cmp::Ordering::Equal => return Choice::TwoPrimaries(TwoPrimaries::SameTimeline(one.timeline)),
        },
    };
    match highest.get(&position.system_identifier) {
        Some(&highest) if position.timeline < highest => {
            Choice::Nobody(Nobody::Superseded { node, timeline: position.timeline, highest })
        }
        Some(_) => Choice::Active(node, position),
        // A cluster never seen before replaces a known one only if both nodes belong to it: a single node with a new
        // identifier may be somebody else's server that took over an address.
        None if highest.is_empty() || both_answer(observations) => Choice::Active(node, position),
        None => Choice::Nobody(Nobody::UnknownIdentifier { node, system_identifier: position.system_identifier }),
    }
}

fn both_answer(observations: [Observation; 2]) -> bool {
    observations.iter().all(|observation| observation.system_identifier().is_some())
}

impl Choice {
    /// The choice as a sentence; `names` are the nodes' names.
    pub fn describe<'a>(&'a self, names: [&'a str; 2]) -> impl fmt::Display + 'a {
        Describe { choice: self, names }
    }
}

struct Describe<'a> {
    choice: &'a Choice,
    names: [&'a str; 2],
}

impl fmt::Display for Describe<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [one, two] = self.names;
        match self.choice {
            Choice::Active(node, position) => {
                write!(f, "active node is {} (timeline {})", self.names[node.index()], position.timeline)
            }
            Choice::Nobody(Nobody::BothUnreachable) => {
                write!(f, "no active node: neither {one} nor {two} answers; nothing is changed")
            }
            Choice::Nobody(Nobody::NoPrimary) => write!(
                f,
                "no active node: no node that answers is an unfenced primary; nothing is changed until one is promoted"
            ),
            Choice::Nobody(Nobody::Superseded { node, timeline, highest }) => write!(
                f,
                "no active node: {} is primary on timeline {timeline}, but timeline {highest} was active before; \
                 nothing is changed; shut down the old primary and make it a standby",
                self.names[node.index()]
            ),
            Choice::Nobody(Nobody::IdentifiersDiffer([a, b])) => write!(
                f,
                "no active node: {one} and {two} are different clusters (system identifiers {a} and {b}); nothing is \
                 changed; correct conninfo"
            ),
            Choice::Nobody(Nobody::UnknownIdentifier { node, system_identifier }) => write!(
                f,
                "no active node: {} belongs to a cluster never seen before (system identifier {system_identifier}); \
                 nothing is changed until both nodes belong to it; if that is right, remove the state file",
                self.names[node.index()]
            ),
            Choice::TwoPrimaries(TwoPrimaries::SameTimeline(timeline)) => write!(
                f,
                "two primaries: {one} and {two} both take writes on timeline {timeline}; nothing is changed; shut one \
                 of them down"
            ),
            Choice::TwoPrimaries(TwoPrimaries::IdentifiersDiffer([a, b])) => write!(
                f,
                "two primaries: {one} and {two} are different clusters (system identifiers {a} and {b}); nothing is \
                 changed; correct conninfo"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Observation::Unreachable;
    use super::*;

    const A: SystemIdentifier = SystemIdentifier(7);
    const B: SystemIdentifier = SystemIdentifier(8);

    fn standby(system_identifier: SystemIdentifier) -> Observation {
        Observation::Standby { system_identifier }
    }

    fn primary(system_identifier: SystemIdentifier, timeline: u32) -> Observation {
        Observation::Primary { system_identifier, timeline: Timeline(timeline), fenced: false }
    }

    fn fenced(system_identifier: SystemIdentifier, timeline: u32) -> Observation {
        Observation::Primary { system_identifier, timeline: Timeline(timeline), fenced: true }
    }

    fn active(node: NodeId, system_identifier: SystemIdentifier, timeline: u32) -> Choice {
        Choice::Active(node, Position { system_identifier, timeline: Timeline(timeline) })
    }

    #[test]
    fn every_pair_of_observations_has_one_answer() {
        use NodeId::{First, Second};
        let nothing_seen: &[(SystemIdentifier, u32)] = &[];
        for (observations, seen, want) in [
            ([Unreachable, Unreachable], nothing_seen, Choice::Nobody(Nobody::BothUnreachable)),
            ([standby(A), Unreachable], nothing_seen, Choice::Nobody(Nobody::NoPrimary)),
            ([standby(A), standby(A)], nothing_seen, Choice::Nobody(Nobody::NoPrimary)),
            ([fenced(A, 1), standby(A)], nothing_seen, Choice::Nobody(Nobody::NoPrimary)),
            ([primary(A, 1), standby(A)], nothing_seen, active(First, A, 1)),
            ([standby(A), primary(A, 2)], &[(A, 1)], active(Second, A, 2)),
            ([Unreachable, primary(A, 2)], &[(A, 1)], active(Second, A, 2)),
            ([primary(A, 1), primary(A, 2)], &[(A, 1)], active(Second, A, 2)),
            ([fenced(A, 1), primary(A, 2)], &[(A, 1)], active(Second, A, 2)),
            ([fenced(A, 3), primary(A, 2)], &[(A, 2)], active(Second, A, 2)),
            ([primary(A, 2), primary(A, 2)], &[(A, 1)], Choice::TwoPrimaries(TwoPrimaries::SameTimeline(Timeline(2)))),
            (
                [primary(A, 1), Unreachable],
                &[(A, 2)],
                Choice::Nobody(Nobody::Superseded { node: First, timeline: Timeline(1), highest: Timeline(2) }),
            ),
            (
                [primary(A, 1), fenced(A, 2)],
                &[(A, 2)],
                Choice::Nobody(Nobody::Superseded { node: First, timeline: Timeline(1), highest: Timeline(2) }),
            ),
            ([primary(A, 1), standby(B)], nothing_seen, Choice::Nobody(Nobody::IdentifiersDiffer([A, B]))),
            ([primary(A, 1), primary(B, 5)], &[(A, 1)], Choice::TwoPrimaries(TwoPrimaries::IdentifiersDiffer([A, B]))),
            (
                [Unreachable, primary(B, 9)],
                &[(A, 1)],
                Choice::Nobody(Nobody::UnknownIdentifier { node: Second, system_identifier: B }),
            ),
            ([standby(B), primary(B, 1)], &[(A, 4)], active(Second, B, 1)),
            ([Unreachable, primary(B, 1)], &[(A, 4), (B, 1)], active(Second, B, 1)),
        ] {
            let highest = seen.iter().map(|(id, timeline)| (*id, Timeline(*timeline))).collect();
            assert_eq!(choose(observations, &highest), want, "{observations:?} after {seen:?}");
        }
    }

    #[test]
    fn the_order_of_the_nodes_does_not_matter() {
        let all = [Unreachable, standby(A), standby(B), primary(A, 1), primary(A, 2), primary(B, 1), fenced(A, 2)];
        let highest = Highest::from([(A, Timeline(1))]);
        for one in all {
            for two in all {
                let node = |choice| match choice {
                    Choice::Active(node, position) => Some((node, position)),
                    Choice::Nobody(_) | Choice::TwoPrimaries(_) => None,
                };
                let straight = node(choose([one, two], &highest));
                let crossed = node(choose([two, one], &highest)).map(|(node, position)| (node.other(), position));
                assert_eq!(straight, crossed, "{one:?} {two:?}");
            }
        }
    }

    #[test]
    fn sentences_name_the_nodes() {
        let names = ["db01", "db02"];
        assert_eq!(active(NodeId::Second, A, 2).describe(names).to_string(), "active node is db02 (timeline 2)");
        assert_eq!(
            Choice::TwoPrimaries(TwoPrimaries::SameTimeline(Timeline(2))).describe(names).to_string(),
            "two primaries: db01 and db02 both take writes on timeline 2; nothing is changed; shut one of them down"
        );
    }
}
