//! The bounds of detection, for every moment at which a partner can die: lost not before `(count - 1) * time` after its last answer, and
//! never later than `count * time`, in whatever way it fails.

#![allow(clippy::unwrap_used, clippy::panic, clippy::wildcard_enum_match_arm)]

use common::{ms, node, primary, settings};
use keeper_core::{
    Action, Answer, Event, Gate, GateKind, History, Lsn, Parameters, PartnerState, Reply, Report, Role, Sight, Stage,
    Synchronous, SystemIdentifier, Timeline,
};
use std::time::Duration;

mod common;

#[derive(Debug, Clone, Copy)]
enum Death {
    /// Nothing comes back.
    Silent,
    /// The open connection breaks at once, and new ones are refused.
    Refusing,
    /// The open connection stays, and new ones are refused.
    RefusingLater,
}

#[test]
fn the_partner_is_lost_within_its_window_and_not_before() {
    for time in [250, 1000, 2000] {
        for count in [1, 2, 4] {
            for death in [Death::Silent, Death::Refusing, Death::RefusingLater] {
                // Answers take from nothing up to just under the limit.
                for answer_after in [1, time / 8, time / 2 - time / 50 - 2] {
                    for dies_at in (1000..1000 + time).step_by(usize::try_from(time / 7).unwrap()) {
                        for hurried in [false, true] {
                            check(time, count, death, answer_after, dies_at, hurried);
                        }
                    }
                }
            }
        }
    }
}

/// `hurried`: a commit asks for its permit all the time.
fn check(time: u64, count: u32, death: Death, answer_after: u64, dies_at: u64, hurried: bool) {
    let case =
        format!("time {time} count {count} {death:?} answers after {answer_after} dies at {dies_at} hurried {hurried}");
    let mut node = node(1);
    node.step(ms(0), Event::SettingsRead(Ok(settings(time, count))));
    let mut asked = None;
    let mut last_answer = None;
    let mut closed = false;
    for now in 0.. {
        let mut actions = Vec::new();
        let dead = now >= dies_at;
        if dead && !closed && matches!(death, Death::Refusing) {
            closed = true;
            actions.extend(node.step(ms(now), Event::ConnectionLost { farewell: None }));
        }
        let refuses = dead && !matches!(death, Death::Silent);
        match asked {
            Some(at) if now == at + answer_after && !dead => {
                asked = None;
                last_answer = Some(now);
                actions.extend(node.step(ms(now), Event::KeepaliveEnded(Reply::Complete(answer()))));
            }
            Some(at) if now > at && refuses => {
                asked = None;
                let message = "Connection refused".to_owned();
                actions.extend(
                    node.step(ms(now), Event::KeepaliveEnded(Reply::Transport { stage: Stage::Connecting, message })),
                );
            }
            _ => {}
        }
        if hurried {
            node.step(ms(now), Event::CommitWaits);
        }
        actions.extend(node.step(ms(now), Event::Observed(primary())));
        for action in actions {
            match action {
                Action::SendKeepalive => asked = Some(now),
                Action::CloseConnection => asked = None,
                Action::Log(_) | Action::SetGate(Gate::Open { .. }) => {}
                other => panic!("{case}: {other:?}"),
            }
        }
        if node.status().partner_state == PartnerState::Lost {
            let silence = now - last_answer.unwrap();
            // The window begins when the answered keepalive was sent.
            assert!(silence + answer_after <= time * u64::from(count), "{case}: lost after {silence} ms");
            assert!(silence >= time * u64::from(count - 1), "{case}: lost after {silence} ms");
            return;
        }
        assert!(now < 100_000, "{case}: never lost");
    }
}

fn answer() -> Answer {
    Answer {
        system_identifier: SystemIdentifier(7),
        timeline: Timeline(1),
        lsn: Lsn(0),
        history: History::of_first(Timeline(1)),
        report: Report {
            role: Role::Standby,
            instance: 2,
            node_name: "db02".to_owned(),
            enabled: true,
            keepalive_time: Duration::ZERO,
            keepalive_count: 0,
            parameters: Parameters::default(),
            streaming: true,
            sight: Sight { state: PartnerState::Alive, sqlstate: String::new() },
            gate: GateKind::Open,
            before_command_limit: Duration::ZERO,
            synchronous: Synchronous::Unmanaged,
            promise: Duration::from_secs(1),
            keeper_age: Duration::ZERO,
            version: keeper_core::Version::OURS,
            permit: Duration::ZERO,
            on_standby_loss: None,
        },
    }
}
