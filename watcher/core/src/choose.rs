//! Which node is active.
//!
//! Evidence comes from the connection that was asked, never from a name in a table. Where there is no evidence, or it
//! contradicts itself, nothing is chosen and so nothing is changed.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

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

/// What was seen before, as far as it matters to a choice. It is part of the state file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Past {
    /// The cluster that the active node belonged to last.
    pub current: Option<SystemIdentifier>,
    /// How far each cluster was seen to have come.
    pub reached: BTreeMap<SystemIdentifier, Reached>,
    /// Two primaries were seen, and neither has been seen to give in since.
    pub contested: Option<Contested>,
}

/// The highest timeline that a node of a cluster was active on, and which node that was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reached {
    /// The timeline.
    pub timeline: Timeline,
    /// The node's name.
    pub node: String,
}

/// What two primaries had in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contested {
    /// The cluster; of two different ones, that of the first node.
    pub system_identifier: SystemIdentifier,
    /// The cluster of the second node, if it is another one.
    pub other: Option<SystemIdentifier>,
    /// The highest timeline among them.
    pub timeline: Timeline,
}

impl Past {
    /// A node is active.
    pub fn note_active(&mut self, node: &str, position: Position) {
        self.current = Some(position.system_identifier);
        self.contested = None;
        let behind =
            self.reached.get(&position.system_identifier).is_none_or(|reached| reached.timeline <= position.timeline);
        if behind {
            let reached = Reached { timeline: position.timeline, node: node.to_owned() };
            self.reached.insert(position.system_identifier, reached);
        }
    }

    /// Takes in a choice and what it was made from.
    pub fn learn(&mut self, observations: [Observation; 2], names: [&str; 2], choice: Choice) {
        match choice {
            Choice::Active(node, position) => self.note_active(names[node.index()], position),
            Choice::Nobody(_) => self.contested = self.contested.filter(|contested| contested.holds(observations)),
            Choice::TwoPrimaries(_) => self.contested = Contested::between(observations).or(self.contested),
        }
    }

    /// True unless the node has been left behind by what was seen since it was chosen.
    pub fn still_allows(&self, position: Position) -> bool {
        self.current.is_none_or(|current| current == position.system_identifier)
            && self.reached.get(&position.system_identifier).is_none_or(|reached| reached.timeline <= position.timeline)
    }

    /// True for the very answer that made a node the active one: it takes writes, on the highest timeline that its cluster was seen on.
    /// What the other node says could only matter if it has been promoted since, and nobody has seen that yet.
    pub fn is_repeated_by(&self, observation: Observation, name: &str) -> bool {
        observation.candidate().is_some_and(|position| {
            self.contested.is_none()
                && self.current == Some(position.system_identifier)
                && self
                    .reached
                    .get(&position.system_identifier)
                    .is_some_and(|reached| reached.timeline == position.timeline && reached.node == name)
        })
    }
}

impl Contested {
    fn between(observations: [Observation; 2]) -> Option<Self> {
        let [Some(one), Some(two)] = observations.map(Observation::candidate) else {
            return None;
        };
        Some(Self {
            system_identifier: one.system_identifier,
            other: (one.system_identifier != two.system_identifier).then_some(two.system_identifier),
            timeline: one.timeline.max(two.timeline),
        })
    }

    /// False once one side was seen to give in, or somebody has been promoted since. Silence proves neither.
    fn holds(self, observations: [Observation; 2]) -> bool {
        if self.other.is_some() {
            // Nothing compares two clusters; it takes both nodes to be of one.
            let [one, two] = observations.map(Observation::system_identifier);
            return one.is_none() || one != two;
        }
        if let [Some(one), Some(two)] = observations.map(Observation::candidate)
            && one.timeline != two.timeline
        {
            // Both speak, so neither can be on the other's timeline unseen.
            return false;
        }
        !observations.into_iter().any(|observation| match observation {
            Observation::Unreachable => false,
            Observation::Standby { system_identifier } => system_identifier == self.system_identifier,
            Observation::Primary { system_identifier, timeline, fenced } => {
                system_identifier == self.system_identifier && (fenced || timeline > self.timeline)
            }
        })
    }
}

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
    OtherCluster {
        /// Who.
        node: NodeId,
        /// Its cluster.
        system_identifier: SystemIdentifier,
    },
    /// The only node that answers is on a timeline that was last active on a node which is no longer configured.
    PredecessorUnknown {
        /// Who.
        node: NodeId,
        /// The timeline.
        timeline: Timeline,
    },
}

/// Why two primaries cannot be told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TwoPrimaries {
    /// They are on the same timeline.
    SameTimeline(Timeline),
    /// They belong to different clusters.
    IdentifiersDiffer([SystemIdentifier; 2]),
    /// One is on the timeline that the other was active on. A promotion would have begun a new one, so the other, which
    /// does not answer now, may be primary still.
    NotPromoted {
        /// The one that answers.
        node: NodeId,
        /// The timeline.
        timeline: Timeline,
    },
    /// Two were seen, and the one that does not answer now was never seen to have given in.
    StillContested,
}

/// Chooses from the last observation of each node and what was seen before; `names` are the nodes' names.
pub fn choose(observations: [Observation; 2], names: [&str; 2], past: &Past) -> Choice {
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
    if past.contested.is_some_and(|contested| contested.holds(observations)) {
        return Choice::TwoPrimaries(TwoPrimaries::StillContested);
    }
    let other = observations[node.other().index()];
    // A single node of another cluster may be somebody else's server that took over an address, whether that cluster
    // was ever active or not.
    if past.current.is_some_and(|current| current != position.system_identifier)
        && other.system_identifier() != Some(position.system_identifier)
    {
        return Choice::Nobody(Nobody::OtherCluster { node, system_identifier: position.system_identifier });
    }
    let timeline = position.timeline;
    match past.reached.get(&position.system_identifier) {
        Some(reached) if timeline < reached.timeline => {
            Choice::Nobody(Nobody::Superseded { node, timeline, highest: reached.timeline })
        }
        Some(reached) if timeline == reached.timeline && reached.node != names[node.index()] => {
            let is_other = reached.node == names[node.other().index()];
            match other {
                // It says itself that it is not what it was: the two have changed places or names.
                Observation::Standby { .. } | Observation::Primary { fenced: true, .. } => {
                    Choice::Active(node, position)
                }
                Observation::Primary { fenced: false, .. } if !is_other => Choice::Active(node, position),
                Observation::Unreachable if !is_other => Choice::Nobody(Nobody::PredecessorUnknown { node, timeline }),
                Observation::Primary { fenced: false, .. } | Observation::Unreachable => {
                    Choice::TwoPrimaries(TwoPrimaries::NotPromoted { node, timeline })
                }
            }
        }
        Some(_) | None => Choice::Active(node, position),
    }
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
            Choice::Nobody(Nobody::OtherCluster { node, system_identifier }) => write!(
                f,
                "no active node: {} belongs to another cluster than the one that was active (system identifier \
                 {system_identifier}); nothing is changed until both nodes belong to it; if that is right, remove the \
                 state file",
                self.names[node.index()]
            ),
            Choice::Nobody(Nobody::PredecessorUnknown { node, timeline }) => write!(
                f,
                "no active node: {} is primary on timeline {timeline}, on which a node was active that is no longer \
                 configured; nothing is changed until {} answers too",
                self.names[node.index()],
                self.names[node.other().index()]
            ),
            Choice::TwoPrimaries(TwoPrimaries::SameTimeline(timeline)) => write!(
                f,
                "two primaries: {one} and {two} both take writes on timeline {timeline}; nothing is changed; stop one \
                 of them and make it a standby of the other; if both conninfos lead to one server, correct them"
            ),
            Choice::TwoPrimaries(TwoPrimaries::NotPromoted { node, timeline }) => write!(
                f,
                "two primaries: {} takes writes on timeline {timeline}, on which {} was active, without having been \
                 promoted, and {} does not say that it has given way; nothing is changed; stop one of them and make it \
                 a standby of the other",
                self.names[node.index()],
                self.names[node.other().index()],
                self.names[node.other().index()]
            ),
            Choice::TwoPrimaries(TwoPrimaries::StillContested) => write!(
                f,
                "two primaries: {one} and {two} both took writes, and one of them is silent now; nothing is changed \
                 until one is seen as standby, fenced or promoted"
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
mod tests;
