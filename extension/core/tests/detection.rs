//! The bounds of detection, for every moment at which a partner can die: lost not before `(count - 1) * time` after its last answer, and
//! never later than `count * time`, in whatever way it fails.

#![allow(clippy::unwrap_used, clippy::panic, clippy::wildcard_enum_match_arm)]

use keeper_core::{
    Action, Answer, Event, History, Lsn, Moment, Node, Observation, Parameters, PartnerState, Reply, Report, Role,
    Settings, Sight, Stage, SystemIdentifier, Timeline,
};
use std::time::Duration;

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
                        check(time, count, death, answer_after, dies_at);
                    }
                }
            }
        }
    }
}

fn check(time: u64, count: u32, death: Death, answer_after: u64, dies_at: u64) {
    let ms = |ms: u64| Moment::from_micros(1_000_000_000 + ms * 1000);
    let case = format!("time {time} count {count} {death:?} answers after {answer_after} dies at {dies_at}");
    let mut node = Node::new(1, Parameters::default(), None);
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
        actions.extend(node.step(ms(now), Event::Observed(observation())));
        for action in actions {
            match action {
                Action::SendKeepalive => asked = Some(now),
                Action::CloseConnection => asked = None,
                Action::Log(_) => {}
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

fn settings(time: u64, count: u32) -> Settings {
    Settings {
        keepalive_time: Duration::from_millis(time),
        keepalive_count: count,
        fast_failover: false,
        enabled: true,
        max_lag: 0,
        before_command: false,
        after_command: false,
        partner_generation: 1,
    }
}

fn observation() -> Observation {
    Observation {
        in_recovery: false,
        standby_signal: false,
        system_identifier: SystemIdentifier(7),
        timeline: Timeline(1),
        history: Some(History::of_first(Timeline(1))),
        received: Lsn(0),
        replayed: Lsn(0),
        streaming: false,
        synchronous: false,
        recorded: None,
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
        },
    }
}
