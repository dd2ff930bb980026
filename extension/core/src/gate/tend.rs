//! One look at the gate: is this server open, for how long, and what is its standby's promise?

use super::{Gate, GateKind, Hold, News, alone};
use crate::event::{Action, Level, Notice, Observation, earliest};
use crate::node::Node;
use crate::promotion::Promotion;
use crate::report::{Answer, Role};
use crate::schedule::Schedule;
use crate::settings::{Inert, OnUnknownPartner, Settings};
use crate::status::PartnerState;
use crate::time::Moment;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

/// The part of an attempt's limit before its end at which a permit is renewed out of turn.
const RENEWAL: u32 = 4;

impl Node {
    /// Why commits wait now though clients are let in, in a clause.
    pub(crate) fn commits_wait(&self) -> Option<String> {
        let gatekeeper = &self.gatekeeper;
        match (gatekeeper.gate, gatekeeper.hold) {
            _ if self.role() != Some(Role::Primary) => None,
            (Gate::Open { .. }, Hold::Lapsed) => {
                let why = self.unknown_because(true);
                Some(format!("commits wait, for this server was away and may have been superseded: {why}"))
            }
            (Gate::Open { .. }, Hold::Handover) => {
                Some("commits wait until the former primary takes no writes any more, or does not answer".to_string())
            }
            // In the calm an old permit has no obstacle: it is renewed before anybody is told.
            (Gate::Open { until }, Hold::None) if self.now >= until && !gatekeeper.obstacle.is_empty() => {
                Some(format!("commits wait: {}", gatekeeper.obstacle))
            }
            (Gate::Open { .. }, Hold::None) | (Gate::Closed | Gate::Fenced, _) => None,
        }
    }

    /// What the hooks are to obey.
    pub fn gate(&self) -> Gate {
        self.gatekeeper.gate()
    }

    /// The instant before which this standby does not promote itself, unless its primary is proven dead. To be handed to the keeper's next
    /// worker.
    pub fn promised(&self) -> Moment {
        self.gatekeeper.promised()
    }

    /// What the partner is told of that with each answer: no more than [`Node::promised`], and less where settings were shortened and the
    /// primary has not let go of the old promise yet.
    pub fn offered(&self) -> Moment {
        self.gatekeeper.offered()
    }

    /// Ends every look at the server: is it open, for how long, and must it be fenced?
    pub(crate) fn tend_gate(&mut self, now: Moment, observation: &Observation, actions: &mut Vec<Action>) {
        let before = self.gatekeeper.gate;
        let news = self.gatekeeper.news.take();
        self.void_fence(observation, actions);
        self.notice_absence(now);
        if observation.in_recovery {
            self.gatekeeper.rest();
        } else {
            self.decide_gate(now, observation, news, actions);
        }
        self.gatekeeper.slept = false;
        let gate = self.gatekeeper.gate;
        // First what stops commits, then what ends those who are in, then what lasts.
        if before != gate {
            actions.push(Action::SetGate(gate));
        }
        if gate == Gate::Fenced {
            actions.push(Action::EndClients);
        }
        if let (Some(fence), Some(from)) = (&self.gatekeeper.fence, self.gatekeeper.unkept)
            && now >= from
        {
            actions.push(Action::KeepFence(fence.clone()));
            self.gatekeeper.unkept = None;
        }
    }

    /// A fence holds for a server that was never rejoined.
    fn void_fence(&mut self, observation: &Observation, actions: &mut Vec<Action>) {
        if let (Some(fence), Some(history)) = (&self.gatekeeper.fence, &observation.history)
            && history.holds(fence.left)
        {
            // What superseded it is part of its own history.
            self.gatekeeper.fence = None;
            self.gatekeeper.unkept = None;
            if self.gatekeeper.gate == Gate::Fenced {
                self.gatekeeper.gate = Gate::Closed;
            }
        }
        // Whatever the file said, a standby that follows its primary is part of that one's history.
        if observation.in_recovery && self.partner.heard_as_primary && self.gatekeeper.damaged.take().is_some() {
            actions.push(Action::SetFenceAside);
        }
    }

    fn decide_gate(&mut self, now: Moment, observation: &Observation, news: Option<News>, actions: &mut Vec<Action>) {
        let was_standby = core::mem::take(&mut self.gatekeeper.was_standby);
        if self.gatekeeper.in_force().is_some() {
            self.gatekeeper.gate = Gate::Fenced;
            return;
        }
        if self.gatekeeper.damaged.is_some() {
            self.gatekeeper.gate = Gate::Closed;
            return;
        }
        let settings = match &self.settings {
            Ok(settings) if settings.enabled => settings.clone(),
            Ok(_) | Err(Inert::NoPartner) => return self.gatekeeper.open_for_good(),
            // It cannot ask anybody, like a server that starts.
            Err(Inert::BadSettings(_)) if was_standby => {
                self.gatekeeper.gate = Gate::Closed;
                return;
            }
            Err(Inert::BadSettings(_)) => return,
        };
        let reopened = self.gatekeeper.gate == Gate::Open { until: Moment::NEVER };
        if was_standby {
            let by_keeper = matches!(self.promotion, Promotion::Recording { .. });
            let takes_writes =
                |answer: &Answer| answer.report.role == Role::Primary && answer.report.gate == GateKind::Open;
            let answers =
                self.partner.state == PartnerState::Alive && self.partner.answer.as_ref().is_some_and(takes_writes);
            // Promoted by hand, it has promised what the keeper would have kept: the former primary takes writes as long, silent or not.
            let lost = self.schedule.as_ref().is_some_and(|schedule| schedule.is_lost(&settings));
            if !by_keeper && (answers || !lost || now < self.gatekeeper.promised) {
                self.gatekeeper.hold = Hold::Handover;
            } else if core::mem::take(&mut self.gatekeeper.away) {
                self.ask_anew(now, &settings, actions);
            } else {
                self.gatekeeper.open_alone(now, &settings);
            }
        } else if reopened {
            self.gatekeeper.open_alone(now, &settings);
        }
        self.notice_stall(now, &settings, actions);
        let missed = matches!(news, Some(News::Missed(sent)) if self.gatekeeper.asked.is_none_or(|asked| sent > asked));
        match news {
            Some(News::Answered(sent)) => self.judge(now, sent, observation, &settings, actions),
            Some(News::Missed(_))
                if missed && self.gatekeeper.hold == Hold::Handover && now >= self.gatekeeper.promised =>
            {
                self.gatekeeper.tell_opening("the former primary does not answer any more", actions);
                self.gatekeeper.open_alone(now, &settings);
            }
            Some(News::Missed(_)) if self.is_open_and_unheld() && (missed || self.is_valid(now)) => {
                self.gatekeeper.open_alone(now, &settings)
            }
            Some(News::Nothing) if self.is_open_and_unheld() => self.gatekeeper.open_alone(now, &settings),
            None if self.goes_on_alone(now, &settings) => self.gatekeeper.open_alone(now, &settings),
            Some(News::Missed(_) | News::Nothing) | None => {}
        }
        self.act_on_silence(now, missed, &settings, actions);
        self.renew_early(now, &settings, actions);
    }

    /// Asks out of turn when the permit would end before the next answer comes: a standby with `keepalive_count = 1` promises no longer.
    fn renew_early(&mut self, now: Moment, settings: &Settings, actions: &mut Vec<Action>) {
        let Gate::Open { until } = self.gatekeeper.gate else { return };
        if self.is_open_and_unheld() && now < until && now >= until - settings.limit() / RENEWAL {
            self.hasten(now);
            self.keep_alive(now, actions);
        }
    }

    /// A keeper that stands still while a promotion is under way does not know, when it goes on, whether the partner is still silent.
    fn notice_absence(&mut self, now: Moment) {
        let looked = self.gatekeeper.looked.replace(now);
        let promotes = matches!(self.promotion, Promotion::Asked { .. } | Promotion::Recording { .. });
        if let (Some(looked), true, Ok(settings)) = (looked, promotes, &self.settings) {
            self.gatekeeper.away |= now.since(looked) > alone(settings);
        }
    }

    /// Whether commits pass.
    fn is_valid(&self, now: Moment) -> bool {
        matches!(self.gatekeeper.gate, Gate::Open { until } if now < until)
    }

    /// Whether a permit on our own evidence is to be renewed: it still holds, and a good part of it is gone.
    fn goes_on_alone(&self, now: Moment, settings: &Settings) -> bool {
        let Gate::Open { until } = self.gatekeeper.gate else { return false };
        let is_used = until.since(now) <= settings.limit() / 2;
        self.is_valid(now) && is_used && self.gatekeeper.alone && self.gatekeeper.hold == Hold::None
    }

    pub(super) fn is_open_and_unheld(&self) -> bool {
        matches!(self.gatekeeper.gate, Gate::Open { .. }) && self.gatekeeper.hold == Hold::None
    }

    /// An open server renews its permit well before it ends. One that did not for a whole `keepalive_time` was away.
    fn notice_stall(&mut self, now: Moment, settings: &Settings, actions: &mut Vec<Action>) {
        let Gate::Open { until } = self.gatekeeper.gate else { return };
        // A permit that rests on a promise ends when the promise does: whoever stood still then may have been superseded since.
        let slept = core::mem::take(&mut self.gatekeeper.slept) && !self.gatekeeper.alone && now >= until;
        let away = now.since(until) > settings.keepalive_time || (slept && until != Moment::default());
        if self.gatekeeper.hold != Hold::None || !away {
            return;
        }
        actions.push(Action::Log(Notice {
            level: Level::Warning,
            message: format!(
                "commits wait, for this server was away and may have been superseded: its permit ended {:?} ago",
                now.since(until)
            ),
            detail:
                "They go on when the partner has said that it is no primary, or has been silent for a whole window."
                    .to_string(),
            hint: String::new(),
        }));
        self.ask_anew(now, settings, actions);
    }

    /// What was missed before counts no more: the partner is asked anew, for a whole window.
    fn ask_anew(&mut self, now: Moment, settings: &Settings, actions: &mut Vec<Action>) {
        self.gatekeeper.hold = Hold::Lapsed;
        self.schedule = Some(Schedule::starting(now, settings));
        actions.push(Action::CloseConnection);
        self.keep_alive(now, actions);
    }

    /// Whether the partner has been silent for so long that its answer is not waited for.
    fn act_on_silence(&mut self, now: Moment, missed: bool, settings: &Settings, actions: &mut Vec<Action>) {
        let lost = self.schedule.as_ref().is_some_and(|schedule| schedule.is_lost(settings));
        if self.gatekeeper.gate == Gate::Closed {
            let since = *self.gatekeeper.closed_since.get_or_insert(now);
            if !lost || !missed || now < since + settings.window() {
                return;
            }
            if !self.opens_alone(settings) {
                return;
            }
            self.gatekeeper.open_alone(now, settings);
            actions.push(Action::Log(Notice {
                level: Level::Warning,
                message: "this server takes writes although its partner is not known".to_string(),
                detail: format!("The partner has been silent for {:?}.", now.since(since)),
                hint: "If the partner is primary, this server fences itself as soon as it hears that.".to_string(),
            }));
        } else if lost && missed && self.gatekeeper.hold != Hold::None && now >= self.gatekeeper.promised {
            self.gatekeeper.tell_opening("the partner has been silent for a whole window", actions);
            self.gatekeeper.open_alone(now, settings);
        }
    }

    /// How long this standby will not promote itself, whatever happens to its primary short of a proven death. What was promised is kept,
    /// also when settings change; it may be prolonged.
    pub(crate) fn promise(&mut self, now: Moment) {
        let (Some(seen), Some(schedule), Ok(settings)) = (&self.seen, &self.schedule, &self.settings) else {
            return;
        };
        // Never further ahead than a standby needs that starts anew now: a restart of the server forgets the promise, and must not break it.
        let longest = now + Schedule::patience(settings);
        let until = match &self.promotion {
            _ if !seen.observation.in_recovery || self.gatekeeper.promotion_asked => return,
            Promotion::None if self.not_armed().is_some() => longest,
            Promotion::None => schedule.earliest_loss(settings).min(longest),
            Promotion::PutOff { until, .. } => longest.min(*until),
            Promotion::BeforeCommand(_)
            | Promotion::Asked { .. }
            | Promotion::Recording { .. }
            | Promotion::AfterCommand => return,
        };
        self.gatekeeper.offered = until;
        self.gatekeeper.promised = self.gatekeeper.promised.max(until);
    }

    /// When the gate must be looked at though nothing happens.
    pub(crate) fn gate_deadline(&self, now: Moment) -> Option<Moment> {
        let gate = match (&self.settings, &self.schedule, self.gatekeeper.gate, self.gatekeeper.closed_since) {
            (Ok(settings), Some(schedule), Gate::Closed, Some(since))
                if self.opens_alone(settings) && schedule.is_lost(settings) =>
            {
                Some(since + settings.window())
            }
            (Ok(settings), _, Gate::Open { until }, _) if until != Moment::NEVER && self.is_open_and_unheld() => {
                Some(until - settings.limit() / RENEWAL)
            }
            (Ok(_) | Err(_), _, Gate::Closed | Gate::Open { .. } | Gate::Fenced, _) => None,
        };
        earliest([gate, self.gatekeeper.unkept].map(|deadline| deadline.filter(|deadline| *deadline > now)))
    }

    /// Whether a whole window of silence opens this server.
    pub(crate) fn opens_alone(&self, settings: &Settings) -> bool {
        settings.on_unknown_partner == OnUnknownPartner::Open && self.gatekeeper.damaged.is_none()
    }
}
