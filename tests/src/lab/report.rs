//! What came of all cases: a line while it runs, a table for people, and a file for programs.

use std::fmt::Write;

use serde_json::json;

use super::account::longest;
use super::case::CASES;
use super::expect::Failover;
use super::run::Record;
use crate::clock::{Micros, milliseconds};
use crate::replication::Replication;

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

/// The table, in Markdown: one row for each fault, with what is the case without, with `async` and with `wait` beside each other.
pub fn table(records: &[Record]) -> String {
    let mut text = String::from(
        "| fault | failover | an application waited at most | allowed | acknowledged rows lost | both acknowledged |\n\
         |---|---|---|---|---|---|\n",
    );
    for case in CASES {
        let of_case: Vec<&Record> = records.iter().filter(|record| record.case.name == case.name).collect();
        if of_case.is_empty() {
            continue;
        }
        let cell = |tell: &dyn Fn(&Record) -> String| {
            let told = Replication::ALL
                .map(|sync| of_case.iter().find(|record| record.sync == sync).map(|record| tell(record)));
            let mut known: Vec<String> = told.into_iter().flatten().collect();
            if known.iter().all(|one| *one == known[0]) {
                known.truncate(1);
            }
            known.join(" / ")
        };
        let failover = cell(&|record| {
            let wanted = match record.expected.failover {
                Failover::Wanted => "wanted",
                Failover::Unwanted => "not wanted",
                Failover::Possible => "may be",
            };
            match (record.expected.failover, record.outcome.failovers) {
                (Failover::Wanted, count) if usize::try_from(count) == Ok(record.case.rounds) => wanted.to_owned(),
                (Failover::Unwanted, 0) => wanted.to_owned(),
                (_, count) => format!("{wanted}, {count}"),
            }
        });
        let waited = cell(&|record| {
            let [first, second] = waits(record).map(|wait| milliseconds(0, wait) / 1000.0);
            let [one, other] = record.expected.bounds;
            let both = one != other;
            let told =
                if both { format!("{first:.1} s and {second:.1} s") } else { format!("{:.1} s", first.max(second)) };
            if record.violations.is_empty() { told } else { format!("**{told}**") }
        });
        let allowed = cell(&|record| {
            let [one, other] = record.expected.bounds.map(|bound| bound.describe());
            if one == other { one } else { format!("app01 {one}; app02 {other}") }
        });
        let lost = cell(&|record| record.outcome.lost.to_string());
        let both = cell(&|record| format!("{:.0} ms", milliseconds(0, record.outcome.both)));
        let _ = writeln!(text, "| {} | {failover} | {waited} | {allowed} | {lost} | {both} |", case.title);
    }
    text
}

/// The same, and more, for programs: JSON, an object on each line.
pub fn json(records: &[Record]) -> String {
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
        .to_string()
    });
    format!("[\n{}\n]\n", rows.collect::<Vec<_>>().join(",\n"))
}

/// How long each application waited at most.
fn waits(record: &Record) -> [Micros; 2] {
    [0, 1].map(|place: usize| longest(&record.outcome.gaps[place]).map_or(0, |gap| gap.length()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::account::Gap;
    use crate::lab::case::named;
    use crate::lab::expect::{Outcome, expectation};
    use std::time::Duration;

    fn record(name: &str, sync: Replication, change: fn(&mut Record)) -> Record {
        let case = named(name).unwrap();
        let gap = vec![Gap { from: 0, to: 2_500_000 }];
        let outcome = Outcome { failovers: 1, rejoined: 1, gaps: [gap.clone(), gap], ..Outcome::default() };
        let expected = expectation(case, sync);
        let mut record = Record { case, sync, expected, outcome, violations: Vec::new(), took: Duration::ZERO };
        change(&mut record);
        record
    }

    #[test]
    fn a_fault_has_one_row_that_says_alike_things_once() {
        let records = [
            record("late-host", Replication::Off, |_| ()),
            record("pause", Replication::Wait, |record| record.violations.push("something".to_owned())),
            record("pause", Replication::Off, |record| record.outcome.lost = 3),
        ];
        let text = table(&records);
        let rows: Vec<&str> = text.lines().skip(2).collect();
        assert_eq!(
            rows,
            [
                "| primary's host stands still, wakes up | wanted | 2.5 s / **2.5 s** | 5 s | 3 / 0 | 0 ms |",
                "| app02 booted after the failover | wanted | 2.5 s and 2.5 s | app01 5 s; app02 until healed, and 30 s | 0 | 0 ms |",
            ]
        );
    }
}
