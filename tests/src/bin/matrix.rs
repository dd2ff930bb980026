//! Every fault of the laboratory's table, or random ones in a row, each healed and accounted for.
//!
//! Settings come from the environment: `CASES` (names, with commas between them), `SYNC` (off, async, wait; several with commas), `PART=ci` for
//! the part that continuous integration tries; `RANDOM=200` draws so many faults instead, `SEED` says which (given out when it is not set);
//! `OUT` is the folder for `matrix.md`, `matrix.json` and what hosts said in a case that failed. Needs the laboratory: `make lab`. Exits with
//! 1 when anything was not as it must be.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use keeper_tests::clock::now;
use keeper_tests::environment::variable;
use keeper_tests::lab::Lab;
use keeper_tests::lab::case::{CASES, Case, named};
use keeper_tests::lab::expect::Outcome;
use keeper_tests::lab::fault::calm;
use keeper_tests::lab::report;
use keeper_tests::lab::run::{Record, heal, run};
use keeper_tests::replication::Replication;

/// The longest pause before a random fault.
const PAUSE_MILLISECONDS: u64 = 1000;

/// What is tried, after what pause.
struct Step {
    case: &'static Case,
    sync: Replication,
    pause: Duration,
}

fn main() -> ExitCode {
    match matrix() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("matrix: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn matrix() -> Result<bool> {
    let steps = steps()?;
    let out = variable("OUT", PathBuf::from("target/matrix"))?;
    fs::create_dir_all(&out).with_context(|| format!("make {}", out.display()))?;
    let lab = Lab::find()?;
    calm(&lab).context("take away what an earlier run left")?;
    println!("{} cases on PostgreSQL {}", steps.len(), lab.major);
    let (mut records, mut failed) = (Vec::new(), 0);
    for (number, Step { case, sync, pause }) in steps.iter().enumerate() {
        match run(&lab, case, *sync, *pause) {
            Ok(record) => {
                println!("{:>3}  {}", number + 1, report::line(&record));
                records.push(record);
            }
            Err(error) => {
                failed += 1;
                let told = out.join(format!("{}-{sync}.log", case.name));
                fs::write(&told, format!("{error:#}\n{}", lab.evidence()))?;
                let first = format!("{error:#}").lines().next().unwrap_or_default().to_owned();
                println!("{:>3}  {:<18} {sync:<5} FAILED   {first}; see {}", number + 1, case.name, told.display());
                // What no hand but ours can mend ends the run.
                calm(&lab)?;
                heal(&lab, *sync, &[0, 1], &mut Outcome::default()).context("the pair could not be mended")?;
            }
        }
        write(&out, &records)?;
    }
    let violated = records.iter().filter(|record| !record.violations.is_empty()).count();
    println!("{} passed, {} failed", records.len() - violated, violated + failed);
    Ok(violated + failed == 0)
}

/// After each case, so that a run that is broken off has a table as well.
fn write(out: &Path, records: &[Record]) -> Result<()> {
    fs::write(out.join("matrix.md"), report::table(records))?;
    fs::write(out.join("matrix.json"), report::json(records)).context("write the table")
}

/// What is asked for.
fn steps() -> Result<Vec<Step>> {
    let wanted = variable("SYNC", String::new())?;
    let syncs: Vec<Replication> = match wanted.as_str() {
        "" => Replication::ALL.to_vec(),
        list => list.split(',').map(str::parse).collect::<Result<_>>().context("SYNC")?,
    };
    let random: usize = variable("RANDOM", 0)?;
    if random > 0 {
        let seed: u64 = variable("SEED", u64::try_from(now())? % 100_000)?;
        println!("{random} random faults, SEED={seed}");
        return Ok(draw(random, seed, &syncs));
    }
    let in_ci = match variable("PART", String::new())?.as_str() {
        "" | "all" => false,
        "ci" => true,
        other => bail!("PART must be ci or all, not {other}"),
    };
    let names = variable("CASES", String::new())?;
    let cases: Vec<&'static Case> = match names.as_str() {
        "" => CASES.iter().collect(),
        list => list.split(',').map(named).collect::<Result<_>>()?,
    };
    let mut steps = Vec::new();
    for case in cases {
        let tried = if in_ci { case.in_ci } else { case.syncs };
        steps.extend(tried.iter().filter(|sync| syncs.contains(sync)).map(|sync| Step {
            case,
            sync: *sync,
            pause: Duration::ZERO,
        }));
    }
    Ok(steps)
}

fn draw(count: usize, seed: u64, syncs: &[Replication]) -> Vec<Step> {
    let mut random = fastrand::Rng::with_seed(seed);
    let cases: Vec<&'static Case> = CASES.iter().filter(|case| case.is_random).collect();
    let mut step = || Step {
        case: cases[random.usize(..cases.len())],
        sync: syncs[random.usize(..syncs.len())],
        pause: Duration::from_millis(random.u64(..PAUSE_MILLISECONDS)),
    };
    (0..count).map(|_| step()).collect()
}
