//! One node of the pair: everything it decides.
//!
//! [`Node::step`] is the only way in. A step takes in one fact, and then lets four questions be answered in a fixed order: is a keepalive
//! due, is the partner lost, may this server promote itself, and what does an administrator need to be told.

use crate::event::{Action, Event, Observation, Parameters, earliest};
use crate::fence::Kept;
use crate::gate::{Gate, Gatekeeper};
use crate::ident::Lsn;
use crate::partner::{Evidence, Partner};
use crate::promotion::Promotion;
use crate::schedule::Schedule;
use crate::settings::{Inert, Settings};
use crate::status::PartnerState;
use crate::synchronous::SynchronousKeeper;
use crate::telling::Told;
use crate::time::Moment;
use alloc::format;
use alloc::vec::Vec;

/// A node's memory. It is lost when the worker ends, and rebuilt from the server and the partner's next answer; what was heard before may
/// be handed in again as [`Evidence`], so that a worker that is restarted while the primary is dead still promotes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Node {
    /// The time of the last step.
    pub(crate) now: Moment,
    pub(crate) instance: u64,
    pub(crate) parameters: Parameters,
    pub(crate) settings: Result<Settings, Inert>,
    pub(crate) schedule: Option<Schedule>,
    pub(crate) seen: Option<Seen>,
    pub(crate) partner: Partner,
    pub(crate) promotion: Promotion,
    pub(crate) gatekeeper: Gatekeeper,
    pub(crate) synchronous: SynchronousKeeper,
    pub(crate) told: Told,
    evidence: Option<Evidence>,
}

/// What a worker that starts is handed.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Start {
    /// A random number, new at each start of the server.
    pub instance: u64,
    /// The server's settings that a standby must not undercut.
    pub parameters: Parameters,
    /// What [`Node::evidence`] said to an earlier worker of the same start of the server.
    pub evidence: Option<Evidence>,
    /// What the hooks obey now: [`Gate::Closed`] since the server's start, or what an earlier worker said.
    pub gate: Gate,
    /// The fence on disk.
    pub fence: Kept,
    /// What [`Node::promised`] said to an earlier worker of the same start of the server.
    pub promised: Moment,
    /// An earlier worker has asked the server to promote, and nothing has come of it yet.
    pub promotion_asked: bool,
}

/// The last look at our own server.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Seen {
    pub(crate) at: Moment,
    pub(crate) observation: Observation,
}

impl Node {
    /// A node whose worker has just started.
    pub fn new(start: Start) -> Self {
        let Start { instance, parameters, evidence, gate, fence, promised, promotion_asked } = start;
        Node {
            now: Moment::default(),
            instance,
            parameters,
            settings: Err(Inert::NoPartner),
            schedule: None,
            seen: None,
            partner: Partner::default(),
            promotion: Promotion::None,
            gatekeeper: Gatekeeper::new(gate, fence, promised, promotion_asked),
            synchronous: SynchronousKeeper::default(),
            told: Told::default(),
            evidence,
        }
    }

    /// What the next worker needs to know if this one ends; `None` while there is no primary that this standby follows.
    pub fn evidence(&self) -> Option<Evidence> {
        let settings = self.settings.as_ref().ok()?;
        let answer = self.partner.answer.clone().filter(|_| self.partner.heard_as_primary)?;
        Some(Evidence {
            partner_generation: settings.partner_generation,
            answer,
            last_answer: self.partner.last_answer,
        })
    }

    /// Takes in what happened and says what must be done, in this order; the first action that fails ends the list, and its failure is
    /// the next event.
    pub fn step(&mut self, now: Moment, event: Event) -> Vec<Action> {
        let mut actions = Vec::new();
        self.now = now;
        if let (Some(schedule), Ok(settings)) = (&mut self.schedule, &self.settings)
            && schedule.woke(now, settings)
            && self.gatekeeper.stood_still(now)
        {
            schedule.begin_anew(now, settings);
        }
        match event {
            Event::SettingsRead(settings) => self.take_settings(now, settings, &mut actions),
            Event::Observed(observation) => self.look(now, observation, &mut actions),
            Event::KeepaliveEnded(reply) => self.take_reply(now, reply, &mut actions),
            Event::ConnectionLost { farewell } => self.lose_connection(farewell, &mut actions),
            Event::CommandEnded(command, outcome) => self.end_command(now, command, outcome, &mut actions),
            Event::PromotionRefused(error) => {
                actions.push(Action::TakeBackStory);
                self.put_off(now, format!("the server refused to promote: {error}"), &mut actions);
            }
            Event::CommitWaits => self.hasten(now),
            Event::AskedByPartner => {
                self.gatekeeper.asked(now);
                // In the calm our own question comes soon enough.
                if self.partner.state != PartnerState::Alive || matches!(self.gate(), Gate::Closed) {
                    self.hasten(now);
                }
            }
            Event::LiftRequested => self.lift(now, &mut actions),
            Event::FenceNotKept(error) => self.keep_fence_again(now, &error, &mut actions),
            Event::SynchronousNamesNotSet(error) => self.synchronous.not_set(error, &mut actions),
        }
        self.promise(now);
        self.tell_changes(&mut actions);
        // Upkeep that can fail comes last: a failure ends the list, and nothing else is to wait for a disk that is full.
        actions.sort_by_key(|action| matches!(action, Action::KeepFence(_) | Action::SetSynchronousStandbyNames(_)));
        let until = self.next_deadline(now);
        if let Some(schedule) = &mut self.schedule {
            schedule.sleeps(until);
        }
        actions
    }

    /// The instant by which the worker must look again; `None` when only an event can change anything.
    pub fn next_deadline(&self, now: Moment) -> Option<Moment> {
        let keepalive = match (&self.schedule, &self.settings) {
            (Some(schedule), Ok(settings)) => Some(schedule.next_deadline(settings)),
            _ => None,
        };
        // A promotion that only its promise holds back.
        let promised = Some(self.promised()).filter(|promised| {
            *promised > now && self.partner_state() == PartnerState::Lost && self.not_armed().is_none()
        });
        earliest([
            keepalive,
            self.promotion.next_deadline(now),
            promised,
            self.gate_deadline(now),
            self.synchronous_deadline(now),
        ])
    }

    pub(crate) fn hasten(&mut self, now: Moment) {
        if let (Some(schedule), Ok(settings)) = (&mut self.schedule, &self.settings) {
            schedule.hasten(now, settings);
        }
    }

    fn take_settings(&mut self, now: Moment, settings: Result<Settings, Inert>, actions: &mut Vec<Action>) {
        let generation =
            |settings: &Result<Settings, Inert>| settings.as_ref().ok().map(|settings| settings.partner_generation);
        if generation(&self.settings) != generation(&settings) {
            // Another partner: what was heard so far was not from it.
            actions.push(Action::CloseConnection);
            self.partner = Partner::default();
            self.gatekeeper.forget_partner();
            self.synchronous.forget_partner();
            if let Some(evidence) =
                self.evidence.take_if(|evidence| Some(evidence.partner_generation) == generation(&settings))
            {
                self.synchronous.remember(&evidence.answer);
                self.partner.answer = Some(evidence.answer);
                self.partner.last_answer = evidence.last_answer;
                self.partner.heard_as_primary = true;
            }
            self.schedule = settings.as_ref().ok().map(|settings| Schedule::starting(now, settings));
        } else if let (Some(schedule), Ok(new), Ok(old)) = (&mut self.schedule, &settings, &self.settings)
            && new.keepalive_time != old.keepalive_time
        {
            schedule.rebase(now, new);
        }
        self.gatekeeper.settings_changed();
        self.settings = settings;
    }

    fn look(&mut self, now: Moment, observation: Observation, actions: &mut Vec<Action>) {
        let before = self.seen.replace(Seen { at: now, observation: observation.clone() });
        if let Some(schedule) = &mut self.schedule {
            schedule.streaming(observation.in_recovery && observation.streaming);
            schedule.be_eager(!observation.in_recovery);
        }
        let streamed = before.filter(|before| {
            observation.in_recovery && observation.streaming && observation.received > before.observation.received
        });
        if let (Some(before), true, Some(schedule), Ok(settings)) =
            (streamed, self.partner.heard_as_primary, &mut self.schedule, &self.settings)
        {
            // It came in at some time since the last look; that look is the time that can be vouched for.
            schedule.heard(before.at, settings);
            self.partner.last_answer = self.partner.last_answer.max(Some(before.at));
            if self.partner.state == PartnerState::Missed {
                self.partner.state = PartnerState::Alive;
            }
        }
        self.keep_alive(now, actions);
        self.go_on_promoting(now, &observation, actions);
        self.tend_gate(now, &observation, actions);
        self.tend_synchronous(now, &observation, actions);
        self.consider_promotion(now, &observation, actions);
    }
}

impl Observation {
    /// The end of the WAL that this server has.
    pub fn end_of_wal(&self) -> Lsn {
        self.received.max(self.replayed)
    }
}
