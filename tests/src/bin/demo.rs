//! A primary dies and an application goes on, on real servers, in front of one's eyes.
//!
//! Settings come from the environment: `FAULT` (kill, postmaster, immediate, fast, freeze), `KEEPALIVE_TIME` in seconds,
//! `KEEPALIVE_COUNT`, `FAST=1` for `fast_failover`, `KEEP=1` to keep the files. Exits with 1 when service came back too
//! late or not at all.

use std::process::ExitCode;
use std::time::Instant;

use anyhow::Result;
use keeper_tests::environment::{seconds, variable};
use keeper_tests::fault::Fault;
use keeper_tests::folder::{clean_up, run_folder, use_disk};
use keeper_tests::process;
use keeper_tests::scenario::{Plan, Stage};
use keeper_tests::timeline;

fn main() -> ExitCode {
    match demonstrate() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("\ndemo: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn demonstrate() -> Result<bool> {
    use_disk(true);
    let plan = Plan {
        fault: variable("FAULT", Fault::KillAll)?,
        keepalive_time: seconds("KEEPALIVE_TIME", 1.0)?,
        keepalive_count: variable("KEEPALIVE_COUNT", 3)?,
        fast_failover: variable("FAST", 0)? == 1,
    };
    println!("pg_keeper: a primary dies, its application goes on\n");
    println!("  fault             {}", plan.fault);
    println!("  keepalive_time    {:?}", plan.keepalive_time);
    println!("  keepalive_count   {}", plan.keepalive_count);
    println!("  fast_failover     {}", if plan.fast_failover { "on" } else { "off" });
    println!("  promise           service again within {:?} of the fault\n", plan.promise());

    let begun = Instant::now();
    let stage = Stage::set_up(plan, |step| println!("[{:4.1} s] {step}", begun.elapsed().as_secs_f64()))?;
    println!("[{:4.1} s] {}\n", begun.elapsed().as_secs_f64(), plan.fault);
    let outage = stage.strike()?;

    println!("What happened, from the fault on, and from one moment to the next:\n{}", timeline::moments(&outage));
    println!("The row in failover_log:\n{}", timeline::row(&outage));
    println!("What changed in the application's file:\n{}", timeline::file_diff(&outage));
    println!("Acknowledged writes:\n{}\n", timeline::losses(&outage));

    let folder = run_folder()?;
    clean_up()?;
    let left = process::living_in(folder);
    anyhow::ensure!(left.is_empty(), "processes were left running: {left:?}");
    let (took, promise) = (outage.until_service(), plan.promise());
    let kept = took <= promise;
    let verdict = if kept { "kept" } else { "BROKEN" };
    println!("Service was back {:.3} s after the fault; promised were {promise:?}: {verdict}.", took.as_secs_f64());
    Ok(kept)
}
