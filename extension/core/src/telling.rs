//! What a node tells: its status to an administrator, its report to the partner, its changes to the log.

use crate::arming::NotArmed;
use crate::event::{Action, Level, Notice, Observation};
use crate::fence::FENCE_FILE;
use crate::gate::{Gate, GateKind, Standing};
use crate::node::{Node, Seen};
use crate::promotion::Promotion;
use crate::report::{Answer, Report, Role, Sight};
use crate::schedule::Schedule;
use crate::settings::Settings;
use crate::status::{PartnerState, State, Status};
use crate::version::Version;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::time::Duration;

/// What an administrator may do who knows more than the keeper.
const LIFT: &str = "if it is certain that no other server is active, SELECT pg_keeper.lift_fence() opens this one";

/// What has been said to the log, so that only changes are.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(crate) struct Told {
    partner: Option<PartnerState>,
    /// A standby's gate says nothing.
    partner_role: Option<(Role, Option<GateKind>)>,
    armed: Option<bool>,
    not_armed: String,
    inert: String,
}

impl Node {
    /// What the partner is told when it asks.
    pub fn report(&self, node_name: &str) -> Report {
        let settings = self.settings.as_ref().ok();
        Report {
            role: self.role().unwrap_or(Role::Standby),
            instance: self.instance,
            node_name: node_name.to_string(),
            enabled: settings.is_none_or(|settings| settings.enabled),
            keepalive_time: settings.map(|settings| settings.keepalive_time).unwrap_or_default(),
            keepalive_count: settings.map_or(0, |settings| settings.keepalive_count),
            parameters: self.parameters,
            streaming: self.seen.as_ref().is_some_and(|seen| seen.observation.streaming),
            sight: Sight { state: self.partner_state(), sqlstate: self.partner.refused_with.clone() },
            gate: self.gate().kind(),
            before_command_limit: settings.map(|settings| settings.before_command_limit).unwrap_or_default(),
            synchronous: self.synchronous_report(),
            // What the moment of answering alone knows.
            promise: Duration::ZERO,
            permit: Duration::ZERO,
            keeper_age: Duration::ZERO,
            version: Version::OURS,
            on_standby_loss: settings.filter(|settings| settings.synchronous).map(|settings| settings.on_standby_loss),
        }
    }

    /// What an administrator is told.
    pub fn status(&self) -> Status {
        let observation = self.seen.as_ref().map(|seen| &seen.observation);
        let answer = self.partner.answer.as_ref();
        Status {
            role: self.role(),
            state: self.state(),
            reason: self.reason(),
            partner: answer.map(|answer| answer.report.node_name.clone()).unwrap_or_default(),
            partner_state: self.partner_state(),
            partner_report: answer.map(|answer| answer.report.clone()),
            keepalives_missed: self.schedule.as_ref().map_or(0, Schedule::missed),
            last_answer: self.partner.last_answer,
            timeline: observation.map(|observation| observation.timeline).unwrap_or_default(),
            lsn: observation.map(Observation::end_of_wal).unwrap_or_default(),
            partner_timeline: answer.map(|answer| answer.timeline).unwrap_or_default(),
            partner_lsn: answer.map(|answer| answer.lsn).unwrap_or_default(),
            lag: self.lag(),
            armed: self.not_armed().is_none(),
            fence: self.fence_status(),
            synchronous: self.synchronous_status(),
            last_error: self.partner.last_error.clone(),
            refused_with: self.partner.refused_with.clone(),
        }
    }

    pub(crate) fn role(&self) -> Option<Role> {
        self.seen.as_ref().map(|seen| if seen.observation.in_recovery { Role::Standby } else { Role::Primary })
    }

    pub(crate) fn partner_state(&self) -> PartnerState {
        let lost = match (&self.schedule, &self.settings) {
            (Some(schedule), Ok(settings)) => schedule.is_lost(settings),
            _ => false,
        };
        if lost { PartnerState::Lost } else { self.partner.state }
    }

    fn lag(&self) -> Option<u64> {
        let observation = &self.seen.as_ref()?.observation;
        let answer = self.partner.answer.as_ref()?;
        (observation.in_recovery && answer.report.role == Role::Primary)
            .then(|| answer.lsn.bytes_since(observation.end_of_wal()))
    }

    fn state(&self) -> State {
        match &self.promotion {
            Promotion::BeforeCommand(_) => return State::RunningBeforeCommand,
            Promotion::Asked { .. } => return State::Promoting,
            Promotion::Recording { .. } => return State::Recording,
            Promotion::AfterCommand => return State::RunningAfterCommand,
            Promotion::None | Promotion::PutOff { .. } => {}
        }
        if self.role() == Some(Role::Primary) {
            match self.gate() {
                Gate::Fenced => return State::Fenced,
                // Settings that nothing can be done with are what has to be mended first.
                Gate::Closed if self.settings.is_ok() => return State::Guarded,
                Gate::Closed | Gate::Open { .. } => {}
            }
        }
        let partner_enabled = self.partner.answer.as_ref().is_none_or(|answer| answer.report.enabled);
        match (&self.settings, self.partner_state()) {
            (Err(_), _) => State::Inert,
            (Ok(settings), _) if !settings.enabled || !partner_enabled => State::Disabled,
            (Ok(_), PartnerState::Lost) => State::PartnerLost,
            (Ok(_), PartnerState::Unknown) => State::Starting,
            (Ok(_), PartnerState::Alive | PartnerState::Unhelpful | PartnerState::NotAsked | PartnerState::Missed) => {
                State::Watching
            }
        }
    }

    fn fence_status(&self) -> String {
        if self.role() != Some(Role::Primary) {
            return "none".to_string();
        }
        match (self.gate(), self.gatekeeper.fence(), self.commits_wait()) {
            (Gate::Fenced, Some(fence), _) => format!("fenced: {fence}"),
            (Gate::Fenced, None, _) => "fenced".to_string(),
            (Gate::Closed, ..) => format!("closed: {}", self.closed_because()),
            (Gate::Open { .. }, _, Some(waits)) => waits,
            (Gate::Open { .. }, Some(fence), None) if fence.lifted => format!("lifted, although {fence}"),
            (Gate::Open { .. }, ..) => "none".to_string(),
        }
    }

    /// What keeps the return guard standing, in a clause.
    pub(crate) fn closed_because(&self) -> String {
        match (self.gatekeeper.damaged(), &self.settings) {
            (Some(damage), _) => format!(
                "the file {FENCE_FILE} in the data directory cannot be believed ({damage}), so nobody knows whether this server is superseded"
            ),
            (None, Ok(settings)) => self.unknown_because(self.opens_alone(settings)),
            (None, Err(_)) => "the partner cannot be asked".to_string(),
        }
    }

    /// Why it is not known what the partner is, in a clause; with what its silence leads to.
    pub(crate) fn unknown_because(&self, opens_alone: bool) -> String {
        let error = &self.partner.last_error;
        match self.partner_state() {
            PartnerState::Alive => self.gatekeeper.obstacle().to_string(),
            PartnerState::Unhelpful => format!("the partner is there and does not say what it is: {error}"),
            PartnerState::NotAsked => format!("the partner could not be asked what it is: {error}"),
            PartnerState::Unknown | PartnerState::Missed | PartnerState::Lost if error.is_empty() => {
                "the partner has not answered yet".to_string()
            }
            PartnerState::Unknown | PartnerState::Missed | PartnerState::Lost if opens_alone => {
                let window = self.settings.as_ref().map(Settings::window).unwrap_or_default();
                format!(
                    "the partner does not answer ({error}), and is waited for until it has been silent for {window:?}"
                )
            }
            PartnerState::Unknown | PartnerState::Missed | PartnerState::Lost => {
                format!("the partner does not answer ({error}), and pg_keeper.on_unknown_partner is \"wait\"")
            }
        }
    }

    /// Why this primary takes no writes, with what to do; `None` when it takes them.
    pub fn closed_reason(&self) -> Option<String> {
        if self.role() != Some(Role::Primary) {
            return None;
        }
        const LIFT: &str =
            "if it is certain that no other server is active, SELECT pg_keeper.lift_fence() opens this one";
        match (self.gate(), self.gatekeeper.fence()) {
            (Gate::Fenced, Some(fence)) => Some(format!(
                "this server is fenced: {fence}; SELECT pg_keeper.rejoin_plan() prints the commands that make it a standby of {}",
                fence.by
            )),
            (Gate::Fenced, None) => {
                Some(format!("this server is fenced, and its partner has not said again by whom; {LIFT}"))
            }
            (Gate::Closed, _) => Some(format!("{}; {LIFT}{}", self.closed_because(), self.partner_hint())),
            (Gate::Open { .. }, _) => None,
        }
    }

    /// What to do about a partner that does not tell: what ends a sentence, and the sentences after it.
    fn partner_hint(&self) -> String {
        match self.partner_state() {
            PartnerState::Unhelpful | PartnerState::NotAsked => format!(". {}", self.partner.hint),
            PartnerState::Unknown | PartnerState::Alive | PartnerState::Missed | PartnerState::Lost => String::new(),
        }
    }

    fn reason(&self) -> String {
        let closed = self.closed_reason();
        let settings = match &self.settings {
            Ok(settings) => settings,
            Err(inert) => return closed.map_or_else(|| inert.to_string(), |closed| format!("{inert}; {closed}")),
        };
        if let Some(closed) = closed {
            return closed;
        }
        match self.commits_wait() {
            Some(waits) if self.gatekeeper.is_held() => return format!("{waits}; {LIFT}{}", self.partner_hint()),
            Some(waits) => return waits,
            None => {}
        }
        match &self.promotion {
            Promotion::BeforeCommand(_) => return "pg_keeper.before_command is running".to_string(),
            Promotion::PutOff { reason, .. } if self.partner_state() == PartnerState::Lost => {
                return format!("the promotion did not go ahead, and is tried again: {reason}");
            }
            Promotion::Asked { complained: true, .. } => {
                return "the promotion has not finished: replay is held up, see the startup process in pg_stat_activity".to_string();
            }
            Promotion::Asked { .. } => return "the server has been asked to promote".to_string(),
            Promotion::Recording { .. } => return "promoted; the row in failover_log is being written".to_string(),
            Promotion::AfterCommand => return "pg_keeper.after_command is running".to_string(),
            Promotion::None | Promotion::PutOff { .. } => {}
        }
        let error = &self.partner.last_error;
        let partner = match (self.partner_state(), &self.partner.answer) {
            (PartnerState::Unknown, _) if error.is_empty() => "the partner has not been asked yet".to_string(),
            (PartnerState::Unknown, _) => format!("the partner has never answered: {error}"),
            (PartnerState::Alive, Some(answer)) => self.describe(answer),
            (PartnerState::Alive, None) => "the partner answers".to_string(),
            (PartnerState::Unhelpful, _) => format!("the partner is there and does not answer keepalives: {error}"),
            (PartnerState::NotAsked, _) => format!("the partner could not be asked: {error}"),
            (PartnerState::Missed, _) => format!("the partner missed the last keepalive: {error}"),
            (PartnerState::Lost, _) => format!("the partner is lost: {error}"),
        };
        let hint = self.partner_hint();
        match self.not_armed() {
            None if self.partner_state() == PartnerState::Lost && self.promised() > self.now => {
                let left = self.promised().since(self.now);
                format!("{partner}; promotes itself in {left:?}: the primary was told that it does not before")
            }
            None => {
                let plural = if settings.keepalive_count == 1 { "" } else { "s" };
                let (count, time) = (settings.keepalive_count, settings.keepalive_time);
                format!("{partner}; armed: promotes itself after {count} missed keepalive{plural} of {time:?}{hint}")
            }
            Some(NotArmed::Primary) => format!("{partner}{hint}"),
            Some(NotArmed::NotHeard(_)) => {
                format!("{partner}; not armed: the primary has not answered since this server started{hint}")
            }
            Some(reason) => format!("{partner}; not armed: {reason}{hint}"),
        }
    }

    /// What the partner is, seen from what we are.
    fn describe(&self, answer: &Answer) -> String {
        let Report { role, node_name, streaming, gate, .. } = &answer.report;
        let Some(Seen { observation, .. }) = self.seen.as_ref().filter(|seen| !seen.observation.in_recovery) else {
            return format!("{node_name} answers and is a {}{}", role.as_str(), closed_note(*role, *gate));
        };
        if let Some(stranger) = self.stranger(observation, answer) {
            return stranger.to_string();
        }
        let enabled = self.settings.as_ref().is_ok_and(|settings| settings.enabled);
        match (role, self.standing(observation, answer)) {
            (Role::Primary, Standing::Superseded { takes_writes: true }) => {
                format!("{node_name} is a primary still, and fences itself when it hears of this server")
            }
            (Role::Primary, Standing::Supersedes(left)) if enabled && !self.gatekeeper.is_lifted(left) => {
                format!("{node_name} is primary on timeline {}", answer.timeline)
            }
            (Role::Primary, _) if *gate == GateKind::Open && matches!(self.gate(), Gate::Open { .. }) => format!(
                "TWO PRIMARIES: {node_name} is a primary too, on timeline {}; stop one of them at once",
                answer.timeline
            ),
            (Role::Primary, _) => {
                format!("{node_name} is a primary on timeline {}{}", answer.timeline, closed_note(*role, *gate))
            }
            (Role::Standby, _) if *streaming => format!("{node_name} answers and is a streaming standby"),
            (Role::Standby, _) => format!("{node_name} answers and is a standby that does not stream"),
        }
    }

    /// Says to the log what is different from what was said last.
    pub(crate) fn tell_changes(&mut self, actions: &mut Vec<Action>) {
        if let Err(inert) = &self.settings {
            let text = inert.to_string();
            if self.told.inert != text {
                actions.push(log(Level::Warning, format!("the keeper does nothing: {text}")));
                self.told.inert = text;
            }
            return;
        }
        self.told.inert.clear();
        self.tell_partner(actions);
        self.tell_armed(actions);
    }

    fn tell_partner(&mut self, actions: &mut Vec<Action>) {
        let state = self.partner_state();
        let role = self.partner.answer.as_ref().map(|answer| {
            let Report { role, gate, .. } = answer.report;
            (role, (role == Role::Primary).then_some(gate))
        });
        let same_role = state != PartnerState::Alive || self.told.partner_role == role;
        if state == PartnerState::Unknown || (self.told.partner == Some(state) && same_role) {
            return;
        }
        self.told.partner = Some(state);
        self.told.partner_role = role;
        let missed = self.schedule.as_ref().map_or(0, Schedule::missed);
        let proven = match (&self.schedule, &self.settings) {
            (Some(schedule), Ok(settings)) => schedule.is_proven_dead(settings),
            _ => false,
        };
        let mut notice =
            Notice { level: Level::Log, message: String::new(), detail: String::new(), hint: String::new() };
        let last_error = match self.partner.last_error.as_str() {
            "" => String::new(),
            error => format!("Last error: {error}."),
        };
        match (state, &self.partner.answer) {
            (PartnerState::Unknown, _) | (PartnerState::Alive, None) => return,
            (PartnerState::Alive, Some(answer)) => {
                let both = self.role() == Some(Role::Primary) && answer.report.role == Role::Primary;
                notice.level = if both { Level::Warning } else { Level::Log };
                notice.message = format!("partner: {}", self.describe(answer));
            }
            (PartnerState::Unhelpful, _) => {
                notice.level = Level::Warning;
                notice.message = "partner is there and does not answer keepalives".to_string();
                notice.detail = last_error;
                notice.hint = self.partner.hint.clone();
            }
            (PartnerState::NotAsked, _) => {
                notice.level = Level::Warning;
                notice.message = "partner could not be asked".to_string();
                notice.detail = last_error;
                notice.hint = self.partner.hint.clone();
            }
            (PartnerState::Missed, _) => {
                notice.message = "partner missed a keepalive".to_string();
                notice.detail = last_error;
            }
            (PartnerState::Lost, _) => {
                notice.level = Level::Warning;
                notice.message = match missed {
                    _ if proven => {
                        format!("partner lost: its host refused {missed} connections in a row after one was cut")
                    }
                    1 => "partner lost: one keepalive missed".to_string(),
                    _ => format!("partner lost: {missed} keepalives missed in a row"),
                };
                notice.detail = last_error;
            }
        }
        actions.push(Action::Log(notice));
    }

    fn tell_armed(&mut self, actions: &mut Vec<Action>) {
        if let Promotion::Asked { .. } = self.promotion {
            // On its way to a primary it loses what makes it a standby, one thing after the other.
            return;
        }
        let reason = match self.not_armed() {
            // Not news: the first keepalive is still under way, or the server is what it is.
            Some(NotArmed::Primary) => {
                self.told.armed = None;
                self.told.not_armed.clear();
                return;
            }
            Some(NotArmed::NotHeard(error)) if error.is_empty() => return,
            // The number of bytes changes at each look; that it is too many is said once.
            Some(NotArmed::TooFarBehind { .. }) if self.told.not_armed.contains("pg_keeper.max_lag") => return,
            Some(reason) => reason.to_string(),
            None => {
                if self.told.armed != Some(true) {
                    actions.push(log(
                        Level::Log,
                        "armed: this standby promotes itself when the primary is lost".to_string(),
                    ));
                }
                self.told.armed = Some(true);
                self.told.not_armed.clear();
                return;
            }
        };
        if self.told.not_armed != reason {
            actions.push(log(Level::Warning, format!("not armed: {reason}")));
        }
        self.told.armed = Some(false);
        self.told.not_armed = reason;
    }
}

/// Says of a primary that it takes no writes.
fn closed_note(role: Role, gate: GateKind) -> &'static str {
    match (role, gate) {
        (Role::Primary, GateKind::Closed) => ", and lets no clients in before it knows its partner",
        (Role::Primary, GateKind::Fenced) => ", and fenced",
        (Role::Primary, GateKind::Open) | (Role::Standby, _) => "",
    }
}

/// An action that writes one line to the log.
pub(crate) fn log(level: Level, message: String) -> Action {
    Action::Log(Notice { level, message, detail: String::new(), hint: String::new() })
}
