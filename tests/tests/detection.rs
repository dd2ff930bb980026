//! When a partner is found lost: not before `(keepalive_count - 1) * keepalive_time` after its last answer, not later than
//! `keepalive_count * keepalive_time`, in whatever way it fails.

use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use keeper_tests::clock::{as_micros, milliseconds, now};
use keeper_tests::fault::{Fault, cut_keepalives};
use keeper_tests::install::run;
use keeper_tests::mounts;
use keeper_tests::netns;
use keeper_tests::node::Node;
use keeper_tests::pair::Pair;
use keeper_tests::process;
use keeper_tests::state::failover_log;
use nix::sys::signal::{Signal, kill};

/// Only one kind of fault at a time: starting servers for the next one would take the processors from the one measured.
static QUIET: Mutex<()> = Mutex::new(());

const COUNTS: [u32; 3] = [1, 2, 4];
const TIMES: [Duration; 3] = [Duration::from_millis(250), Duration::from_secs(1), Duration::from_secs(2)];

#[derive(Debug, Clone, Copy)]
struct Case {
    fault: Fault,
    count: u32,
    time: Duration,
}

/// What the new primary says about how it found out.
struct Finding {
    silence: i64,
    evidence: String,
}

impl Case {
    fn start(self) -> Result<Pair> {
        let pair = Pair::describe("detect").keepalive_count(self.count).keepalive_time(self.time);
        if self.fault == Fault::DropPackets { pair.in_namespaces().start() } else { pair.start() }
            .with_context(|| format!("{self:?}"))
    }

    fn measure(self, pair: &Pair) -> Result<Finding> {
        self.fault.strike(pair)?;
        pair.wait_promoted(&pair.standby)?;
        let row = pair.wait_recorded(&pair.standby, 2)?;
        pair.check(row.text("reason")? == "partner lost", "another reason than a lost partner")?;
        Ok(Finding {
            silence: row.integer("detected_us")? - row.integer("last_answer_us")?,
            evidence: format!("{row}\n{}", pair.evidence()),
        })
    }

    /// Says how the finding is out of bounds.
    fn fault_of(self, finding: &Finding) -> Option<String> {
        let least = as_micros(self.time * (self.count - 1));
        let most = as_micros(self.time * self.count);
        if (least..=most).contains(&finding.silence) {
            return None;
        }
        let after = milliseconds(0, finding.silence);
        Some(format!(
            "{self:?}: lost {after} ms after the last answer; must be {least} to {most} µs\n{}",
            finding.evidence
        ))
    }
}

/// All counts and times for one kind of fault, side by side.
fn every_window(fault: Fault) -> Result<()> {
    let _quiet = QUIET.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let cases = COUNTS.into_iter().flat_map(|count| TIMES.map(|time| Case { fault, count, time }));
    let pairs = side_by_side(cases.collect(), |case| Ok((case, case.start()?)))?;
    let findings = side_by_side(pairs, |(case, pair)| Ok((case, case.measure(&pair)?)))?;
    let mut failures = Vec::new();
    for (case, finding) in findings {
        let Some(mut failure) = case.fault_of(&finding) else {
            continue;
        };
        // Nine pairs on a busy machine can make a wake late by more than an attempt's margin; alone it must be in time. Too early is
        // never the machine's fault.
        if finding.silence > as_micros(case.time * case.count) {
            println!("repeated alone: {failure}");
            match case.fault_of(&case.measure(&case.start()?)?) {
                None => continue,
                Some(again) => failure = format!("{failure}\nand again: {again}"),
            }
        }
        failures.push(failure);
    }
    if failures.is_empty() { Ok(()) } else { bail!("{}", failures.join("\n\n")) }
}

/// Does the work for every item in a thread of its own; the first error counts.
fn side_by_side<I: Send, O: Send>(items: Vec<I>, work: impl Fn(I) -> Result<O> + Sync) -> Result<Vec<O>> {
    thread::scope(|scope| {
        let workers: Vec<_> = items.into_iter().map(|item| scope.spawn(|| work(item))).collect();
        workers.into_iter().map(|worker| worker.join().expect("a worker of the test panicked")).collect()
    })
}

#[test]
fn postmaster_killed() -> Result<()> {
    every_window(Fault::KillPostmaster)
}

#[test]
fn every_process_killed() -> Result<()> {
    every_window(Fault::KillAll)
}

#[test]
fn immediate_shutdown() -> Result<()> {
    every_window(Fault::ImmediateShutdown)
}

#[test]
fn fast_shutdown_and_no_start() -> Result<()> {
    every_window(Fault::FastShutdown)
}

#[test]
fn every_process_frozen() -> Result<()> {
    every_window(Fault::Freeze)
}

#[test]
fn packets_dropped() -> Result<()> {
    if !netns::available()? {
        return Ok(());
    }
    every_window(Fault::DropPackets)
}

/// With fast_failover a proven death takes a few probes instead of the window.
#[test]
fn fast_failover_needs_no_window_for_a_proven_death() -> Result<()> {
    let _quiet = QUIET.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    for fault in [Fault::KillAll, Fault::KillPostmaster] {
        let pair = Pair::describe("fast")
            .keepalive_count(3)
            .keepalive_time(Duration::from_secs(5))
            .set("pg_keeper.fast_failover = on")
            .start()?;
        let struck = now();
        fault.strike(&pair)?;
        pair.wait_promoted(&pair.standby)?;
        let row = pair.wait_recorded(&pair.standby, 2)?;
        let took = milliseconds(struck, row.integer("detected_us")?);
        // The whole window is 15 s.
        pair.check(took < 2000.0, &format!("{fault}: lost only after {took} ms"))?;
    }
    Ok(())
}

/// Silence and an announced stop prove nothing, so they get the whole window also with fast_failover.
#[test]
fn fast_failover_waits_where_nothing_is_proven() -> Result<()> {
    let _quiet = QUIET.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let cases = vec![Fault::Freeze, Fault::FastShutdown];
    side_by_side(cases, |fault| {
        let time = Duration::from_secs(1);
        let case = Case { fault, count: 3, time };
        let pair = Pair::describe("slow")
            .keepalive_count(case.count)
            .keepalive_time(time)
            .set("pg_keeper.fast_failover = on")
            .start()?;
        let finding = case.measure(&pair)?;
        match case.fault_of(&finding) {
            None => Ok(()),
            Some(failure) => bail!("{failure}"),
        }
    })?;
    Ok(())
}

/// The keeper's own stall voids an attempt, and must not put the decision off for ever.
#[test]
fn a_stalled_keeper_decides_when_it_goes_on() -> Result<()> {
    let _quiet = QUIET.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let pair = Pair::describe("stall").start()?;
    let keeper = pair.standby.keeper()?;
    kill(keeper, Signal::SIGSTOP)?;
    pair.primary.kill_all()?;
    // Three windows.
    pair.stays_standby(Duration::from_millis(1500))?;
    kill(keeper, Signal::SIGCONT)?;
    pair.wait_promoted(&pair.standby)?;
    pair.wait_recorded(&pair.standby, 2).map(drop)
}

/// A program that takes for ever to be loaded (a disk that hangs, a machine without a processor to spare) holds up no keeper that needs
/// it to find its partner's address.
#[test]
fn a_program_that_is_never_loaded_holds_up_nothing() -> Result<()> {
    let Some(mounts) = mounts::private()? else { return Ok(()) };
    let line = "pg_keeper.partner_conninfo = 'host=localhost port={partner_port} user=postgres'";
    let pair = Pair::describe("loading").set(line).start()?;
    // Where a program is looked for, and no answer found, before the folder that it lies in.
    let searched = std::env::var_os("PATH").context("there is no PATH")?;
    let mut folders = std::env::split_paths(&searched).take_while(|folder| !folder.join("getent").exists());
    let first = folders.find(|folder| folder.starts_with("/usr/local") && folder.is_dir());
    let first = first.context("PATH has no folder of /usr/local before that of getent")?;
    let never = mounts.hung(&first)?;
    let keeper = pair.standby.keeper()?;
    pair.wait_until("the keeper to ask for the name", || {
        cut_keepalives(&pair.primary)?;
        Ok(!process::children_of(&[keeper]).is_empty())
    })?;
    pair.primary.kill_all()?;
    pair.wait_promoted(&pair.standby)?;
    pair.wait_recorded(&pair.standby, 2)?;
    drop(never);
    Ok(())
}

/// The row tells the story of the detection.
#[test]
fn the_row_tells_what_was_missed() -> Result<()> {
    let pair = Pair::describe("story").keepalive_count(3).start()?;
    pair.primary.kill_all()?;
    pair.wait_promoted(&pair.standby)?;
    let row = pair.wait_recorded(&pair.standby, 2)?;
    assert_eq!(row.text("host")?, "db02");
    assert_eq!(row.integer("keepalives_missed")?, 3);
    assert!(!row.text("last_error")?.is_empty());
    let (answered, detected) = (row.integer("last_answer_us")?, row.integer("detected_us")?);
    let (promoted, recorded) = (row.integer("promoted_us")?, row.integer("recorded_us")?);
    assert!(answered < detected && detected < promoted && promoted <= recorded, "{row}");
    assert_eq!(failover_log(&pair.standby)?.len(), 2);
    Ok(())
}

/// Its report says as well who the partner is and how far, so a keepalive is one question, where it used to be two.
#[test]
fn a_keepalive_is_one_question() -> Result<()> {
    let time = Duration::from_millis(100);
    let pair = Pair::describe("question").keepalive_time(time).keepalive_count(50).set("log_replication_commands = on");
    let pair = pair.set("log_line_prefix = '%a: '").start()?;
    pair.wait_armed()?;
    for node in [&pair.primary, &pair.standby] {
        let asked = |command: &str| {
            let text = format!("received replication command: {command}");
            node.log().lines().filter(|line| line.starts_with("pg_keeper: ") && line.contains(&text)).count()
        };
        pair.wait_until("thirty keepalives", || Ok(asked("SHOW pg_keeper.report") >= 30))?;
        let connections = asked("IDENTIFY_SYSTEM");
        assert!((1..5).contains(&connections), "asked {connections} times who it is\n{}", pair.evidence());
    }
    Ok(())
}

/// What the report says of the server is what IDENTIFY_SYSTEM answers, on the old timeline and on the new one.
#[test]
fn the_report_says_who_the_server_is() -> Result<()> {
    let pair = Pair::describe("identity").start()?;
    let answer = |node: &Node, command: &str| -> Result<String> {
        let mut psql = node.psql("replication=true")?;
        run(psql.args(["--tuples-only", "--no-align", "--field-separator=,", "--command", command]))
    };
    let alike = |node: &Node| {
        pair.wait_until("the report to say what IDENTIFY_SYSTEM answers", || {
            let (identity, report) = (answer(node, "IDENTIFY_SYSTEM")?, answer(node, "SHOW pg_keeper.report")?);
            let columns: Vec<&str> = identity.trim().split(',').take(3).collect();
            Ok(report.split_whitespace().any(|word| word == format!("identity={}", columns.join(","))))
        })
    };
    pair.wait_armed()?;
    alike(&pair.primary)?;
    alike(&pair.standby)?;
    pair.primary.kill_all()?;
    pair.wait_promoted(&pair.standby)?;
    alike(&pair.standby)?;
    assert!(answer(&pair.standby, "SHOW pg_keeper.report")?.contains(",2,"));
    Ok(())
}
