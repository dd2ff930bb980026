//! What came of all cases: a line while it runs, a table for people, and a file for programs.

use std::fmt::Write;

use serde_json::{Value, json};

use super::account::longest;
use super::expect::Failover;
use super::run::Record;
use crate::clock::{Micros, milliseconds};

/// One line.
pub fn line(record: &Record) -> String {
    let [first, second] = waits(record).map(|wait| milliseconds(0, wait) / 1000.0);
    let verdict = if record.violations.is_empty() { "ok" } else { "VIOLATED" };
    let outcome = &record.outcome;
    let mut line = format!(
        "{:<18} {:<5} {verdict:<8} {} failover(s){}, waited {first:.1} and {second:.1} s, {} acknowledged, {} lost, both {:.0} ms, {} by a replaced server ({:.0} s)",
        record.case.name,
        record.sync,
        outcome.failovers,
        if outcome.copied > 0 { ", rejoined by a whole copy" } else { "" },
        outcome.acknowledged,
        outcome.lost,
        milliseconds(0, outcome.both),
        outcome.by_replaced,
        record.took.as_secs_f64(),
    );
    for violation in &record.violations {
        let _ = write!(line, "\n    {violation}");
    }
    line
}

/// The table, in Markdown: one row for each fault, with its kinds of replication beside each other.
pub fn table(records: &[Record]) -> String {
    let mut text = String::from(
        "| fault | sync | failover | app01, app02 waited | allowed | lost of acknowledged | both acknowledged |  |\n\
         |---|---|---|---|---|---|---|---|\n",
    );
    for record in records {
        let outcome = &record.outcome;
        let [first, second] = waits(record).map(|wait| milliseconds(0, wait) / 1000.0);
        let failover = match (record.expected.failover, outcome.failovers) {
            (Failover::Wanted, count) if count > 1 => format!("{count}, wanted"),
            (Failover::Wanted, 0) => "none".to_owned(),
            (Failover::Wanted, _) => "wanted".to_owned(),
            (Failover::Unwanted, 0) => "none wanted".to_owned(),
            (Failover::Unwanted, _) => "unwanted".to_owned(),
            (Failover::Possible, 0) => "no, either is right".to_owned(),
            (Failover::Possible, _) => "yes, either is right".to_owned(),
        };
        let [one, other] = record.expected.bounds.map(|bound| bound.describe());
        let allowed = if one == other { one } else { format!("{one}; {other}") };
        let both = match (record.expected.both_may_acknowledge, outcome.both) {
            (_, 0) => "0".to_owned(),
            (_, both) => format!("{:.0} ms", milliseconds(0, both)),
        };
        let verdict = if record.violations.is_empty() { "ok" } else { "**violated**" };
        let _ = writeln!(
            text,
            "| {} | {} | {failover} | {first:.1} s, {second:.1} s | {allowed} | {} of {} | {both} | {verdict} |",
            record.case.title, record.sync, outcome.lost, outcome.acknowledged
        );
    }
    text
}

/// The same, and more, for programs.
pub fn json(records: &[Record]) -> Value {
    let rows = records.iter().map(|record| {
        let outcome = &record.outcome;
        let failover = match record.expected.failover {
            Failover::Wanted => "wanted",
            Failover::Unwanted => "unwanted",
            Failover::Possible => "possible",
        };
        let from_strike = |at: &Micros| outcome.struck.first().map(|struck| milliseconds(*struck, *at));
        json!({
            "name": record.case.name,
            "title": record.case.title,
            "sync": record.sync.to_string(),
            "rounds": record.case.rounds,
            "expected": {
                "failover": failover,
                "may_lose": record.expected.may_lose,
                "both_may_acknowledge": record.expected.both_may_acknowledge,
                "outage": record.expected.bounds.map(|bound| bound.describe()),
            },
            "failovers": outcome.failovers,
            "rejoined": outcome.rejoined,
            "copied": outcome.copied,
            "outage_ms": waits(record).map(|wait| milliseconds(0, wait)),
            "healed_ms": outcome.healed.iter().map(from_strike).collect::<Vec<_>>(),
            "acknowledged": outcome.acknowledged,
            "lost": outcome.lost,
            "twice": outcome.twice,
            "both_ms": milliseconds(0, outcome.both),
            "by_replaced": outcome.by_replaced,
            "seconds": record.took.as_secs_f64(),
            "violations": record.violations,
        })
    });
    Value::Array(rows.collect())
}

/// How long each application waited at most.
fn waits(record: &Record) -> [Micros; 2] {
    [0, 1].map(|place: usize| longest(&record.outcome.gaps[place]).map_or(0, |gap| gap.length()))
}
