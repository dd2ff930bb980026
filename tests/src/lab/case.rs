//! The table of everything that is tried.

use std::time::Duration;

use anyhow::{Result, bail};

use crate::replication::Replication;

/// What befalls the laboratory. «Primary» and «standby» are what the servers are when it begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// SIGKILL to the primary's postmaster.
    KillPostmaster,
    /// SIGKILL to all that runs on the primary's host.
    KillHost,
    /// Everything on the primary's host stands still.
    Pause,
    /// No packet passes between the servers, both ways.
    CutDatabases,
    /// No packet passes between the primary and the applications, both ways.
    CutApplications,
    /// No packet passes between the primary and anybody.
    CutEverything,
    /// What the primary sends to the standby is lost.
    DropOutgoing,
    /// What the standby sends to the primary is lost.
    DropIncoming,
    /// A firewall between the servers resets connections and refuses new ones.
    Reject,
    /// The file system of the primary's WAL is full. It needs [`Surroundings::SmallWal`].
    WalDiskFull,
    /// The primary is stopped and started again after so long.
    Restart(Duration),
    /// SIGKILL to the standby's postmaster; it comes back.
    KillStandbyPostmaster,
    /// SIGKILL to all that runs on the standby's host; it comes back.
    KillStandbyHost,
    /// SIGKILL to all that runs on both database hosts; both come back.
    KillBoth,
    /// No name can be resolved, and the servers' open connections break.
    NamesGone,
    /// Every fsync of the primary takes long.
    SlowDisk,
    /// More processes than cores run on both database hosts, without a pause.
    Saturated,
    /// The file system of the primary's data hangs. It needs [`Surroundings::OwnDisk`].
    HungDisk,
}

/// In what surroundings it befalls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Surroundings {
    /// As the laboratory is.
    Usual,
    /// The primary's WAL lies on a small file system.
    SmallWal,
    /// The log's database lies on a small file system on the standby, which is full when the fault comes.
    FullLog,
    /// The watcher's own folder on the first application host is full when the fault comes.
    FullWatcher,
    /// The folder of the application's file on the first application host is full when the fault comes.
    FullConfiguration,
    /// The standby's clock is an hour ahead.
    ClockAhead,
    /// The first application is in its start limit.
    StartLimit,
    /// The first application does not stop when it is told to.
    IgnoresTerminate,
    /// Configuration management puts the first application's old file back, once the watcher has rewritten it.
    ConfigurationManagement,
    /// The second application host is down, and boots when the fault is healed.
    HostDown,
    /// The primary's data directory has a file system of its own.
    OwnDisk,
}

/// One thing that is tried.
#[derive(Debug, Clone, Copy)]
pub struct Case {
    /// Its name on the command line.
    pub name: &'static str,
    /// What the table calls it.
    pub title: &'static str,
    /// What befalls.
    pub fault: Fault,
    /// In what surroundings.
    pub surroundings: Surroundings,
    /// How often in a row, each time to the server that is primary then.
    pub rounds: usize,
    /// With what kinds of replication it is tried.
    pub syncs: &'static [Replication],
    /// With what kinds continuous integration tries it.
    pub in_ci: &'static [Replication],
    /// Whether it is drawn in a run of random faults.
    pub is_random: bool,
}

const OFF: &[Replication] = &[Replication::Off];
const ASYNC: &[Replication] = &[Replication::Async];
const WAIT: &[Replication] = &[Replication::Wait];
const EVERY: &[Replication] = &Replication::ALL;

const fn case(name: &'static str, title: &'static str, fault: Fault) -> Case {
    let surroundings = Surroundings::Usual;
    Case { name, title, fault, surroundings, rounds: 1, syncs: EVERY, in_ci: &[], is_random: false }
}

const fn down_for(seconds: u64) -> Fault {
    Fault::Restart(Duration::from_secs(seconds))
}

impl Case {
    const fn in_ci(self, in_ci: &'static [Replication]) -> Self {
        Self { in_ci, ..self }
    }

    /// Needs no preparation, and is soon over.
    const fn random(self) -> Self {
        Self { is_random: true, ..self }
    }

    const fn there_and_back(self) -> Self {
        Self { rounds: 2, ..self }
    }

    /// Replication has no part in it.
    const fn once(self) -> Self {
        Self { syncs: OFF, ..self }
    }

    const fn with(self, surroundings: Surroundings) -> Self {
        Self { surroundings, ..self }
    }
}

/// The table.
pub const CASES: &[Case] = &[
    case("kill-postmaster", "primary's postmaster killed", Fault::KillPostmaster).random().in_ci(OFF),
    case("kill-host", "primary's host killed", Fault::KillHost).random().in_ci(ASYNC),
    case("pause", "primary's host stands still, wakes up", Fault::Pause).random().in_ci(WAIT),
    case("cut-databases", "cable between the servers cut", Fault::CutDatabases).random().in_ci(EVERY),
    case("cut-applications", "primary cut off from the applications", Fault::CutApplications).random().in_ci(OFF),
    case("cut-everything", "primary cut off from everybody", Fault::CutEverything).random().in_ci(ASYNC),
    case("drop-outgoing", "packets from primary to standby lost", Fault::DropOutgoing).random(),
    case("drop-incoming", "packets from standby to primary lost", Fault::DropIncoming).random(),
    case("reject", "firewall between the servers rejects", Fault::Reject).random().in_ci(ASYNC),
    case("wal-disk-full", "primary's WAL disk full", Fault::WalDiskFull).with(Surroundings::SmallWal).in_ci(WAIT),
    case("log-disk-full", "disk of the standby's log full, primary killed", Fault::KillPostmaster)
        .with(Surroundings::FullLog)
        .once()
        .in_ci(OFF),
    case("watcher-disk-full", "watcher's disk full on app01, primary killed", Fault::KillPostmaster)
        .with(Surroundings::FullWatcher)
        .once()
        .in_ci(OFF),
    case("file-disk-full", "application's disk full on app01, primary killed", Fault::KillPostmaster)
        .with(Surroundings::FullConfiguration)
        .once(),
    case("restart-within", "primary restarted at once", down_for(0)).random().in_ci(WAIT),
    case("restart-at", "primary restarted after 2 s", down_for(2)).random(),
    case("restart-after", "primary restarted after 8 s", down_for(8)).random().in_ci(OFF),
    case("kill-standby", "standby's postmaster killed", Fault::KillStandbyPostmaster).random().in_ci(ASYNC),
    case("kill-standby-host", "standby's host killed", Fault::KillStandbyHost).random().in_ci(WAIT),
    case("kill-both", "both hosts killed", Fault::KillBoth).random().in_ci(ASYNC),
    case("there-and-back", "failover, and failover back", Fault::KillPostmaster).there_and_back().in_ci(WAIT),
    case("names-gone", "no name resolves, connections break", Fault::NamesGone).random().in_ci(ASYNC),
    case("clock-ahead", "standby's clock an hour ahead; failover, and back", Fault::KillPostmaster)
        .with(Surroundings::ClockAhead)
        .there_and_back(),
    case("slow-disk", "primary's fsync takes 200 ms", Fault::SlowDisk),
    case("start-limit", "app01 in its start limit, primary killed", Fault::KillPostmaster)
        .with(Surroundings::StartLimit)
        .once()
        .in_ci(OFF),
    case("ignores-sigterm", "app01 ignores SIGTERM, primary killed", Fault::KillPostmaster)
        .with(Surroundings::IgnoresTerminate)
        .once(),
    case("managed-file", "app01's old file put back, primary killed", Fault::KillPostmaster)
        .with(Surroundings::ConfigurationManagement)
        .once()
        .in_ci(OFF),
    case("late-host", "app02 booted after the failover", Fault::KillPostmaster)
        .with(Surroundings::HostDown)
        .once()
        .in_ci(OFF),
    case("saturated", "both servers' CPUs saturated for 5 minutes", Fault::Saturated).once(),
    case("hung-disk", "primary's disk hangs for 20 s", Fault::HungDisk).with(Surroundings::OwnDisk),
];

/// The case of a name.
pub fn named(name: &str) -> Result<&'static Case> {
    match CASES.iter().find(|case| case.name == name) {
        Some(case) => Ok(case),
        None => {
            let names: Vec<&str> = CASES.iter().map(|case| case.name).collect();
            bail!("no case is named {name}; there are: {}", names.join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn names_are_given_once() {
        let names: HashSet<&str> = CASES.iter().map(|case| case.name).collect();
        assert_eq!(names.len(), CASES.len());
        assert_eq!(named("late-host").unwrap().surroundings, Surroundings::HostDown);
        assert!(named("later-host").is_err());
    }

    #[test]
    fn continuous_integration_tries_nothing_that_the_whole_does_not() {
        for case in CASES {
            assert!(case.in_ci.iter().all(|sync| case.syncs.contains(sync)), "{}", case.name);
        }
    }
}
