//! An outage as text for a person.

use std::fmt::Write;

use similar::TextDiff;

use crate::clock::{Micros, milliseconds};
use crate::scenario::Outage;

/// The moments in order, in milliseconds from the fault.
pub fn moments(outage: &Outage) -> String {
    let last = &outage.last_acknowledged;
    let first = &outage.first_acknowledged;
    let mut moments: Vec<(Micros, String)> = vec![
        (last.at, format!("last acknowledged write: row {} on {}", last.number, last.server)),
        (outage.fault, "FAULT".to_owned()),
        (outage.lost, "standby: partner lost".to_owned()),
        (outage.promoted, "standby: promoted".to_owned()),
        (outage.recorded, "standby: row committed in failover_log".to_owned()),
        (outage.active_known, "watcher: knows the new active node".to_owned()),
        (outage.rewritten, "watcher: rewrote env.yaml".to_owned()),
        (outage.restart_issued, "watcher: restart issued".to_owned()),
        (outage.restarted, "watcher: restart finished".to_owned()),
        (first.at, format!("first acknowledged write: row {} on {}", first.number, first.server)),
    ];
    if let Some(last_answer) = outage.last_answer {
        moments.push((last_answer, "last keepalive answered".to_owned()));
    }
    moments.sort();
    let mut text = String::new();
    let mut previous = None;
    for (at, what) in moments {
        let step = previous.map_or(String::new(), |before| format!("+{:.1}", milliseconds(before, at)));
        let _ = writeln!(text, "  {:>9.1} ms {step:>9}   {what}", milliseconds(outage.fault, at));
        previous = Some(at);
    }
    text
}

/// The failover_log row, one column a line, without the columns that only serve measuring.
pub fn row(outage: &Outage) -> String {
    let columns = outage.row.columns().filter(|(name, _)| !name.ends_with("_us"));
    columns.fold(String::new(), |mut text, (name, value)| {
        let _ = writeln!(text, "  {name:<18} {}", value.unwrap_or("∅"));
        text
    })
}

/// What the watcher changed in the application's file.
pub fn file_diff(outage: &Outage) -> String {
    let diff = TextDiff::from_lines(&outage.file_before, &outage.file_after);
    diff.unified_diff().context_radius(1).header("env.yaml before", "env.yaml after").to_string()
}

/// How many acknowledged writes the new primary lacks.
pub fn losses(outage: &Outage) -> String {
    if outage.missing.is_empty() {
        return format!("  0 of {} acknowledged rows lost", outage.acknowledged);
    }
    format!(
        "  {} of {} acknowledged rows lost (replication is asynchronous): {:?}",
        outage.missing.len(),
        outage.acknowledged,
        outage.missing
    )
}
