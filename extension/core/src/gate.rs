//! Whether this server may take writes: return guard, permit and fence.
//!
//! Two servers that both take writes are worse than none that does. A server that starts as a primary therefore lets no ordinary client in
//! until it knows what its partner is (the return guard). One that is open commits under a permit that ends by itself, so that a server
//! which was frozen and goes on asks its partner before it acknowledges anything. And one whose partner is a primary on a history that left
//! its own is superseded: it is fenced until it is rejoined, or until an administrator lifts the fence.
//!
//! A permit rests on the standby's promise: its answer says how long it will not promote itself at least. Only the partner's answers to our
//! own questions decide; being asked makes us ask, and proves nothing, for a restored copy can ask too.

use crate::event::{Action, Level};
use crate::fence::{Fence, Kept};
use crate::history::Switch;
use crate::report::{Answer, Report};
use crate::settings::Settings;
use crate::telling::log;
use crate::time::Moment;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

mod lift;
mod standing;
mod tend;

pub(crate) use standing::Standing;

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
    /// Whether a commit passes at this instant, for which the clock is read where it matters.
    #[inline]
    pub fn lets_pass(self, now: impl FnOnce() -> Moment) -> bool {
        match self {
            Gate::Closed | Gate::Fenced => false,
            Gate::Open { until } => until == Moment::NEVER || now() < until,
        }
    }

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
