//! What the generated runs have in common: plain settings, a plain server, a node that has just started.

use keeper_core::{
    Gate, History, Kept, Lsn, Moment, Node, Observation, OnStandbyLoss, OnUnknownPartner, Parameters, Settings, Start,
    SynchronousNames, SystemIdentifier, Timeline,
};
use std::time::Duration;

/// The clock does not begin at zero: a schedule that reaches back before the start must not wrap.
pub(crate) fn ms(ms: u64) -> Moment {
    Moment::from_micros(1_000_000_000 + ms * 1000)
}

pub(crate) fn node(instance: u64) -> Node {
    Node::new(Start {
        instance,
        parameters: Parameters::default(),
        evidence: None,
        gate: Gate::Closed,
        fence: Kept::Nothing,
        promised: Moment::default(),
        promotion_asked: false,
    })
}

pub(crate) fn settings(time: u64, count: u32) -> Settings {
    Settings {
        keepalive_time: Duration::from_millis(time),
        keepalive_count: count,
        fast_failover: false,
        enabled: true,
        max_lag: 0,
        before_command: false,
        after_command: false,
        before_command_limit: Duration::ZERO,
        on_unknown_partner: OnUnknownPartner::Open,
        synchronous: false,
        on_standby_loss: OnStandbyLoss::Async,
        partner_generation: 1,
    }
}

pub(crate) fn primary() -> Observation {
    Observation {
        in_recovery: false,
        standby_signal: false,
        system_identifier: SystemIdentifier(7),
        timeline: Timeline(1),
        history: Some(History::of_first(Timeline(1))),
        received: Lsn(0),
        replayed: Lsn(0),
        streaming: false,
        synchronous_names: SynchronousNames::Empty,
        synchronous_in_effect: false,
        told_partner: None,
        recorded: None,
    }
}
