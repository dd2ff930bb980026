//! A way through the model as a story, one line a step.

use crate::scenario::Scenario;
use crate::world::{Clock, Fate, First, Memory, Micros, Move, Server, Who, Worker, World};
use keeper_core::{Branch, Moment, SynchronousNames};
use stateright::Path;
use std::fmt::Write as _;

/// Tells what happened, and what came of it.
pub fn tell(scenario: &Scenario, path: Path<World, Move>) -> String {
    let mut story = String::new();
    let steps = path.into_vec();
    let begins = steps.first().map_or(0, |(world, _)| world.now);
    for ((before, step), (after, _)) in steps.iter().zip(steps.iter().skip(1)) {
        let Some(step) = step else { continue };
        let mut parts: Vec<String> = Some(describe(*step)).into_iter().filter(|what| !what.is_empty()).collect();
        parts.extend(news(scenario, before, after, begins));
        if parts.is_empty() {
            continue;
        }
        // A permit that is renewed is no news, and explains what is.
        parts
            .extend(Who::BOTH.into_iter().filter_map(|who| permit(who, before.server(who), after.server(who), begins)));
        let line = parts.join("; ");
        let _ = writeln!(story, "{} {line}", seconds(after.now - begins));
    }
    story
}

fn describe(step: Move) -> String {
    match step {
        Move::Next(Fate::Calm) => String::new(),
        Move::Next(Fate::QuestionLost) => "a question is lost".into(),
        Move::Next(Fate::AnswerLost) => "an answer is lost".into(),
        Move::Next(Fate::QuestionLate(by)) => format!("a question will take {}", seconds(by)),
        Move::Next(Fate::AnswerLate(by)) => format!("an answer will take {}", seconds(by)),
        Move::Pause(who) => format!("{} is paused", who.name()),
        Move::Resume(who, First::Others) => format!("{} goes on, its clients first", who.name()),
        Move::Resume(who, First::Keeper) => format!("{} goes on, its keeper first", who.name()),
        Move::StopKeeper(who) => format!("the keeper of {} is stopped", who.name()),
        Move::ContinueKeeper(who) => format!("the keeper of {} goes on", who.name()),
        Move::KillKeeper(who) => format!("the keeper of {} is killed", who.name()),
        Move::StartKeeper(who) => format!("the keeper of {} is there again", who.name()),
        Move::Kill(who) => format!("{} is killed", who.name()),
        Move::Unplug(who) => format!("{} loses its power", who.name()),
        Move::Start(who) => format!("{} is started", who.name()),
        Move::CutFrom(who) => format!("nothing arrives any more that {} sends", who.name()),
        Move::Cut => "the cable is cut".into(),
        Move::Heal => "the network is whole again".into(),
        Move::Promote(who) => format!("an administrator promotes {}", who.name()),
        Move::Write(who) => format!("a client of {} writes", who.name()),
    }
}

fn news(scenario: &Scenario, before: &World, after: &World, begins: Micros) -> Vec<String> {
    let mut news = Vec::new();
    for who in Who::BOTH {
        news_of(who, before.server(who), after.server(who), begins, &mut news);
    }
    let acknowledged = after.witness.acknowledged.iter().skip(before.witness.acknowledged.len());
    news.extend(acknowledged.map(|write| format!("{} acknowledges write {}", write.by.name(), write.write)));
    let open = |world: &World| Who::BOTH.map(|who| world.lets_commit(scenario, who));
    if open(before) != open(after) {
        news.push(match open(after) {
            [true, true] => "both take writes".into(),
            [true, false] => "db01 takes writes".into(),
            [false, true] => "db02 takes writes".into(),
            [false, false] => "nobody takes writes".into(),
        });
    }
    news
}

fn news_of(who: Who, before: &Server, after: &Server, begins: Micros, news: &mut Vec<String>) {
    let name = who.name();
    if let Branch::TheyLeft(switch) = before.disk.history.branch(&after.disk.history) {
        news.push(format!(
            "{name} is promoted to timeline {}, which leaves {} at {}",
            after.disk.history.timeline(),
            switch.timeline,
            switch.at
        ));
    }
    if before.disk.names != after.disk.names {
        news.push(match after.disk.names {
            SynchronousNames::Wished => format!("commits on {name} wait for the standby"),
            SynchronousNames::Empty | SynchronousNames::Other => format!("commits on {name} wait for nobody"),
        });
    }
    let (Some(old), Some(new)) = (before.memory(), after.memory()) else { return };
    if old.promotes.is_none() && new.promotes.is_some() {
        news.push(format!("{name} asks to be promoted"));
    }
    if old.worker != Worker::Gone && new.worker == Worker::Gone {
        return;
    }
    let (was, is) = (old.node.status(), new.node.status());
    if was.partner_state != is.partner_state {
        let other = who.other().name();
        news.push(format!("{other} is {} to {name}", is.partner_state.as_str()));
    }
    if old.promised != new.promised {
        news.push(format!("{name} does not promote itself before {}", instant(after.clock, new.promised, begins)));
    }
    if old.gate.kind() != new.gate.kind() && !after.disk.standby {
        news.push(format!("{name} is {}", new.gate.kind().as_str()));
    }
}

fn permit(who: Who, before: &Server, after: &Server, begins: Micros) -> Option<String> {
    let until = after.memory()?.permit_end()?;
    let changed = before.memory().and_then(Memory::permit_end) != Some(until);
    let name = who.name();
    (changed && !after.disk.standby).then(|| format!("{name} may commit until {}", instant(after.clock, until, begins)))
}

fn instant(clock: Clock, moment: Moment, begins: Micros) -> String {
    match clock.when(moment).checked_sub(begins) {
        Some(at) => seconds(at),
        None => "now".into(),
    }
}

fn seconds(span: Micros) -> String {
    format!("{}.{:03}", span / 1_000_000, span % 1_000_000 / 1000)
}
