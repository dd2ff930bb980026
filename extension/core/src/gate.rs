//! Whether this server may take writes: return guard, permit and fence.
//!
//! Two servers that both take writes are worse than none that does. A server that starts as a primary therefore lets no ordinary client in
//! until it knows what its partner is (the return guard). One that is open commits under a permit that ends by itself, so that a server
//! which was frozen and goes on asks its partner before it acknowledges anything. And one whose partner is a primary on a history that left
//! its own is superseded: it is fenced until it is rejoined, or until an administrator lifts the fence.
//!
//! A permit rests on the standby's promise: its answer says how long it will not promote itself at least. Only the partner's answers to our
//! own questions decide; being asked makes us ask, and proves nothing, for a restored copy can ask too.

use crate::arming::NotArmed;
use crate::event::{Action, Level, Notice, Observation, earliest};
use crate::fence::{FENCE_FILE, Fence, Kept};
use crate::history::{Branch, Switch};
use crate::node::Node;
use crate::promotion::Promotion;
use crate::report::{Answer, Report, Role};
use crate::schedule::Schedule;
use crate::settings::{Inert, OnUnknownPartner, Settings};
use crate::status::PartnerState;
use crate::telling::log;
use crate::time::Moment;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::time::Duration;

/// The time between two attempts to write the fence to a disk that does not take it.
const KEEP_AGAIN: Duration = Duration::from_secs(1);

/// The part of an attempt's limit before its end at which a permit is renewed out of turn.
const RENEWAL: u32 = 4;

/// What stands between a client and its commit; published by the worker, obeyed by the hooks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Gate {
    /// The return guard: ordinary clients are refused, and no commit passes.
    Closed,
    /// Clients get in. Commits pass until the end of the permit; later ones wait until it is renewed.
    Open {
        /// The end of the permit; [`Moment::NEVER`] where nothing needs one, [`Moment::default`] where there is none.
        until: Moment,
    },
    /// Superseded: ordinary clients are refused, their sessions ended, and no commit passes.
    Fenced,
}

/// A gate without its permit, as it is told to the partner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum GateKind {
    /// [`Gate::Closed`]
    Closed,
    /// [`Gate::Open`]
    Open,
    /// [`Gate::Fenced`]
    Fenced,
}

impl Gate {
    /// The gate without its permit.
    pub fn kind(self) -> GateKind {
        match self {
            Gate::Closed => GateKind::Closed,
            Gate::Open { .. } => GateKind::Open,
            Gate::Fenced => GateKind::Fenced,
        }
    }
}

impl GateKind {
    /// The word for it in a report.
    pub fn as_str(self) -> &'static str {
        match self {
            GateKind::Closed => "closed",
            GateKind::Open => "open",
            GateKind::Fenced => "fenced",
        }
    }

    /// The kind that [`GateKind::as_str`] wrote.
    pub fn parse(text: &str) -> Option<GateKind> {
        [Self::Closed, Self::Open, Self::Fenced].into_iter().find(|kind| kind.as_str() == text)
    }
}

/// Clocks of two machines may run apart by this part: a promise of the partner's is trusted for as much less.
pub(crate) const CLOCK_RATE: u32 = 500;

/// A keeper publishes at least once a second; one whose word is older than this has stopped, and decides nothing until it goes on and has
/// asked its partner anew.
const STOPPED_KEEPER: Duration = Duration::from_secs(2);

/// Why an open server may not renew its permit on its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Hold {
    /// Nothing speaks against it.
    None,
    /// The permit ended long ago, as the keeper was away: the partner may have promoted itself meanwhile. It must be heard, or be silent for a
    /// whole window.
    Lapsed,
    /// Promoted by hand while the old primary answers. It must be heard to take no writes any more, or miss a keepalive.
    Handover,
}

/// A node's memory of the gate.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Gatekeeper {
    gate: Gate,
    hold: Hold,
    /// The permit rests on no promise of the partner's: it is short, and renewed while the keeper runs.
    alone: bool,
    /// In force, or lifted.
    fence: Option<Fence>,
    /// Why the file of the fence cannot be believed.
    damaged: Option<String>,
    /// The fence is not on disk as it should be, and is to be written from this instant on.
    unkept: Option<Moment>,
    /// Since when the return guard has stood.
    closed_since: Option<Moment>,
    /// What keeps it standing.
    obstacle: String,
    /// The server was a standby at the last look.
    was_standby: bool,
    /// When somebody last asked as the partner over a new connection.
    asked: Option<Moment>,
    /// This worker stood still before this wake.
    slept: bool,
    /// The last look.
    looked: Option<Moment>,
    /// The keeper stood still after it had asked for the promotion: what it knew of the partner then may hold no more.
    away: bool,
    /// The instant before which this standby does not promote itself, as the partner was told and may rely on.
    promised: Moment,
    /// An earlier worker asked the server to promote: nothing more is promised.
    promotion_asked: bool,
    /// What it is told from now on, which shorter settings bring nearer.
    offered: Moment,
    /// Answers of the primary since this standby's settings changed.
    answers: u32,
    /// What came of the last keepalive and has not been judged.
    news: Option<News>,
    /// Why the fence could not be written, as it was told.
    not_kept: String,
}

/// What came of a keepalive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum News {
    /// An answer, to a question sent at this time.
    Answered(Moment),
    /// None that tells anything.
    Nothing,
    /// It was missed, and had been sent at this time.
    Missed(Moment),
}

/// What the partner is to a primary, by its answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Standing {
    /// A standby that has nothing that we lack, and will not promote itself for so long.
    Follows { promise: Duration },
    /// A standby of ours that promises nothing: it is about to promote itself.
    Promoting,
    /// A standby of ours whose keeper has stopped.
    Stopped,
    /// A primary whose history left ours: it is the active one.
    Supersedes(Switch),
    /// A primary whose history we left: we are the active one.
    Superseded { takes_writes: bool },
    /// It is neither ours nor behind, and we are not superseded; the sentence says what it is.
    Conflict(String),
}

impl Gatekeeper {
    pub(crate) fn new(gate: Gate, kept: Kept, promised: Moment, promotion_asked: bool) -> Self {
        let (fence, damaged) = match kept {
            Kept::Nothing => (None, None),
            Kept::Ours(fence) => (Some(fence), None),
            Kept::Damaged(why) => (None, Some(why)),
        };
        Gatekeeper {
            gate,
            hold: Hold::None,
            alone: false,
            unkept: None,
            fence,
            damaged,
            closed_since: None,
            obstacle: String::new(),
            was_standby: false,
            looked: None,
            // Nobody knows for how long there was no worker before this one.
            slept: true,
            asked: None,
            away: false,
            promised,
            promotion_asked,
            offered: promised,
            answers: 0,
            news: None,
            not_kept: String::new(),
        }
    }

    pub(crate) fn gate(&self) -> Gate {
        self.gate
    }

    pub(crate) fn promised(&self) -> Moment {
        self.promised
    }

    pub(crate) fn offered(&self) -> Moment {
        self.offered
    }

    pub(crate) fn fence(&self) -> Option<&Fence> {
        self.fence.as_ref()
    }

    pub(crate) fn damaged(&self) -> Option<&str> {
        self.damaged.as_deref()
    }

    /// A promotion begins: whoever asks from now on is promised nothing, also where a proven death made the promise void.
    pub(crate) fn withdraw_promise(&mut self, now: Moment) {
        self.promised = self.promised.min(now);
        self.offered = self.offered.min(now);
    }

    /// Settings changed: what was promised under the old ones may reach far beyond what the new ones need.
    pub(crate) fn settings_changed(&mut self) {
        self.answers = 0;
    }

    /// The primary that this standby follows says how long its permit lasts, and so for how long it relies on a promise. One that was made
    /// under longer settings ends with that. Not with the first answer: one of ours, given before, could still be under way to it.
    pub(crate) fn relied_upon(&mut self, now: Moment, answer: &Answer) {
        self.answers = self.answers.saturating_add(1);
        let Report { permit, keeper_age, gate, .. } = &answer.report;
        if self.answers > 1 && *gate == GateKind::Open && *keeper_age <= STOPPED_KEEPER {
            self.promised = self.promised.min(now + *permit + *permit / CLOCK_RATE);
        }
    }

    /// An answer to a question of `sent` has come; it is judged at the next look.
    pub(crate) fn answered(&mut self, sent: Moment) {
        self.news = Some(News::Answered(sent));
    }

    /// A keepalive came to nothing.
    pub(crate) fn unanswered(&mut self) {
        self.news = Some(News::Nothing);
    }

    /// A keepalive of `sent` was missed.
    pub(crate) fn missed(&mut self, sent: Moment) {
        self.news = Some(News::Missed(sent));
    }

    /// This worker stood still. Says whether a window of silence is being waited for: it counts only what this worker is awake for.
    pub(crate) fn stood_still(&mut self, now: Moment) -> bool {
        self.slept = true;
        self.closed_since = self.closed_since.map(|_| now);
        self.gate == Gate::Closed || self.hold != Hold::None
    }

    /// Somebody asks as the partner: silence of before proves nothing.
    pub(crate) fn asked(&mut self, now: Moment) {
        self.asked = Some(now);
    }

    /// Another partner: what was heard so far was not from it.
    pub(crate) fn forget_partner(&mut self) {
        self.news = None;
        self.closed_since = None;
        self.obstacle.clear();
    }

    /// Says that clients are let in, or commits go on, before it happens.
    fn tell_opening(&self, why: &str, actions: &mut Vec<Action>) {
        if matches!(self.gate, Gate::Open { .. }) && self.hold == Hold::None {
            return;
        }
        actions.push(log(Level::Log, format!("this server takes writes: {why}")));
    }

    /// Whether an administrator has lifted the fence against this switch.
    pub(crate) fn is_lifted(&self, left: Switch) -> bool {
        self.fence.as_ref().is_some_and(|fence| fence.lifted && fence.left == left)
    }

    fn in_force(&self) -> Option<&Fence> {
        self.fence.as_ref().filter(|fence| !fence.lifted)
    }

    /// A permit on our own evidence. A standby that was silent because it stood still, and goes on when we stand still, may be one attempt away
    /// from promoting itself: so the permit is shorter than that.
    fn open_alone(&mut self, now: Moment, settings: &Settings) {
        self.open(now + alone(settings));
        self.alone = true;
    }

    fn open(&mut self, until: Moment) {
        self.gate = Gate::Open { until };
        self.hold = Hold::None;
        self.alone = false;
        self.closed_since = None;
        self.obstacle.clear();
    }

    fn open_for_good(&mut self) {
        self.open(Moment::NEVER);
    }

    /// A standby's clients only read. No permit stands when recovery ends, so that the first commits wait until the keeper has seen it.
    fn rest(&mut self) {
        self.gate = Gate::Open { until: Moment::default() };
        self.hold = Hold::None;
        self.closed_since = None;
        self.was_standby = true;
    }

    /// What the partner's last answer said against taking writes, in a clause.
    pub(crate) fn obstacle(&self) -> &str {
        if self.obstacle.is_empty() { "the partner has not answered yet" } else { &self.obstacle }
    }

    /// Whether clients are let in and their commits wait for more than the next keepalive.
    pub(crate) fn is_held(&self) -> bool {
        matches!(self.gate, Gate::Open { .. }) && self.hold != Hold::None
    }
}

/// How long a permit on our own evidence lasts.
fn alone(settings: &Settings) -> Duration {
    settings.limit() * 3 / 4
}

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

    fn is_open_and_unheld(&self) -> bool {
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

    fn judge(
        &mut self,
        now: Moment,
        sent: Moment,
        observation: &Observation,
        settings: &Settings,
        actions: &mut Vec<Action>,
    ) {
        let Some(answer) = &self.partner.answer else { return };
        let standing = self.standing(observation, answer);
        let open = self.is_open_and_unheld();
        let gatekeeper = &mut self.gatekeeper;
        let valid = matches!(gatekeeper.gate, Gate::Open { until } if now < until);
        match standing {
            Standing::Supersedes(left) if !gatekeeper.is_lifted(left) => {
                let fence =
                    Fence { left, by: answer.report.node_name.clone(), by_timeline: answer.timeline, lifted: false };
                actions.push(Action::Log(Notice {
                    level: Level::Warning,
                    message: format!("fencing this server: {fence}"),
                    detail: "It is superseded: it takes no more writes, and its clients are sent away.".to_string(),
                    hint:
                        "SELECT pg_keeper.rejoin_plan() prints the commands that make it a standby of the new primary."
                            .to_string(),
                }));
                gatekeeper.fence = Some(fence);
                gatekeeper.unkept = Some(now);
                gatekeeper.not_kept.clear();
                gatekeeper.gate = Gate::Fenced;
            }
            Standing::Follows { promise } => {
                let until = sent + (promise - promise / CLOCK_RATE);
                // An answer that lay unread while this server stood still promises nothing any more.
                if until > now {
                    let why = format!("{} is its standby", answer.report.node_name);
                    gatekeeper.tell_opening(&why, actions);
                    gatekeeper.open(until);
                }
            }
            Standing::Superseded { takes_writes: false } => {
                let why = format!("the former primary {} takes none", answer.report.node_name);
                gatekeeper.tell_opening(&why, actions);
                gatekeeper.open_alone(sent, settings);
            }
            Standing::Stopped | Standing::Supersedes(_) if open => gatekeeper.open_alone(sent, settings),
            // Whoever was open before goes on; whoever is not, or was away, knows no more than before.
            Standing::Conflict(_) | Standing::Superseded { .. } if open && valid => {
                gatekeeper.open_alone(sent, settings)
            }
            Standing::Promoting => {
                gatekeeper.alone = false;
                gatekeeper.obstacle = "the partner is about to promote itself".to_string();
            }
            Standing::Stopped => {
                gatekeeper.obstacle = "the partner is a standby whose keeper has stopped: look at its log".to_string();
            }
            Standing::Superseded { .. } => {
                gatekeeper.obstacle = format!(
                    "the former primary {} still takes writes, until it hears of this server",
                    answer.report.node_name
                );
            }
            Standing::Supersedes(_) => {
                gatekeeper.obstacle = format!(
                    "{} is primary on the newer timeline {}, and an administrator has lifted the fence of this server: stop one of the \
                     two, and rejoin it as standby",
                    answer.report.node_name, answer.timeline
                );
            }
            Standing::Conflict(what) => gatekeeper.obstacle = what,
        }
    }

    pub(crate) fn standing(&self, observation: &Observation, answer: &Answer) -> Standing {
        let ours = observation.end_of_wal();
        if let Some(stranger) = self.stranger(observation, answer) {
            return Standing::Conflict(stranger.to_string());
        }
        let Some(history) = &observation.history else {
            return Standing::Conflict(NotArmed::HistoryUnknown.to_string());
        };
        let name = &answer.report.node_name;
        let branch = history.branch(&answer.history);
        match (answer.report.role, branch) {
            (Role::Primary, Branch::TheyLeft(switch)) => Standing::Supersedes(switch),
            (Role::Primary, Branch::WeLeft(_)) => {
                Standing::Superseded { takes_writes: answer.report.gate == GateKind::Open }
            }
            (Role::Primary, Branch::Same) => Standing::Conflict(format!(
                "{name} is a primary too, on the same timeline {}: stop one of the two, and rejoin it as standby",
                answer.timeline
            )),
            (_, Branch::Apart) => Standing::Conflict(format!(
                "{name} is on another branch of history (timeline {}): rejoin one of the two as standby of the other",
                answer.timeline
            )),
            // Its recovery has ended, and its keeper has not said so yet.
            (Role::Standby, Branch::TheyLeft(_)) => Standing::Promoting,
            (Role::Standby, Branch::Same) if answer.lsn > ours => Standing::Conflict(format!(
                "the standby {name} has WAL up to {}, and this server only up to {ours}: promote it, or make it a standby of this one anew",
                answer.lsn
            )),
            (Role::Standby, Branch::Same | Branch::WeLeft(_)) => match answer.report.promise {
                promise if !promise.is_zero() => Standing::Follows { promise },
                // One that sees us lost may promote itself as soon as it goes on.
                _ if answer.report.keeper_age > STOPPED_KEEPER && answer.report.sight.state != PartnerState::Lost => {
                    Standing::Stopped
                }
                _ => Standing::Promoting,
            },
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

    /// An administrator answers for it that this server is the active one.
    pub(crate) fn lift(&mut self, now: Moment, actions: &mut Vec<Action>) {
        if self.role() != Some(Role::Primary) {
            return;
        }
        let (closed, waits) = (self.closed_because(), self.commits_wait());
        let gatekeeper = &mut self.gatekeeper;
        let what = match (&mut gatekeeper.fence, gatekeeper.damaged.take(), gatekeeper.gate, waits) {
            (Some(fence), _, Gate::Fenced, _) => {
                fence.lifted = true;
                gatekeeper.unkept = Some(now);
                gatekeeper.not_kept.clear();
                format!("an administrator lifted the fence of this server, although {fence}")
            }
            (None, _, Gate::Fenced, _) => "an administrator lifted the fence of this server".to_string(),
            (_, Some(damage), ..) => {
                actions.push(Action::SetFenceAside);
                format!("an administrator opened this server, whose fence file cannot be believed: {damage}")
            }
            (_, None, Gate::Closed, _) => {
                format!("an administrator opened this server, although {closed}")
            }
            (_, None, Gate::Open { .. }, Some(waits)) => {
                format!("an administrator opened this server, although {waits}")
            }
            (_, None, Gate::Open { .. }, None) => return,
        };
        match &self.settings {
            Ok(settings) if settings.enabled => gatekeeper.open_alone(now, settings),
            Ok(_) | Err(_) => gatekeeper.open_for_good(),
        }
        actions.push(Action::SetGate(gatekeeper.gate));
        actions.push(Action::Log(Notice {
            level: Level::Warning,
            message: what,
            detail: "It takes writes from now on.".to_string(),
            hint: String::new(),
        }));
    }

    /// The fence could not be written: what was decided holds in memory, and is written a little later.
    pub(crate) fn keep_fence_again(&mut self, now: Moment, error: &str, actions: &mut Vec<Action>) {
        let Some(fence) = &self.gatekeeper.fence else { return };
        let hint = if fence.lifted {
            "This server takes writes all the same, and it is tried again; a restart before that brings the fence back."
        } else {
            "The fence holds until this server stops, and it is tried again; do not restart this server before that."
        };
        self.gatekeeper.unkept = Some(now + KEEP_AGAIN);
        // Said once, not at each attempt.
        if core::mem::replace(&mut self.gatekeeper.not_kept, error.to_string()) != error {
            actions.push(Action::Log(Notice {
                level: Level::Warning,
                message: format!("the file {FENCE_FILE} could not be written"),
                detail: format!("The operating system said: {error}."),
                hint: hint.to_string(),
            }));
        }
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
