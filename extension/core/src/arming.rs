//! Why a standby would not promote itself.

use crate::ident::{Lsn, SystemIdentifier};
use crate::node::{Node, Seen};
use crate::report::Synchronous;
use crate::settings::{Inert, OnStandbyLoss, Settings};
use alloc::string::String;
use core::fmt;

/// The first reason that stands against a promotion. Its `Display` is a sentence, with what to do where something can be done.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum NotArmed {
    /// The keeper is inert.
    Inert(Inert),
    /// The server is a primary already.
    Primary,
    /// `pg_keeper.enabled = off` here.
    DisabledHere,
    /// `pg_keeper.enabled = off` on the partner.
    DisabledThere,
    /// There is no `standby.signal`: a recovery that ends by itself.
    NoStandbySignal,
    /// No answer since the start; with the last error, empty when none is known.
    NotHeard(String),
    /// `partner_conninfo` leads back to this server.
    PartnerIsOurself,
    /// The partner belongs to another cluster.
    OtherSystem {
        /// Our system identifier.
        ours: SystemIdentifier,
        /// The partner's.
        theirs: SystemIdentifier,
    },
    /// The partner answers, and is no primary.
    PartnerNotPrimary,
    /// The history file of our own timeline cannot be read.
    HistoryUnknown,
    /// Our history is not the continuation of the partner's.
    NotOnItsHistory,
    /// The WAL receiver was not streaming when the primary answered.
    NotStreaming,
    /// A setting smaller than the primary's, with which promotion would end in FATAL.
    ParameterTooSmall {
        /// The setting.
        name: &'static str,
        /// Its value here.
        ours: u32,
        /// Its value on the primary.
        theirs: u32,
    },
    /// The primary counted on this standby, and may have dropped it by now.
    MayBeDropped,
    /// `pg_keeper.on_standby_loss` is `wait`, and the primary has acknowledged commits that this standby may lack.
    NotSynchronous,
    /// More of the primary's WAL is missing than `pg_keeper.max_lag` allows.
    TooFarBehind {
        /// Bytes that are missing.
        lag: u64,
        /// `pg_keeper.max_lag`
        max_lag: u64,
        /// Where the primary was last known to be.
        primary: Lsn,
    },
}

impl fmt::Display for NotArmed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NotArmed::Inert(inert) => inert.fmt(f),
            NotArmed::Primary => f.write_str("this server is a primary"),
            NotArmed::DisabledHere => f.write_str("pg_keeper.enabled is off here: set it to on and reload"),
            NotArmed::DisabledThere => f.write_str("pg_keeper.enabled is off on the partner: set it to on there and reload"),
            NotArmed::NoStandbySignal => {
                f.write_str("there is no standby.signal in the data directory: this is a recovery, not a standby")
            }
            NotArmed::NotHeard(error) if error.is_empty() => {
                f.write_str("the primary has not answered since this server started")
            }
            NotArmed::NotHeard(error) => write!(f, "the primary has not answered since this server started: {error}"),
            NotArmed::PartnerIsOurself => f.write_str(
                "pg_keeper.partner_conninfo leads back to this server itself: set it to the partner's host and port and reload",
            ),
            NotArmed::OtherSystem { ours, theirs } => write!(
                f,
                "the partner belongs to another cluster (system identifier {theirs}, ours is {ours}): correct \
                 pg_keeper.partner_conninfo, or make this standby anew by pg_basebackup"
            ),
            NotArmed::PartnerNotPrimary => f.write_str("the partner answers, but it is a standby: neither server is a primary"),
            NotArmed::HistoryUnknown => f.write_str("the history file of this server's timeline cannot be read from pg_wal"),
            NotArmed::NotOnItsHistory => f.write_str(
                "this standby's history is not the continuation of the primary's: make it anew by pg_rewind or pg_basebackup",
            ),
            NotArmed::NotStreaming => f.write_str(
                "this standby is not streaming from the primary: look at primary_conninfo and at the log of the WAL receiver",
            ),
            NotArmed::ParameterTooSmall { name, ours, theirs } => write!(
                f,
                "{name} is {ours} here and {theirs} on the primary, so a promotion would fail: raise it to {theirs} and restart"
            ),
            NotArmed::MayBeDropped => f.write_str(
                "the primary has been silent for so long that it may have gone on without this standby, and acknowledged commits that are \
                 not here: if the primary is gone for good, promote this server by hand (SELECT pg_promote())",
            ),
            NotArmed::NotSynchronous => f.write_str(
                "pg_keeper.on_standby_loss is \"wait\", and the primary has not said that this standby has everything that it acknowledged: if the \
                 primary is gone for good, promote this server by hand (SELECT pg_promote())",
            ),
            NotArmed::TooFarBehind { lag, max_lag, primary } => write!(
                f,
                "{lag} bytes of the primary's WAL up to {primary} have not been received, pg_keeper.max_lag allows {max_lag}"
            ),
        }
    }
}

impl Node {
    /// Why this server would not promote itself if the partner were lost now; `None` when it would.
    pub fn not_armed(&self) -> Option<NotArmed> {
        let settings = match &self.settings {
            Ok(settings) => settings,
            Err(inert) => return Some(NotArmed::Inert(inert.clone())),
        };
        let Some(Seen { observation, .. }) = &self.seen else {
            return Some(NotArmed::NotHeard(String::new()));
        };
        if !observation.in_recovery {
            return Some(NotArmed::Primary);
        }
        if !settings.enabled {
            return Some(NotArmed::DisabledHere);
        }
        if !observation.standby_signal {
            return Some(NotArmed::NoStandbySignal);
        }
        let Some(answer) = &self.partner.answer else {
            return Some(NotArmed::NotHeard(self.partner.last_error.clone()));
        };
        if let Some(finding) = self.against_following(observation, answer) {
            return Some(finding);
        }
        if !answer.report.enabled {
            return Some(NotArmed::DisabledThere);
        }
        if !self.partner.heard_as_primary {
            return Some(NotArmed::NotStreaming);
        }
        if let Some((name, ours, theirs)) = self.parameters.first_smaller(&answer.report.parameters) {
            return Some(NotArmed::ParameterTooSmall { name, ours, theirs });
        }
        if let Some(finding) = self.against_counting(settings) {
            return Some(finding);
        }
        let lag = answer.lsn.bytes_since(observation.end_of_wal());
        if lag > settings.max_lag {
            return Some(NotArmed::TooFarBehind { lag, max_lag: settings.max_lag, primary: answer.lsn });
        }
        None
    }

    /// What the primary's word on synchronous replication forbids.
    fn against_counting(&self, settings: &Settings) -> Option<NotArmed> {
        match self.synchronous.told() {
            Some(Synchronous::Counts { .. }) => self.may_be_dropped().then_some(NotArmed::MayBeDropped),
            Some(Synchronous::Dropped { .. } | Synchronous::Unmanaged) | None => {
                let strict = settings.synchronous && settings.on_standby_loss == OnStandbyLoss::Wait;
                strict.then_some(NotArmed::NotSynchronous)
            }
        }
    }
}
