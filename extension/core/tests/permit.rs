//! Permit and promise, two nodes against each other: in the calm a primary's permit never ends, and a primary that stops at any moment holds
//! none any more when its standby asks to be promoted.

#![allow(clippy::unwrap_used, clippy::panic, clippy::wildcard_enum_match_arm)]

use common::{ms, node, primary, settings};
use keeper_core::{
    Action, Answer, Event, Gate, History, Lsn, Moment, Node, Observation, Reply, Settings, Stage, SystemIdentifier,
    Timeline,
};
use std::collections::VecDeque;
use std::time::Duration;

mod common;

/// A worker that sleeps longer wakes by itself.
const LONGEST_SLEEP: u64 = 1000;

struct Server {
    node: Node,
    /// How fast its clock runs, in parts of 10,000.
    rate: u64,
    observation: Observation,
    /// Questions on their way to the partner, with the time of their arrival.
    questions: VecDeque<u64>,
    /// Answers on their way back.
    answers: VecDeque<(u64, Answer)>,
    slept_since: u64,
    /// The deadline with which it went to sleep.
    wakes: Option<Moment>,
    promoted: bool,
}

impl Server {
    fn new(instance: u64, observation: Observation, settings: Settings, rate: u64) -> Self {
        let mut node = node(instance);
        node.step(ms(0), Event::SettingsRead(Ok(settings)));
        let (questions, answers) = (VecDeque::new(), VecDeque::new());
        Server { node, rate, observation, questions, answers, slept_since: 0, wakes: None, promoted: false }
    }

    /// What its clock says.
    fn clock(&self, now: u64) -> Moment {
        ms(0) + Duration::from_micros(now * self.rate / 10)
    }

    fn answer(&self, now: u64) -> Answer {
        let mut report = self.node.report("db");
        report.promise = self.node.promised().since(self.clock(now));
        report.keeper_age = self.clock(now).since(self.clock(self.slept_since));
        Answer {
            system_identifier: SystemIdentifier(7),
            timeline: Timeline(1),
            lsn: Lsn(0),
            history: History::of_first(Timeline(1)),
            report,
        }
    }

    /// Wakes if there is a reason to.
    fn run(&mut self, now: u64, latency: u64, refused: bool) {
        let mut events = Vec::new();
        if self.answers.front().is_some_and(|(at, _)| *at <= now) {
            let (_, answer) = self.answers.pop_front().unwrap();
            events.push(Event::KeepaliveEnded(Reply::Complete(answer)));
        } else if refused && !self.questions.is_empty() {
            self.questions.clear();
            let message = "Connection refused".to_owned();
            events.push(Event::KeepaliveEnded(Reply::Transport { stage: Stage::Connecting, message }));
        }
        if events.is_empty()
            && self.wakes.is_some_and(|wakes| wakes > self.clock(now))
            && now < self.slept_since + LONGEST_SLEEP
        {
            return;
        }
        events.push(Event::Observed(self.observation.clone()));
        self.slept_since = now;
        let clock = self.clock(now);
        for event in events {
            for action in self.node.step(clock, event) {
                match action {
                    Action::SendKeepalive => self.questions.push_back(now + latency),
                    Action::CloseConnection => {
                        self.questions.clear();
                        self.answers.clear();
                    }
                    Action::Promote => self.promoted = true,
                    Action::SetGate(_) | Action::TellRecorder(_) | Action::Log(_) => {}
                    other => panic!("{other:?}"),
                }
            }
        }
        self.wakes = self.node.next_deadline(clock);
    }

    fn may_commit(&self, now: u64) -> bool {
        match self.node.gate() {
            Gate::Open { until } => until > self.clock(now),
            other => panic!("{other:?}"),
        }
    }
}

fn pair(time: u64, count: u32, rates: (u64, u64)) -> (Server, Server) {
    let standby = Observation { in_recovery: true, standby_signal: true, streaming: true, ..primary() };
    (Server::new(1, primary(), settings(time, count), rates.0), Server::new(2, standby, settings(time, count), rates.1))
}

/// What arrives at `to` is answered, and the answer is on its way.
fn deliver(from: &mut Server, to: &Server, now: u64, latency: u64) {
    while from.questions.front().is_some_and(|at| *at <= now) {
        from.questions.pop_front();
        from.answers.push_back((now + latency, to.answer(now)));
    }
}

#[test]
fn in_the_calm_the_permit_never_ends() {
    for time in [250, 1000, 5000] {
        for count in [1, 2, 4] {
            for latency in [1, time / 50] {
                for phase in (0..time).step_by(usize::try_from(time / 9).unwrap()) {
                    let case = format!("time {time} count {count} latency {latency} phase {phase}");
                    let (mut primary, mut standby) = pair(time, count, (10_000, 10_000));
                    let mut opened = false;
                    for now in 0..phase + 8 * time {
                        if now >= phase {
                            deliver(&mut standby, &primary, now, latency);
                            deliver(&mut primary, &standby, now, latency);
                            primary.run(now, latency, false);
                        }
                        standby.run(now, latency, false);
                        // The standby must have heard its primary before it promises anything for sure.
                        opened |= now > phase + 2 * time && primary.may_commit(now);
                        assert!(!opened || primary.may_commit(now), "{case}: no permit at {now}");
                    }
                    assert!(opened, "{case}");
                }
            }
        }
    }
}

#[test]
fn a_primary_that_stops_has_no_permit_when_its_standby_is_promoted() {
    for time in [250, 1000] {
        for count in [1, 2, 4] {
            for refused in [false, true] {
                for latency in [1, time / 8] {
                    for phase in (0..time).step_by(usize::try_from(time / 5).unwrap()) {
                        for stops in (4 * time..5 * time).step_by(usize::try_from(time / 11).unwrap()) {
                            // The standby's clock is fast by almost as much as the permit allows for.
                            for rates in [(10_000, 10_000), (10_000, 10_019), (10_019, 10_000)] {
                                stop(time, count, refused, latency, phase, stops, rates);
                            }
                        }
                    }
                }
            }
        }
    }
}

fn stop(time: u64, count: u32, refused: bool, latency: u64, phase: u64, stops: u64, rates: (u64, u64)) {
    let case = format!(
        "time {time} count {count} refused {refused} latency {latency} phase {phase} stops {stops} rates {rates:?}"
    );
    let (mut primary, mut standby) = pair(time, count, rates);
    for now in 0..100_000 {
        if now >= phase && now < stops {
            deliver(&mut standby, &primary, now, latency);
            deliver(&mut primary, &standby, now, latency);
            primary.run(now, latency, false);
        }
        standby.run(now, latency, refused && now >= stops);
        if standby.promoted {
            assert!(!primary.may_commit(now), "{case}: promoted at {now}");
            // The last question that was answered was sent before the primary stopped.
            assert!(now - stops <= time * u64::from(count) + 2, "{case}: late, at {now}");
            return;
        }
    }
    panic!("{case}: never promoted");
}
