//! What must come of a fault, and whether it did.

use std::time::Duration;

use super::account::Gap;
use super::case::{Case, Fault, Surroundings};
use super::{KEEPALIVE_TIME, WINDOW};
use crate::clock::{Micros, as_micros, milliseconds};
use crate::replication::Replication;

/// What follows a detection: promotion, rewrite, restart of the application by systemd, its first write. The promise of README.
const AFTER_LOSS: Duration = Duration::from_secs(2);
/// From a fault that leaves the primary in place to its next acknowledgement.
const NO_OUTAGE: Duration = Duration::from_secs(2);
/// What a host of the laboratory takes to boot, a server to recover, and a standby to be counted again.
const BOOT: Duration = Duration::from_secs(30);
/// A connection whose packets were lost sends them again after up to as long as it was broken; then the application goes on.
const REPEAT: Duration = Duration::from_secs(10);
/// What the watcher gives an application to stop, by its default `kill_after`.
const KILL_AFTER: Duration = Duration::from_secs(10);
/// The watcher's longest pause between two tries of a rewrite or a restart, and one of these.
const RETRY: Duration = Duration::from_secs(65);

/// Whether the standby is to take over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failover {
    /// It must.
    Wanted,
    /// It must not.
    Unwanted,
    /// Either is right.
    Possible,
}

/// How long an application may wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bound {
    /// So long, whatever is done about the fault; `None` for a fault that lasts until it is healed.
    pub within: Option<Duration>,
    /// Or so long after the fault is healed.
    pub after_healing: Option<Duration>,
}

/// What must come of a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expectation {
    /// Whether the standby takes over.
    pub failover: Failover,
    /// Whether acknowledged rows may be lost.
    pub may_lose: bool,
    /// Whether both servers may acknowledge rows at one time, and the old one rows after it was replaced.
    pub both_may_acknowledge: bool,
    /// How long each of the applications may wait.
    pub bounds: [Bound; 2],
}

/// What came of it.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    /// How often the standby took over.
    pub failovers: i64,
    /// How often a replaced server was seen fenced and was rejoined.
    pub rejoined: i64,
    /// How often that took a copy of the whole partner.
    pub copied: i64,
    /// When the fault was struck, each time.
    pub struck: Vec<Micros>,
    /// When it was healed, each time.
    pub healed: Vec<Micros>,
    /// The times that each application waited.
    pub gaps: [Vec<Gap>; 2],
    /// Rows that were acknowledged.
    pub acknowledged: usize,
    /// Those of them that the active server lacks.
    pub lost: usize,
    /// Rows that it holds more than once.
    pub twice: usize,
    /// How long both acknowledged.
    pub both: Micros,
    /// Rows that a server acknowledged after it had been replaced.
    pub by_replaced: usize,
    /// What the case itself found wrong.
    pub findings: Vec<String>,
}

const fn within(limit: Duration) -> Bound {
    Bound { within: Some(limit), after_healing: None }
}

const fn after_healing(limit: Duration) -> Bound {
    Bound { within: Some(NO_OUTAGE), after_healing: Some(limit) }
}

/// What must come of a case.
pub fn expectation(case: &Case, sync: Replication) -> Expectation {
    let expected = of_fault(case.fault, sync);
    let service = within(WINDOW + AFTER_LOSS);
    let [first, second] = expected.bounds;
    let bounds = match case.surroundings {
        Surroundings::FullWatcher | Surroundings::FullConfiguration => [after_healing(RETRY), second],
        Surroundings::IgnoresTerminate => [within(WINDOW + AFTER_LOSS + KILL_AFTER), second],
        Surroundings::HostDown => [first, Bound { after_healing: Some(BOOT), ..service }],
        Surroundings::Usual
        | Surroundings::SmallWal
        | Surroundings::FullLog
        | Surroundings::ClockAhead
        | Surroundings::StartLimit
        | Surroundings::ConfigurationManagement
        | Surroundings::OwnDisk => expected.bounds,
    };
    Expectation { bounds, ..expected }
}

fn of_fault(fault: Fault, sync: Replication) -> Expectation {
    let service = within(WINDOW + AFTER_LOSS);
    let replaced = |may_lose| Expectation {
        failover: Failover::Wanted,
        may_lose,
        both_may_acknowledge: false,
        bounds: [service; 2],
    };
    let kept = |bound| Expectation {
        failover: Failover::Unwanted,
        may_lose: false,
        both_may_acknowledge: false,
        bounds: [bound; 2],
    };
    match fault {
        Fault::KillPostmaster | Fault::KillHost | Fault::Pause | Fault::CutEverything | Fault::WalDiskFull => {
            replaced(sync == Replication::Off)
        }
        // Two servers that cannot hear each other and both live: README says that both take writes unless commits wait.
        Fault::CutDatabases | Fault::DropOutgoing | Fault::DropIncoming | Fault::Reject => {
            let may = sync != Replication::Wait;
            Expectation { both_may_acknowledge: may, ..replaced(may) }
        }
        // Nobody tells the servers. The applications are back when they can reach the primary.
        Fault::CutApplications => kept(after_healing(REPEAT)),
        // A clean stop waits until the standby has everything. To stop and to start take their time as well, and the window may have begun
        // up to a keepalive before.
        Fault::Restart(down) if down.is_zero() => kept(service),
        Fault::Restart(down) if down <= WINDOW => Expectation { failover: Failover::Possible, ..replaced(false) },
        Fault::Restart(_) => replaced(false),
        Fault::KillStandbyPostmaster | Fault::KillStandbyHost => kept(match (sync, fault) {
            (Replication::Off, _) | (Replication::Async, Fault::KillStandbyPostmaster) => within(NO_OUTAGE),
            // It is dropped when it cannot promote itself any more.
            (Replication::Async, _) => within(WINDOW + KEEPALIVE_TIME + NO_OUTAGE),
            (Replication::Wait, _) => after_healing(BOOT),
        }),
        Fault::KillBoth => kept(after_healing(BOOT)),
        // Keepalives go on, to the addresses that worked before. PostgreSQL's own stream resolves its host anew, and stays broken.
        Fault::NamesGone => kept(match sync {
            Replication::Off => within(NO_OUTAGE),
            Replication::Async => within(WINDOW + KEEPALIVE_TIME + NO_OUTAGE),
            Replication::Wait => after_healing(WINDOW + AFTER_LOSS),
        }),
        Fault::SlowDisk | Fault::Saturated => kept(service),
        Fault::HungDisk => kept(after_healing(NO_OUTAGE)),
    }
}

/// What is not as it must be, in sentences; nothing if all is.
pub fn violations(expected: &Expectation, outcome: &Outcome, rounds: usize) -> Vec<String> {
    let mut found = outcome.findings.clone();
    let rounds = i64::try_from(rounds).unwrap_or(i64::MAX);
    match expected.failover {
        Failover::Wanted if outcome.failovers != rounds => {
            found.push(format!("{} failovers, {rounds} wanted", outcome.failovers));
        }
        Failover::Unwanted if outcome.failovers != 0 => found.push("a failover that nobody wanted".to_owned()),
        Failover::Wanted | Failover::Unwanted | Failover::Possible => {}
    }
    if outcome.rejoined != outcome.failovers {
        found.push(format!(
            "{} failovers, and {} servers were fenced and rejoined",
            outcome.failovers, outcome.rejoined
        ));
    }
    if outcome.copied > 0 {
        found.push(format!("{} rejoined by a whole copy, where pg_rewind should have done", outcome.copied));
    }
    if outcome.lost > 0 && !expected.may_lose {
        found.push(format!("{} acknowledged rows lost", outcome.lost));
    }
    if outcome.twice > 0 {
        found.push(format!("{} rows are there twice", outcome.twice));
    }
    if !expected.both_may_acknowledge && (outcome.both > 0 || outcome.by_replaced > 0) {
        let both = milliseconds(0, outcome.both);
        found.push(format!(
            "both acknowledged for {both:.0} ms; {} rows by a server that had been replaced",
            outcome.by_replaced
        ));
    }
    for (place, (bound, gaps)) in expected.bounds.iter().zip(&outcome.gaps).enumerate() {
        found.extend(gaps.iter().filter(|gap| !bound.allows(**gap, &outcome.healed)).map(|gap| {
            let begun = outcome.struck.first().map_or(0.0, |struck| milliseconds(*struck, gap.from));
            format!(
                "{} waited {:.1} s, from {:.1} s after the fault; allowed: {}",
                super::APPLICATIONS[place],
                milliseconds(0, gap.length()) / 1000.0,
                begun / 1000.0,
                bound.describe()
            )
        }));
    }
    found
}

impl Bound {
    fn allows(&self, gap: Gap, healed: &[Micros]) -> bool {
        let short = self.within.is_some_and(|limit| gap.length() <= as_micros(limit));
        let healed_by = healed.iter().find(|at| **at >= gap.from);
        short
            || self
                .after_healing
                .is_some_and(|limit| healed_by.is_some_and(|healed| gap.to <= healed + as_micros(limit)))
    }

    /// For the table.
    pub fn describe(&self) -> String {
        let seconds = |limit: Duration| format!("{} s", limit.as_secs());
        match (self.within, self.after_healing) {
            (_, Some(limit)) => format!("until healed, and {}", seconds(limit)),
            (Some(limit), None) => seconds(limit),
            (None, None) => "any".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::case::CASES;

    const SECOND: Micros = 1_000_000;

    fn gap(from: Micros, to: Micros) -> Vec<Gap> {
        vec![Gap { from: from * SECOND, to: to * SECOND }]
    }

    /// The first case with this fault.
    fn of(fault: Fault) -> &'static Case {
        CASES.iter().find(|case| case.fault == fault).unwrap()
    }

    fn well(case: &Case) -> Outcome {
        let wanted = expectation(case, Replication::Wait).failover == Failover::Wanted;
        let failovers = if wanted { i64::try_from(case.rounds).unwrap() } else { 0 };
        Outcome {
            failovers,
            rejoined: failovers,
            struck: vec![10 * SECOND],
            healed: vec![20 * SECOND],
            gaps: [gap(10, 12), gap(10, 11)],
            ..Outcome::default()
        }
    }

    fn found(fault: Fault, sync: Replication, change: fn(&mut Outcome)) -> Vec<String> {
        let mut outcome = well(of(fault));
        change(&mut outcome);
        violations(&expectation(of(fault), sync), &outcome, 1)
    }

    #[test]
    fn what_goes_as_it_must_violates_nothing() {
        for case in CASES {
            for sync in case.syncs {
                let found = violations(&expectation(case, *sync), &well(case), case.rounds);
                assert_eq!(found, Vec::<String>::new(), "{}", case.name);
            }
        }
    }

    #[test]
    fn synchronous_replication_loses_nothing_whatever_befalls() {
        for case in CASES {
            assert!(!expectation(case, Replication::Wait).may_lose, "{}", case.name);
            assert!(!expectation(case, Replication::Wait).both_may_acknowledge, "{}", case.name);
        }
    }

    #[test]
    fn a_failover_is_missed_or_too_many() {
        assert_eq!(
            found(Fault::Pause, Replication::Off, |o| (o.failovers, o.rejoined) = (0, 0)),
            ["0 failovers, 1 wanted"]
        );
        assert_eq!(
            found(Fault::NamesGone, Replication::Off, |o| (o.failovers, o.rejoined) = (1, 1)),
            ["a failover that nobody wanted"]
        );
        assert_eq!(
            found(Fault::Restart(Duration::from_secs(2)), Replication::Off, |o| (o.failovers, o.rejoined) = (1, 1)),
            Vec::<String>::new()
        );
        assert_eq!(found(Fault::Pause, Replication::Off, |o| o.rejoined = 0).len(), 1);
    }

    #[test]
    fn rows_are_lost_where_they_may_be_and_nowhere_else() {
        assert!(found(Fault::Pause, Replication::Off, |o| o.lost = 3).is_empty());
        assert_eq!(found(Fault::Pause, Replication::Async, |o| o.lost = 3), ["3 acknowledged rows lost"]);
        assert_eq!(found(Fault::CutApplications, Replication::Off, |o| o.lost = 1), ["1 acknowledged rows lost"]);
        assert_eq!(found(Fault::CutDatabases, Replication::Wait, |o| o.lost = 1), ["1 acknowledged rows lost"]);
        assert_eq!(found(Fault::Pause, Replication::Off, |o| o.twice = 1), ["1 rows are there twice"]);
    }

    #[test]
    fn both_acknowledge_only_across_a_cut_cable() {
        assert!(found(Fault::CutDatabases, Replication::Async, |o| o.both = 5).is_empty());
        assert_eq!(found(Fault::CutDatabases, Replication::Wait, |o| o.both = 5).len(), 1);
        assert_eq!(found(Fault::CutEverything, Replication::Off, |o| o.by_replaced = 1).len(), 1);
    }

    #[test]
    fn an_outage_is_within_its_bound_or_told() {
        assert!(found(Fault::Pause, Replication::Off, |o| o.gaps[0] = gap(10, 15)).is_empty());
        let told = found(Fault::Pause, Replication::Off, |o| o.gaps[1] = gap(10, 16));
        assert_eq!(told, ["app02 waited 6.0 s, from 0.0 s after the fault; allowed: 5 s"]);
        // Healed at 20.
        assert!(found(Fault::CutApplications, Replication::Off, |o| o.gaps[0] = gap(10, 29)).is_empty());
        assert_eq!(found(Fault::CutApplications, Replication::Off, |o| o.gaps[0] = gap(10, 31)).len(), 1);
        assert_eq!(found(Fault::CutApplications, Replication::Off, |o| o.gaps[0] = gap(21, 24)).len(), 1);
    }
}
