//! A primary dies and an application goes on, on real servers, in front of one's eyes.
//!
//! Settings come from the environment: `FAULT` (kill, postmaster, immediate, fast, freeze, return), `KEEPALIVE_TIME` in seconds,
//! `KEEPALIVE_COUNT`, `FAST=1` for `fast_failover`, `KEEP=1` to keep the files. With `return` the primary is killed, comes back, is fenced,
//! is rejoined by the commands that it prints, and takes over in its turn. Exits with 1 when service came back too late or not at all.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use keeper_tests::environment::{seconds, variable};
use keeper_tests::fault::Fault;
use keeper_tests::folder::{clean_up, run_folder, use_disk};
use keeper_tests::process;
use keeper_tests::scenario::{Outage, Plan, Stage};
use keeper_tests::sql::{Address, Session};
use keeper_tests::state::{is_streaming, status};
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
    let fault = variable("FAULT", "kill".to_owned())?;
    let returns = fault == "return";
    let plan = Plan {
        fault: if returns { Fault::KillAll } else { fault.parse().context("FAULT")? },
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
    let mut took = outage.until_service();
    if returns {
        took = took.max(come_back(&stage)?.until_service());
    }
    drop(stage);

    let folder = run_folder()?;
    clean_up()?;
    let left = process::living_in(folder);
    ensure!(left.is_empty(), "processes were left running: {left:?}");
    let promise = plan.promise();
    let kept = took <= promise;
    let verdict = if kept { "kept" } else { "BROKEN" };
    println!("Service was back {:.3} s after the fault; promised were {promise:?}: {verdict}.", took.as_secs_f64());
    Ok(kept)
}

/// The old primary is started again, is fenced, is rejoined by its own commands, and takes over when the new one dies.
fn come_back(stage: &Stage) -> Result<Outage> {
    let (old, new) = (&stage.pair.primary, &stage.pair.standby);
    println!("The old primary, {}, is started again.", old.name());
    old.start()?;
    stage.pair.wait_status(old, "state", "fenced")?;
    println!("  its status: {}", status(old)?.text("reason")?);
    let client =
        Session::connect(&Address::Tcp(old.host().to_owned(), old.port()), "shop", "shop", Duration::from_secs(5));
    let Err(refusal) = client else { anyhow::bail!("{} let a client in", old.name()) };
    println!("  what a client hears:");
    for line in format!("{:#}", refusal.root_cause()).lines() {
        println!("    {line}");
    }

    println!("\nIt becomes a standby of {} by the commands that it prints:", new.name());
    let begun = Instant::now();
    let plan = old.rejoin()?;
    stage.pair.wait_until("the old primary to stream", || is_streaming(new))?;
    for line in plan.lines() {
        println!("    {line}");
    }
    stage.pair.wait_status(old, "armed", "t")?;
    println!("  {} streams and is armed {:.1} s later.\n", old.name(), begun.elapsed().as_secs_f64());

    println!("And now {} is killed:", new.name());
    let outage = stage.fail_over(new, old, 3)?;
    println!("{}", timeline::moments(&outage));
    println!("Acknowledged writes:\n{}\n", timeline::losses(&outage));
    Ok(outage)
}
