//! Whom applications' files follow.

use std::time::Duration;

use crate::choose::{Choice, NodeId, Position};

/// The active node, as targets are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Active {
    /// Which.
    pub node: NodeId,
    /// Its place in the history.
    pub position: Position,
}

/// What a choice means to files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Followed {
    /// Whom they follow from now on. Nobody without evidence: then nothing is changed, also not back, for whoever edits a file
    /// now knows more.
    pub active: Option<Active>,
    /// What is new about it.
    pub news: News,
}

/// What is new about the node that files follow, whether or not there was evidence all the time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News {
    /// It is the same as before, or nobody.
    Nothing,
    /// It is the first one, or the same node after another promotion.
    Position,
    /// It is another node.
    Node,
}

/// The node that was followed last.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Following(Option<Active>);

impl Following {
    /// Takes in a choice.
    pub fn take(&mut self, choice: Choice) -> Followed {
        let Choice::Active(node, position) = choice else {
            return Followed { active: None, news: News::Nothing };
        };
        let active = Active { node, position };
        let news = match self.0.replace(active) {
            Some(before) if before == active => News::Nothing,
            Some(before) if before.node != node => News::Node,
            Some(_) | None => News::Position,
        };
        Followed { active: Some(active), news }
    }
}

/// How long an application that reads several files waits for each of them to be tried; a file may hang.
pub const OTHERS_WITHIN: Duration = Duration::from_secs(2);

/// Whether an application may be restarted: once each of its files was `tried` for the active node, so that one restart serves
/// all. `waiting`: for how long its own file has been followed.
pub fn all_tried(tried: impl IntoIterator<Item = Option<Active>>, active: Active, waiting: Duration) -> bool {
    waiting >= OTHERS_WITHIN || tried.into_iter().all(|tried| tried == Some(active))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::choose::{Nobody, TwoPrimaries};
    use crate::units::{SystemIdentifier, Timeline};

    #[test]
    fn without_evidence_files_are_left_alone() {
        let position = |timeline| Position { system_identifier: SystemIdentifier(7), timeline: Timeline(timeline) };
        let first = Active { node: NodeId::First, position: position(1) };
        let second = Active { node: NodeId::Second, position: position(2) };
        let promoted = Active { node: NodeId::Second, position: position(4) };
        let active = |active: Active| Choice::Active(active.node, active.position);
        let mut following = Following::default();
        for (choice, followed, news) in [
            (Choice::Nobody(Nobody::NoPrimary), None, News::Nothing),
            (active(first), Some(first), News::Position),
            (active(first), Some(first), News::Nothing),
            (Choice::Nobody(Nobody::BothUnreachable), None, News::Nothing),
            // It was away for a while, and files are put right again if somebody changed them.
            (active(first), Some(first), News::Nothing),
            (Choice::TwoPrimaries(TwoPrimaries::SameTimeline(Timeline(1))), None, News::Nothing),
            (active(second), Some(second), News::Node),
            (active(promoted), Some(promoted), News::Position),
        ] {
            assert_eq!(following.take(choice), Followed { active: followed, news }, "{choice:?}");
        }
    }

    #[test]
    fn one_restart_serves_all_files_of_an_application() {
        let position = |timeline| Position { system_identifier: SystemIdentifier(7), timeline: Timeline(timeline) };
        let before = Active { node: NodeId::First, position: position(1) };
        let active = Active { node: NodeId::Second, position: position(2) };
        for (tried, waiting, may) in [
            ([Some(active), Some(active)], 0, true),
            ([Some(active), Some(before)], 0, false),
            ([Some(active), None], 1999, false),
            ([Some(active), None], 2000, true),
        ] {
            assert_eq!(all_tried(tried, active, Duration::from_millis(waiting)), may, "{tried:?} {waiting}");
        }
    }
}
