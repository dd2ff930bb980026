//! Fault after fault on one pair, healed after each, with what was acknowledged accounted for.
//!
//! Settings come from the environment: `N` cycles (50), `SYNC` (off, async, wait), `FAULTS` (return: the primary is killed or frozen and
//! comes back; all), `SEED` (given out when it is not set). Exits with 1 when a superseded server acknowledged a write, or when a write was
//! lost that may not be lost.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use keeper_tests::clock::{milliseconds, now};
use keeper_tests::cycles::{Cycles, Misfortune};
use keeper_tests::environment::variable;
use keeper_tests::folder::clean_up;
use keeper_tests::replication::Replication;
use keeper_tests::stats::summary;

/// The longest pause before a fault.
const PAUSE_MILLISECONDS: u64 = 1000;

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("cycles: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<bool> {
    let repeats: usize = variable("N", 50)?;
    let seed: u64 = variable("SEED", u64::try_from(now())? % 100_000)?;
    let replication: Replication = variable("SYNC", "off".to_owned())?.parse().context("SYNC")?;
    let faults: &[Misfortune] = match variable("FAULTS", "return".to_owned())?.as_str() {
        "return" => &Misfortune::REPLACING,
        "all" => &Misfortune::ALL,
        other => bail!("FAULTS must be return or all, not {other}"),
    };
    println!("{repeats} faults, SYNC={replication}, SEED={seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let mut cycles = Cycles::start("cycles", replication)?;
    let (mut acknowledged, mut by_superseded, mut lost, mut outages) = (0, 0, 0, Vec::new());
    for number in 1..=repeats {
        let misfortune = faults[random.usize(..faults.len())];
        let pause = Duration::from_millis(random.u64(..PAUSE_MILLISECONDS));
        let outcome = cycles
            .suffer(misfortune, pause)
            .with_context(|| format!("cycle {number}, SEED={seed}: {misfortune}\n{}", cycles.evidence()))?;
        println!(
            "  {number:>3}  {misfortune:<36} outage {:>7.1} ms  {:>6} acknowledged, {} by a superseded server, {} lost",
            milliseconds(0, outcome.outage),
            outcome.acknowledged,
            outcome.by_superseded,
            outcome.lost
        );
        acknowledged += outcome.acknowledged;
        by_superseded += outcome.by_superseded;
        lost += outcome.lost;
        if outcome.replaced {
            outages.push(milliseconds(0, outcome.outage));
        }
    }
    drop(cycles);
    clean_up()?;
    println!("{acknowledged} writes acknowledged, {by_superseded} of them by a superseded server, {lost} lost");
    if let Some(figures) = summary(&outages) {
        let (min, median, max) = (figures.min, figures.median, figures.max);
        println!("{} failovers, outage {min:.0} to {max:.0} ms, median {median:.0} ms", outages.len());
    }
    let may_lose = replication == Replication::Off;
    Ok(by_superseded == 0 && (lost == 0 || may_lose))
}
