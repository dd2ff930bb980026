//! What is known of the partner, and how its answers and its silence are taken.

use crate::answer::{Farewell, Miss, Reply, Verdict};
use crate::arming::NotArmed;
use crate::event::{Action, Observation};
use crate::history::Relation;
use crate::node::Node;
use crate::report::{Answer, Role};
use crate::schedule::Due;
use crate::status::PartnerState;
use crate::time::Moment;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

/// What was heard of the primary that this standby follows. It holds for as long as the server runs and the setting that named the partner
/// stays.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Evidence {
    /// [`Settings::partner_generation`](crate::Settings::partner_generation) at that time.
    pub partner_generation: u32,
    /// The primary's last answer.
    pub answer: Answer,
    /// When it last answered.
    pub last_answer: Option<Moment>,
}

/// What is known of the partner.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Partner {
    pub(crate) state: PartnerState,
    pub(crate) answer: Option<Answer>,
    pub(crate) last_answer: Option<Moment>,
    /// It answered as a primary that we follow, while we were streaming. From then on its silence means something.
    pub(crate) heard_as_primary: bool,
    /// Why the last attempt went wrong, empty since an answer.
    pub(crate) last_error: String,
    pub(crate) refused_with: String,
    /// What to do about a partner that does not tell.
    pub(crate) hint: String,
}

impl Default for Partner {
    fn default() -> Self {
        Partner {
            state: PartnerState::Unknown,
            answer: None,
            last_answer: None,
            heard_as_primary: false,
            last_error: String::new(),
            refused_with: String::new(),
            hint: String::new(),
        }
    }
}

impl Node {
    /// Why the answer is not from the partner at all.
    pub(crate) fn stranger(&self, observation: &Observation, answer: &Answer) -> Option<NotArmed> {
        if answer.report.instance == self.instance {
            return Some(NotArmed::PartnerIsOurself);
        }
        (answer.system_identifier != observation.system_identifier)
            .then_some(NotArmed::OtherSystem { ours: observation.system_identifier, theirs: answer.system_identifier })
    }

    /// What speaks against this answer coming from the primary that this standby follows.
    pub(crate) fn against_following(&self, observation: &Observation, answer: &Answer) -> Option<NotArmed> {
        if let Some(stranger) = self.stranger(observation, answer) {
            return Some(stranger);
        }
        if answer.report.role != Role::Primary {
            return Some(NotArmed::PartnerNotPrimary);
        }
        let Some(history) = &observation.history else {
            return Some(NotArmed::HistoryUnknown);
        };
        match answer.relation_to(history, observation.end_of_wal()) {
            // A descendant is a timeline that the standby has yet to follow: streaming brings it there.
            Relation::Same | Relation::Ancestor | Relation::Descendant => None,
            Relation::Forked { .. } => Some(NotArmed::NotOnItsHistory),
        }
    }

    pub(crate) fn keep_alive(&mut self, now: Moment, actions: &mut Vec<Action>) {
        let (Some(schedule), Ok(settings)) = (&mut self.schedule, &self.settings) else {
            return;
        };
        loop {
            match schedule.due(now, settings) {
                Due::Nothing => return,
                Due::Send { fresh } => {
                    if fresh {
                        actions.push(Action::CloseConnection);
                    }
                    actions.push(Action::SendKeepalive);
                }
                Due::Silence => {
                    actions.push(Action::CloseConnection);
                    if let Some(sent) = schedule.failed(now, settings, Miss::Silence) {
                        self.gatekeeper.missed(sent);
                    }
                    self.partner.last_error = format!("no answer within {:?}", settings.limit());
                    self.partner.refused_with.clear();
                    if self.partner.state != PartnerState::Unknown {
                        self.partner.state = PartnerState::Missed;
                    }
                }
                Due::Stale => actions.push(Action::CloseConnection),
            }
        }
    }

    pub(crate) fn take_reply(&mut self, now: Moment, reply: Reply, actions: &mut Vec<Action>) {
        let (Some(schedule), Ok(settings)) = (&mut self.schedule, &self.settings) else {
            return;
        };
        let text = reply.text().to_string();
        let sqlstate = reply.sqlstate().map(|sqlstate| sqlstate.to_string()).unwrap_or_default();
        let verdict = reply.verdict();
        match verdict {
            Verdict::Answered => {
                let sent = schedule.answered(now, settings);
                self.gatekeeper.answered(sent);
                self.partner.last_answer = Some(now);
                self.partner.state = PartnerState::Alive;
                self.partner.last_error.clear();
                self.partner.refused_with.clear();
                if let Reply::Complete(answer) = reply {
                    self.synchronous.heard(now, sent, &answer);
                    self.take_answer(answer);
                }
            }
            Verdict::Unhelpful(why) => {
                schedule.answered(now, settings);
                self.gatekeeper.unanswered();
                self.partner.last_answer = Some(now);
                self.partner.state = PartnerState::Unhelpful;
                self.partner.last_error = text;
                self.partner.refused_with = sqlstate;
                self.partner.hint = why.to_string();
            }
            Verdict::Missed(miss) => {
                if let Some(sent) = schedule.failed(now, settings, miss) {
                    self.gatekeeper.missed(sent);
                }
                if self.partner.state != PartnerState::Unknown {
                    self.partner.state = PartnerState::Missed;
                }
                self.partner.last_error = if text.is_empty() { miss.to_string() } else { text };
                self.partner.refused_with.clear();
                actions.push(Action::CloseConnection);
            }
            Verdict::NotAsked(fault) => {
                schedule.not_asked(now, settings);
                self.gatekeeper.unanswered();
                self.partner.state = PartnerState::NotAsked;
                self.partner.last_error = text;
                self.partner.refused_with.clear();
                self.partner.hint = fault.to_string();
                actions.push(Action::CloseConnection);
            }
        }
    }

    fn take_answer(&mut self, answer: Answer) {
        let follows = self.seen.as_ref().is_some_and(|seen| {
            seen.observation.in_recovery && self.against_following(&seen.observation, &answer).is_none()
        });
        let streams = self.seen.as_ref().is_some_and(|seen| seen.observation.streaming);
        // Once heard it stays so while the answers agree: the WAL receiver of a standby whose primary dies is gone before the primary is
        // lost.
        self.partner.heard_as_primary = follows && (streams || self.partner.heard_as_primary);
        if follows {
            self.gatekeeper.relied_upon(self.now, &answer);
        }
        self.partner.answer = Some(answer);
    }

    pub(crate) fn lose_connection(&mut self, farewell: Option<Farewell>, actions: &mut Vec<Action>) {
        let (Some(schedule), Ok(settings)) = (&mut self.schedule, &self.settings) else {
            return;
        };
        let orderly = farewell.as_ref().is_some_and(Farewell::is_orderly);
        actions.push(Action::CloseConnection);
        // A standby that was stopped in order is as dead as one that was killed, for all that commits wait for it.
        let primary = self.seen.as_ref().is_some_and(|seen| !seen.observation.in_recovery);
        let probe = if primary { settings.synchronous } else { settings.fast_failover && !orderly };
        if schedule.connection_lost(probe) {
            actions.push(Action::SendKeepalive);
        }
    }
}
