//! One case, from a healthy pair to a healthy pair.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::account::{self, Acknowledgement};
use super::case::{Case, Surroundings};
use super::expect::{Expectation, Failover, Outcome, expectation, violations};
use super::fault::{self, Scene, management_is_kept};
use super::health::{Server, active, sql};
use super::host::Host;
use super::{DATABASES, Lab, disk};
use crate::clock::{self, Micros};
use crate::ledger::Entry;
use crate::replication::Replication;

/// Acknowledged rows that show that an application is served.
const IN_SERVICE: usize = 20;
/// What service may take before a case has failed. The promise is judged from the ledgers.
const SERVICE: Duration = Duration::from_secs(90);
/// What healing may take before a case has failed.
const HEALING: Duration = Duration::from_secs(180);
/// Between two looks at the hosts, which cost them something.
const LOOK: Duration = Duration::from_millis(400);

/// What was tried and what came of it.
#[derive(Debug)]
pub struct Record {
    /// What was tried.
    pub case: &'static Case,
    /// With what kind of replication.
    pub sync: Replication,
    /// What was expected.
    pub expected: Expectation,
    /// What came of it.
    pub outcome: Outcome,
    /// What is not as it must be.
    pub violations: Vec<String>,
    /// What it took.
    pub took: Duration,
}

/// Carries a case through. The fault comes after a pause. An error says that the laboratory did not come to be healthy.
pub fn run(lab: &Lab, case: &'static Case, sync: Replication, pause: Duration) -> Result<Record> {
    let begun = Instant::now();
    let expected = expectation(case, sync);
    set_replication(lab, sync)?;
    let mut outcome = Outcome::default();
    let mut healthy = heal(lab, sync, &[0, 1], &mut outcome).context("before the fault")?;
    let first = Scene { lab, active: healthy.active };
    first.prepare(case.surroundings).context("prepare")?;
    healthy =
        heal(lab, sync, fault::served_before(case.surroundings), &mut outcome).context("after the preparation")?;
    outcome = Outcome::default();
    let begin = Begin { active: healthy.active, timeline: healthy.timeline, places: places(lab) };

    for _ in 0..case.rounds {
        let scene = Scene { lab, active: healthy.active };
        sleep(pause);
        let struck = clock::now();
        outcome.struck.push(struck);
        scene.strike(case).context("strike")?;
        let served = match expected.failover {
            Failover::Wanted => await_service(lab, &[1 - scene.active], fault::served_after(case.surroundings), struck),
            Failover::Possible => await_service(lab, &[0, 1], fault::served_after(case.surroundings), struck),
            Failover::Unwanted => {
                sleep(fault::lasts(case.fault));
                Ok(())
            }
        };
        outcome.findings.extend(served.err().map(|error| format!("{error:#}")));
        outcome.findings.extend(before_healing(&scene, case.surroundings, begin.timeline)?);
        scene.heal(case).context("heal")?;
        outcome.healed.push(clock::now());
        healthy = heal(lab, sync, &[0, 1], &mut outcome).context("after the fault")?;
    }
    account(lab, &begin, &healthy, &mut outcome)?;
    if case.surroundings == Surroundings::ConfigurationManagement {
        outcome.findings.extend(management_is_kept(lab).err().map(|error| format!("{error:#}")));
    }
    first.undo(case.surroundings).context("undo")?;
    let violations = violations(&expected, &outcome, case.rounds);
    Ok(Record { case, sync, expected, outcome, violations, took: begun.elapsed() })
}

/// Where a case began.
struct Begin {
    active: usize,
    timeline: i64,
    /// How many entries each ledger had.
    places: [usize; 2],
}

/// A pair that is as it should be.
#[derive(Debug, Clone, Copy)]
pub struct Healthy {
    /// The place of the primary.
    pub active: usize,
    /// Its timeline.
    pub timeline: i64,
}

/// Sets how the pair replicates.
fn set_replication(lab: &Lab, sync: Replication) -> Result<()> {
    for host in &lab.databases {
        for (setting, value) in sync.settings() {
            sql(host, "postgres", &format!("alter system set {setting} = '{value}'"))?;
        }
        sql(host, "postgres", "select pg_reload_conf()")?;
    }
    Ok(())
}

/// Waits until all is as it should be, and rejoins by its own commands whatever server says that it was replaced. `applications` are to
/// write to the primary, and their watchers to be content.
pub fn heal(lab: &Lab, sync: Replication, applications: &[usize], outcome: &mut Outcome) -> Result<Healthy> {
    let begun = Instant::now();
    let mut fresh = places(lab);
    loop {
        let looked = (|| {
            let servers = [Server::ask(&lab.databases[0])?, Server::ask(&lab.databases[1])?];
            let place = active([&servers[0], &servers[1]], sync)?;
            for application in applications {
                serves(lab, *application, place, fresh[*application])?;
            }
            let timeline = servers[place].status.timeline.context("a primary without a timeline")?;
            Ok::<_, anyhow::Error>(Healthy { active: place, timeline })
        })();
        let error = match looked {
            Ok(healthy) => return Ok(healthy),
            Err(error) => error,
        };
        for host in &lab.databases {
            if Server::ask(host).is_ok_and(|server| server.is_fenced()) {
                rejoin(lab, host, outcome)?;
                fresh = places(lab);
            }
        }
        if begun.elapsed() > HEALING {
            bail!("not healthy after {HEALING:?}: {error:#}\n{}", lab.evidence());
        }
        sleep(LOOK);
    }
}

/// An error unless the application has been writing to this server, and to no other, since its ledger had so many entries.
fn serves(lab: &Lab, application: usize, server: usize, since: usize) -> Result<()> {
    let host = &lab.applications[application];
    let last: Vec<Entry> = lab.ledgers[application].since(since).into_iter().rev().take(IN_SERVICE).collect();
    ensure!(
        last.len() == IN_SERVICE && last.iter().all(|entry| server_of(entry) == Some(server)),
        "{} does not write to {}",
        host.name(),
        DATABASES[server]
    );
    host.sh("pg-keeper-watcher status --nagios").map(drop)
}

/// Makes a fenced server a standby, by the commands that it prints itself, as the server's user on its host.
fn rejoin(lab: &Lab, host: &Host, outcome: &mut Outcome) -> Result<()> {
    /// What the commands say where they have not begun, and a copy must do.
    const COPY: &str = "rejoin_plan(fresh_copy => true)";
    let plan = |call: &str| {
        host.sh_as("postgres", &format!("psql -d pg_state -XAtqw -c 'select pg_keeper.{call}' > /tmp/rejoin.sh"))?;
        carry_out(lab, host, "/tmp/rejoin.sh")
    };
    outcome.rejoined += 1;
    let Err(error) = plan("rejoin_plan()") else { return Ok(()) };
    let told = format!("{error:#}");
    if told.contains(COPY) {
        outcome.copied += 1;
        return plan(COPY);
    }
    // Where they have, the commands of a copy lie beside.
    let Some((_, copy)) = told.split_once("what this file says: ") else { return Err(error) };
    outcome.copied += 1;
    carry_out(lab, host, copy.lines().next().unwrap_or_default()).context(told.clone())
}

fn carry_out(lab: &Lab, host: &Host, file: &str) -> Result<()> {
    /// What the commands say when the server's user may not start it.
    const START_IT: &str = "Last, as root: systemctl start";
    match host.sh_as("postgres", &format!("sh '{file}' 2>&1")) {
        Err(error) if format!("{error:#}").contains(START_IT) => {
            host.sh(&format!("systemctl start {}", lab.unit())).map(drop)
        }
        carried_out => carried_out.map(drop).context("rejoin"),
    }
}

/// Waits until these applications are served by one of these servers.
fn await_service(lab: &Lab, servers: &[usize], applications: &[usize], since: Micros) -> Result<()> {
    let begun = Instant::now();
    let is_served = |application: &usize| {
        let entries = lab.ledgers[*application].since(lab.ledgers[*application].count().saturating_sub(IN_SERVICE));
        let good =
            |entry: &&Entry| entry.at > since && server_of(entry).is_some_and(|server| servers.contains(&server));
        entries.iter().filter(good).count() == IN_SERVICE
    };
    while !applications.iter().all(is_served) {
        ensure!(begun.elapsed() < SERVICE, "no service {SERVICE:?} after the fault\n{}", lab.evidence());
        sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// What a case has to show before it is healed.
fn before_healing(scene: &Scene<'_>, surroundings: Surroundings, timeline: i64) -> Result<Option<String>> {
    if surroundings != Surroundings::FullLog {
        return Ok(None);
    }
    // A disk that takes the row was not full, and proves nothing.
    let rows = disk::rows_of_timeline(scene.standby(), timeline + 1)?;
    Ok((rows != 0).then(|| "the log had room for its row".to_owned()))
}

fn account(lab: &Lab, begin: &Begin, healthy: &Healthy, outcome: &mut Outcome) -> Result<()> {
    // First what was acknowledged, then what is there: so nothing of it can be on its way.
    let end = clock::now();
    let acknowledged = [acknowledged_since(lab, 0, begin)?, acknowledged_since(lab, 1, begin)?];
    let host = &lab.databases[healthy.active];
    for (place, acknowledged) in acknowledged.iter().enumerate() {
        let Some(first) = acknowledged.first() else { continue };
        // Not by the index, which holds each row once whatever the table holds.
        let held = sql(
            host,
            "shop",
            &format!(
                "set enable_indexscan = off; set enable_indexonlyscan = off; set enable_bitmapscan = off; \
                 select number from rows where host = '{}' and number >= {}",
                lab.applications[place].name(),
                first.number
            ),
        )?;
        let held: Vec<i64> = held.lines().filter_map(|line| line.parse().ok()).collect();
        let (missing, twice) = account::missing_and_twice(acknowledged, &held);
        outcome.acknowledged += acknowledged.len();
        outcome.lost += missing.len();
        outcome.twice += twice;
        let struck = outcome.struck.first().copied().unwrap_or(end);
        outcome.gaps[place] = account::gaps(acknowledged, struck, end);
    }
    outcome.both = account::both_acknowledged([&acknowledged[0], &acknowledged[1]]);
    outcome.failovers = healthy.timeline - begin.timeline;
    for number in 1..=outcome.failovers {
        let replaced = if number % 2 == 1 { begin.active } else { 1 - begin.active };
        let until = promoted(host, begin.timeline + number + 1)?.unwrap_or(end);
        match promoted(host, begin.timeline + number)? {
            Some(from) => {
                let after = |instant| -> usize {
                    acknowledged.iter().map(|told| account::acknowledged_after(told, replaced, instant)).sum()
                };
                // A host whose clock is ahead was promoted in the future, by its own word.
                outcome.by_replaced += after(from).saturating_sub(after(until));
            }
            None => outcome.findings.push(format!("failover_log has no row for timeline {}", begin.timeline + number)),
        }
    }
    outcome.findings.extend(lab.ledgers.iter().filter_map(|ledger| ledger.complaint()));
    Ok(())
}

/// When a timeline began, by failover_log.
fn promoted(host: &Host, timeline: i64) -> Result<Option<Micros>> {
    let statement = format!(
        "select (extract(epoch from promoted) * 1000000)::bigint from public.failover_log where timeline = {timeline}"
    );
    Ok(sql(host, "pg_state", &statement)?.parse().ok())
}

/// What an application was told since the case began, and the last thing before.
fn acknowledged_since(lab: &Lab, application: usize, begin: &Begin) -> Result<Vec<Acknowledgement>> {
    let entries = lab.ledgers[application].since(begin.places[application].saturating_sub(1));
    let told = entries.iter().map(|entry| {
        let server = server_of(entry).with_context(|| format!("{} is no server of the laboratory", entry.server))?;
        Ok(Acknowledgement { number: entry.number, at: entry.at, server })
    });
    told.collect()
}

fn places(lab: &Lab) -> [usize; 2] {
    [lab.ledgers[0].count(), lab.ledgers[1].count()]
}

/// Which server an entry is about; addresses begin with its name.
fn server_of(entry: &Entry) -> Option<usize> {
    DATABASES.iter().position(|name| entry.server.starts_with(name))
}
