//! Synchronous replication: whether the standby counts, when it may be dropped, and when it counts again.
//!
//! The administrator says in `pg_keeper.synchronous_standby_names` whom commits are to wait for; PostgreSQL's own setting is the keeper's. A
//! primary must not go on without its standby while that could still promote itself in the belief that it has everything. So a standby is
//! dropped when it is proven dead (it restarts unarmed), when it has echoed that it was told so, or when it has been silent for so long that
//! it gives up by itself: a standby that may be dropped does not promote itself later than [`Settings::promotion_limit`] after the question
//! to which its primary last answered. It counts again only when it has all that was acknowledged without it, and knows so only from the
//! primary's own word.

use crate::event::{Action, Level, Notice, Observation, SynchronousNames};
use crate::gate::{CLOCK_RATE, Gate};
use crate::ident::Lsn;
use crate::node::Node;
use crate::report::{Answer, Role, Synchronous};
use crate::settings::{OnStandbyLoss, Settings};
use crate::status::PartnerState;
use crate::telling::log;
use crate::time::Moment;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::time::Duration;

/// A reload takes a moment; where it has no effect (the command line holds the value), there is no use in asking often.
const SET_AGAIN: Duration = Duration::from_secs(10);
/// A standby that lacks no more than this is named again: what it still lacks, commits can wait for.
const CAUGHT_UP: u64 = 1 << 20;

/// A primary's standby.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Phase {
    /// Not managed.
    Off,
    /// It has everything that was acknowledged.
    Counts,
    /// It is told so from `from` on; commits still wait for it.
    Dropping { since: Lsn, from: Moment },
    /// Commits wait for nobody.
    Dropped { since: Lsn },
    /// It is named again, and that must take effect.
    Naming { since: Lsn },
    /// Commits wait for it; what was acknowledged before that, up to `until`, it may lack.
    CatchingUp { since: Lsn, until: Lsn },
}

/// A node's memory of synchronous replication.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct SynchronousKeeper {
    phase: Phase,
    /// The first look: nothing was told before it.
    began: Option<Moment>,
    /// The setting was set, and is looked at again from here on.
    set_again: Option<(SynchronousNames, Moment)>,
    /// Why it could not be set.
    failure: String,
    /// Since when the standby answers and does not stream.
    idle_since: Option<Moment>,
    /// Standby: what the primary said last, in answer to a question sent at that time.
    heard: Option<(Synchronous, Moment)>,
}

impl Default for SynchronousKeeper {
    fn default() -> Self {
        SynchronousKeeper {
            phase: Phase::Off,
            began: None,
            set_again: None,
            failure: String::new(),
            idle_since: None,
            heard: None,
        }
    }
}

impl SynchronousKeeper {
    /// The partner answered a question of `sent`.
    pub(crate) fn heard(&mut self, now: Moment, sent: Moment, answer: &Answer) {
        let idle = answer.report.role == Role::Standby && !answer.report.streaming;
        self.idle_since = if idle { self.idle_since.or(Some(now)) } else { None };
        self.heard = Some((answer.report.synchronous, sent));
    }

    /// An earlier worker heard this answer. When it had asked is not known, so a standby that may be dropped counts as dropped.
    pub(crate) fn remember(&mut self, answer: &Answer) {
        self.heard = Some((answer.report.synchronous, Moment::default()));
    }

    pub(crate) fn forget_partner(&mut self) {
        self.heard = None;
        self.idle_since = None;
    }

    pub(crate) fn not_set(&mut self, error: String, actions: &mut Vec<Action>) {
        if self.failure == error {
            return;
        }
        actions.push(Action::Log(Notice {
            level: Level::Warning,
            message: "synchronous_standby_names does not hold what it should".to_string(),
            detail: format!("Reason: {error}."),
            hint:
                "Look for an error in the configuration files, for the setting on the server's command line, and for \
                   allow_alter_system; SELECT * FROM pg_keeper.check() helps."
                    .to_string(),
        }));
        self.failure = error;
    }

    /// What the primary told this standby last.
    pub(crate) fn told(&self) -> Option<Synchronous> {
        self.heard.map(|(told, _)| told)
    }
}

impl Node {
    /// Whether the primary counted on this standby, and may have gone on without it by now.
    pub(crate) fn may_be_dropped(&self) -> bool {
        let limit = self.settings.as_ref().map(Settings::promotion_limit).unwrap_or_default();
        matches!(self.synchronous.heard, Some((Synchronous::Counts { may_be_dropped: true }, sent)) if self.now.since(sent) > limit)
    }

    /// Looks after PostgreSQL's `synchronous_standby_names`.
    pub(crate) fn tend_synchronous(&mut self, now: Moment, observation: &Observation, actions: &mut Vec<Action>) {
        let Ok(settings) = self.settings.clone() else { return };
        let began = *self.synchronous.began.get_or_insert(now);
        if !settings.enabled || matches!(self.gate(), Gate::Closed | Gate::Fenced) {
            return;
        }
        if observation.in_recovery {
            // It is often a copy of its primary's and names the standby itself. Once promoted, every commit would wait for a server that is
            // dead.
            self.synchronous.phase = Phase::Dropped { since: observation.received };
            return self.set_names(now, observation, SynchronousNames::Empty, actions);
        }
        if !settings.synchronous {
            if self.synchronous.phase != Phase::Off {
                self.set_names(now, observation, SynchronousNames::Empty, actions);
                if observation.synchronous_names == SynchronousNames::Empty {
                    self.synchronous.phase = Phase::Off;
                }
            }
            return;
        }
        // One that is proven dead is gone and dropped in the same look.
        for _ in 0..2 {
            let phase = self.next_phase(now, began, observation, &settings);
            self.tell_phase(phase, actions);
            self.synchronous.phase = phase;
        }
        match self.synchronous.phase {
            Phase::Off => {}
            Phase::Dropped { .. } => self.set_names(now, observation, SynchronousNames::Empty, actions),
            Phase::Counts | Phase::Dropping { .. } | Phase::Naming { .. } | Phase::CatchingUp { .. } => {
                self.set_names(now, observation, SynchronousNames::Wished, actions);
            }
        }
    }

    fn next_phase(&self, now: Moment, began: Moment, observation: &Observation, settings: &Settings) -> Phase {
        let here = observation.received;
        // Commits that wait for a standby that is gone are acknowledged when it is dropped: it may lack them, although they lie before the end
        // of our WAL.
        let reached = self.partner.answer.as_ref().map_or(here, |answer| answer.lsn.min(here));
        let in_effect = observation.synchronous_names == SynchronousNames::Wished && observation.synchronous_in_effect;
        let gone = settings.on_standby_loss == OnStandbyLoss::Async && self.standby_is_gone(now, settings);
        match self.synchronous.phase {
            Phase::Off if in_effect => Phase::CatchingUp { since: here, until: here },
            Phase::Off if observation.synchronous_names == SynchronousNames::Wished => Phase::Naming { since: here },
            Phase::Off => Phase::Dropped { since: here },
            Phase::Counts if !in_effect => Phase::Naming { since: reached },
            Phase::Counts if gone => Phase::Dropping { since: reached, from: now },
            Phase::Counts => Phase::Counts,
            Phase::Dropping { since, .. } if !gone => Phase::CatchingUp { since, until: here },
            Phase::Dropping { since, from } if self.may_drop(now, began, (since, from), observation, settings) => {
                Phase::Dropped { since }
            }
            Phase::Dropping { since, from } => Phase::Dropping { since, from },
            Phase::Dropped { since } if self.standby_streams(observation, CAUGHT_UP) => Phase::Naming { since },
            Phase::Dropped { since } => Phase::Dropped { since },
            Phase::Naming { since } | Phase::CatchingUp { since, .. } if gone => Phase::Dropping { since, from: now },
            Phase::Naming { since } if in_effect => Phase::CatchingUp { since, until: here },
            Phase::Naming { since } => Phase::Naming { since },
            Phase::CatchingUp { since, .. } if !in_effect => Phase::Naming { since },
            Phase::CatchingUp { since, until } => {
                let has_all = self.partner.answer.as_ref().is_some_and(|answer| answer.lsn >= until);
                if has_all && self.standby_streams(observation, u64::MAX) {
                    Phase::Counts
                } else {
                    Phase::CatchingUp { since, until }
                }
            }
        }
    }

    fn standby_streams(&self, observation: &Observation, lag: u64) -> bool {
        self.partner.state == PartnerState::Alive
            && self.partner.answer.as_ref().is_some_and(|answer| {
                answer.report.role == Role::Standby
                    && answer.report.streaming
                    && observation.received.bytes_since(answer.lsn) <= lag
            })
    }

    fn standby_is_gone(&self, now: Moment, settings: &Settings) -> bool {
        let lost = self.schedule.as_ref().is_some_and(|schedule| schedule.is_lost(settings));
        lost || self.synchronous.idle_since.is_some_and(|since| now.since(since) >= settings.window())
    }

    /// Whether the standby cannot promote itself any more in the belief that it has everything.
    fn may_drop(
        &self,
        now: Moment,
        began: Moment,
        (since, from): (Lsn, Moment),
        observation: &Observation,
        settings: &Settings,
    ) -> bool {
        let proven = self.schedule.as_ref().is_some_and(|schedule| schedule.is_proven_dead(settings));
        // The echo of an earlier time says nothing: the standby may have heard since that it counts.
        let echoed =
            self.synchronous.heard.is_some_and(|(told, asked)| told == Synchronous::Dropped { since } && asked >= from);
        proven || echoed || now >= self.gives_up(began, observation, settings)
    }

    /// From when on the standby does not promote itself any more, if it has not heard us since.
    fn gives_up(&self, began: Moment, observation: &Observation, settings: &Settings) -> Moment {
        // What it waits for is its own setting. One that has not said, or that has a shorter one, is given our time.
        let limit = self.partner.answer.as_ref().map_or(Duration::ZERO, |answer| {
            let report = &answer.report;
            Settings::promotion_limit_of(report.keepalive_time, report.keepalive_count, report.before_command_limit)
        });
        let limit = limit.max(settings.promotion_limit());
        let told = observation.told_partner.unwrap_or(began).max(began);
        told + (limit + limit / CLOCK_RATE)
    }

    /// When synchronous replication must be looked at though nothing happens.
    pub(crate) fn synchronous_deadline(&self, now: Moment) -> Option<Moment> {
        let (Phase::Dropping { .. }, Some(began)) = (self.synchronous.phase, self.synchronous.began) else {
            return None;
        };
        let (seen, settings) = (self.seen.as_ref()?, self.settings.as_ref().ok()?);
        Some(self.gives_up(began, &seen.observation, settings)).filter(|deadline| *deadline > now)
    }

    fn set_names(
        &mut self,
        now: Moment,
        observation: &Observation,
        names: SynchronousNames,
        actions: &mut Vec<Action>,
    ) {
        let settled = observation.synchronous_names == names
            && (observation.in_recovery || observation.synchronous_in_effect == (names != SynchronousNames::Empty));
        if settled {
            self.synchronous.failure.clear();
            self.synchronous.set_again = None;
            return;
        }
        let again = self.synchronous.set_again.filter(|(set, _)| *set == names).map(|(_, until)| until);
        if again.is_some_and(|until| now < until) {
            return;
        }
        self.synchronous.set_again = Some((names, now + SET_AGAIN));
        if again.is_none() {
            self.synchronous.failure.clear();
            if observation.in_recovery {
                let why = "emptying synchronous_standby_names: nobody would confirm commits after a promotion";
                actions.push(log(Level::Log, why.to_string()));
            }
        } else if self.synchronous.failure.is_empty() {
            self.synchronous.not_set("it was set, and has no effect".to_string(), actions);
        }
        actions.push(Action::SetSynchronousStandbyNames(names));
    }

    fn tell_phase(&self, phase: Phase, actions: &mut Vec<Action>) {
        let lacks = |since: Lsn| format!("What comes after {since} may not be there.");
        let (level, message, detail) = match (self.synchronous.phase, phase) {
            (before, now) if before == now => return,
            (_, Phase::Counts) => {
                (Level::Log, "the standby is synchronous: it has everything that was acknowledged", String::new())
            }
            (_, Phase::Dropping { since, .. }) => {
                (Level::Warning, "the synchronous standby is gone: commits wait until it can be dropped", lacks(since))
            }
            (Phase::Dropping { .. }, Phase::Dropped { since }) => {
                (Level::Warning, "replication is asynchronous: the standby is dropped", lacks(since))
            }
            (Phase::Dropping { .. }, Phase::CatchingUp { .. }) => {
                (Level::Log, "the synchronous standby is back, and was not dropped", String::new())
            }
            (Phase::Dropped { .. }, Phase::Naming { .. }) => {
                (Level::Log, "the standby has caught up: commits wait for it again", String::new())
            }
            (Phase::Counts | Phase::CatchingUp { .. }, Phase::Naming { .. }) => (
                Level::Warning,
                "commits do not wait for the standby: synchronous_standby_names was changed, and is set again",
                "It is pg_keeper's to set, from pg_keeper.synchronous_standby_names.".to_string(),
            ),
            (_, Phase::Off | Phase::Dropped { .. } | Phase::CatchingUp { .. } | Phase::Naming { .. }) => return,
        };
        actions.push(Action::Log(Notice { level, message: message.to_string(), detail, hint: String::new() }));
    }

    /// What the report says of synchronous replication.
    pub(crate) fn synchronous_report(&self) -> Synchronous {
        match self.role() {
            // The echo of what was heard, so that the primary knows that we know.
            Some(Role::Standby) | None => self.synchronous.heard.map_or(Synchronous::Unmanaged, |(heard, _)| heard),
            Some(Role::Primary) => match self.synchronous.phase {
                Phase::Off => Synchronous::Unmanaged,
                Phase::Counts => {
                    let policy =
                        self.settings.as_ref().map_or(OnStandbyLoss::Async, |settings| settings.on_standby_loss);
                    Synchronous::Counts { may_be_dropped: policy == OnStandbyLoss::Async }
                }
                Phase::Dropping { since, .. }
                | Phase::Dropped { since }
                | Phase::Naming { since }
                | Phase::CatchingUp { since, .. } => Synchronous::Dropped { since },
            },
        }
    }

    /// The state of synchronous replication as status shows it.
    pub(crate) fn synchronous_status(&self) -> String {
        let observation = self.seen.as_ref().map(|seen| &seen.observation);
        if self.role() != Some(Role::Primary) {
            return match self.synchronous.heard {
                None | Some((Synchronous::Unmanaged, _)) => "not managed".to_string(),
                Some((Synchronous::Counts { .. }, _)) if self.may_be_dropped() => {
                    "synchronous when the primary was last heard, which may have gone on alone since".to_string()
                }
                Some((Synchronous::Counts { .. }, _)) => "synchronous".to_string(),
                Some((Synchronous::Dropped { since }, _)) => {
                    format!("asynchronous: this server may lack what the primary committed after {since}")
                }
            };
        }
        let waits_for_ever = self.settings.as_ref().is_ok_and(|settings| {
            settings.on_standby_loss == OnStandbyLoss::Wait && self.standby_is_gone(self.now, settings)
        });
        if self.gate() == Gate::Fenced || self.settings.as_ref().is_ok_and(|settings| !settings.synchronous) {
            return "not managed".to_string();
        }
        let failing = match self.synchronous.failure.as_str() {
            "" => String::new(),
            failure => format!(" (synchronous_standby_names does not hold what it should: {failure})"),
        };
        match self.synchronous.phase {
            Phase::Off => "not managed".to_string(),
            Phase::Counts | Phase::Naming { .. } | Phase::CatchingUp { .. } if waits_for_ever => {
                "commits wait: the standby is gone, and pg_keeper.on_standby_loss is \"wait\"".to_string()
            }
            Phase::Counts => format!("synchronous{failing}"),
            Phase::Dropping { since, .. } => {
                format!(
                    "degrading: commits wait until the standby can be dropped; it may lack what comes after {since}"
                )
            }
            Phase::Dropped { since } if observation.is_some_and(|seen| seen.synchronous_in_effect) => {
                format!(
                    "degrading: commits wait until synchronous_standby_names is empty{failing}; the standby may lack what comes after {since}"
                )
            }
            Phase::Dropped { since } => format!("asynchronous: the standby may lack what comes after {since}{failing}"),
            Phase::Naming { since } | Phase::CatchingUp { since, .. } => {
                format!("catching up: the standby may lack what comes after {since}{failing}")
            }
        }
    }
}
