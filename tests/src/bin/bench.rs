//! How fast it is, and what it costs. Speed is judged here and not in tests.
//!
//! Settings come from the environment: `PARTS`, a list of outage, idle, pgbench, and, unless it is named, not of fleet; `N` outages of each
//! kind (10), `KEEPALIVE_TIME` (1), `KEEPALIVE_COUNT` (3); `IDLE` seconds to look at an idle keeper (30); `MINUTES` of pgbench for each
//! load (4), `LOADS`, a list of tpcb, select and connect, `LIBRARY` (another than pg_keeper, to see what any costs), `AGAINST` (what the
//! servers without it load instead of nothing; with pg_keeper, what the ratios are off by is noise); `FLEET`, numbers of watchers
//! (0,1,20,200), `CALM` seconds to look at a fleet in the calm (20). Exits with 1 when a figure misses its target or is not sure enough to tell.

use std::process::ExitCode;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result};
use keeper_tests::clock::milliseconds;
use keeper_tests::environment::{seconds, variable};
use keeper_tests::fault::Fault;
use keeper_tests::fleet::{self, Cost, Fleet};
use keeper_tests::folder::{clean_up, use_disk};
use keeper_tests::load::{self, Load, Measured, Sides};
use keeper_tests::node::Node;
use keeper_tests::pair::Pair;
use keeper_tests::process::cpu_time;
use keeper_tests::scenario::{Outage, Plan, Stage};
use keeper_tests::stats::{Estimate, estimate, summary};

/// A stage of an outage: its name, and its length in milliseconds.
type Measure = (&'static str, fn(&Outage) -> f64);

const STAGES: [Measure; 9] = [
    ("fault → lost", |o| milliseconds(o.fault, o.lost)),
    ("lost → promoted", |o| milliseconds(o.lost, o.promoted)),
    ("promoted → row committed", |o| milliseconds(o.promoted, o.recorded)),
    (LOST_TO_ROW, |o| milliseconds(o.lost, o.recorded)),
    ("row → rewritten", |o| milliseconds(o.recorded, o.rewritten)),
    ("rewritten → restart issued", |o| milliseconds(o.rewritten, o.restart_issued)),
    (ROW_TO_RESTART, |o| milliseconds(o.recorded, o.restart_issued)),
    ("restart issued → first write", |o| milliseconds(o.restart_issued, o.first_acknowledged.at)),
    (TOTAL, |o| milliseconds(o.last_acknowledged.at, o.first_acknowledged.at)),
];
const LOST_TO_ROW: &str = "lost → row committed";
const ROW_TO_RESTART: &str = "row → restart issued";
const TOTAL: &str = "last write → first write";

/// What medians are to be below, in milliseconds.
const AFTER_LOSS_TARGET: f64 = 150.0;
const FAST_TARGET: f64 = 1000.0;
/// What throughput with the extension is to reach, as part of that without it.
const THROUGHPUT_TARGET: f64 = 0.99;
/// What an idle keeper may use of a core, in percent.
const IDLE_TARGET: f64 = 0.1;

fn main() -> ExitCode {
    match bench() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn bench() -> Result<bool> {
    let parts = variable("PARTS", "outage,idle,pgbench".to_owned())?;
    let has = |part: &str| parts.split([',', ' ']).any(|word| word == part);
    let mut met = true;
    if has("outage") {
        use_disk(true);
        for (title, fault, fast) in [
            ("SIGKILL", Fault::KillAll, false),
            ("freeze", Fault::Freeze, false),
            ("SIGKILL, fast_failover", Fault::KillAll, true),
        ] {
            met &= outages(title, fault, fast)?;
        }
        clean_up()?;
    }
    // A disk's moods are larger than what is looked for from here on.
    use_disk(false);
    if has("idle") {
        met &= idle()?;
    }
    if has("pgbench") {
        met &= throughput()?;
    }
    if has("fleet") {
        fleet()?;
    }
    clean_up()?;
    Ok(met)
}

fn outages(title: &str, fault: Fault, fast_failover: bool) -> Result<bool> {
    let plan = Plan {
        fault,
        keepalive_time: seconds("KEEPALIVE_TIME", 1.0)?,
        keepalive_count: variable("KEEPALIVE_COUNT", 3)?,
        fast_failover,
    };
    let repeats: usize = variable("N", 10)?;
    println!("Outage by {title}, {:?} x {}, {repeats} times:", plan.keepalive_time, plan.keepalive_count);
    let mut outages = Vec::new();
    for number in 1..=repeats {
        let outage = Stage::set_up(plan, |_| {})?.strike().with_context(|| format!("outage {number}"))?;
        eprintln!(
            "  {number:>2}: service after {:.3} s, {} of {} acknowledged rows lost",
            outage.until_service().as_secs_f64(),
            outage.missing.len(),
            outage.acknowledged
        );
        outages.push(outage);
    }
    println!("  {:<32}{:>10}{:>10}{:>10}   ms", "", "min", "median", "max");
    let mut met = true;
    for (name, length) in STAGES {
        let lengths: Vec<f64> = outages.iter().map(length).collect();
        let Some(figures) = summary(&lengths) else { continue };
        let target = match name {
            LOST_TO_ROW | ROW_TO_RESTART => Some(AFTER_LOSS_TARGET),
            _ => None,
        };
        let verdict = target.map_or(String::new(), |target| judged(figures.median < target, &format!("< {target}")));
        met &= target.is_none_or(|target| figures.median < target);
        println!("  {name:<32}{:>10.1}{:>10.1}{:>10.1}   {verdict}", figures.min, figures.median, figures.max);
    }
    let service: Vec<f64> = outages.iter().map(|o| o.until_service().as_secs_f64() * 1000.0).collect();
    if let Some(figures) = summary(&service) {
        let verdict = if fast_failover { judged(figures.median < FAST_TARGET, "< 1000") } else { String::new() };
        met &= !fast_failover || figures.median < FAST_TARGET;
        let name = "fault → first write";
        println!("  {name:<32}{:>10.1}{:>10.1}{:>10.1}   {verdict}", figures.min, figures.median, figures.max);
    }
    let lost: usize = outages.iter().map(|outage| outage.missing.len()).sum();
    println!("  acknowledged rows lost: {lost} in all\n");
    Ok(met)
}

/// The CPU that keepers use when nothing happens.
fn idle() -> Result<bool> {
    let looked = seconds("IDLE", 30.0)?;
    println!("An idle keeper's CPU, keepalive_time = 1, over {looked:?}:");
    let pair = Pair::describe("idle").keepalive_time(Duration::from_secs(1)).keepalive_count(4).start()?;
    let used = |node: &Node| cpu_time(node.keeper()?);
    let nodes = [("primary", &pair.primary), ("standby", &pair.standby)];
    let before = [used(&pair.primary)?, used(&pair.standby)?];
    sleep(looked);
    let mut met = true;
    for ((role, node), before) in nodes.into_iter().zip(before) {
        let percent = (used(node)? - before).as_secs_f64() / looked.as_secs_f64() * 100.0;
        met &= percent < IDLE_TARGET;
        println!("  {role:<10} {percent:.4} % of a core   {}", judged(percent < IDLE_TARGET, "< 0.1 %"));
    }
    println!();
    Ok(met)
}

/// What fleets of watchers cost the servers.
fn fleet() -> Result<()> {
    let (calm, repeats) = (seconds("CALM", 20.0)?, variable("N", 3_usize)?);
    let numbers = variable("FLEET", "0,1,20,200".to_owned())?;
    let numbers = numbers.split([',', ' ']).filter(|word| !word.is_empty());
    let numbers: Vec<usize> = numbers.map(str::parse).collect::<Result<_, _>>().context("FLEET")?;
    println!("A fleet of watchers, {calm:?} of calm and a failover, the median of {repeats}:\n\n{}", fleet::TABLE);
    for watchers in numbers {
        let ways: &[bool] = if watchers == 0 { &[true] } else { &[true, false] };
        for keep_open in ways {
            let fleet = Fleet { watchers, keep_open: *keep_open };
            let measure = |number: usize| fleet.measure(calm).with_context(|| format!("{fleet:?}, number {number}"));
            let costs: Vec<Cost> = (1..=repeats).map(measure).collect::<Result<_>>()?;
            println!("{}", fleet::line(fleet, &Cost::median(&costs)?));
        }
    }
    println!();
    Ok(())
}

/// What the extension costs under load.
fn throughput() -> Result<bool> {
    let loads = variable("LOADS", "tpcb,select,connect".to_owned())?;
    let words = loads.split([',', ' ']).filter(|word| !word.is_empty());
    let loads: Vec<Load> = words.map(str::parse).collect::<Result<_>>().context("LOADS")?;
    let each = Duration::try_from_secs_f64(variable("MINUTES", 4.0)? * 60.0).context("MINUTES")?;
    let library = variable("LIBRARY", load::KEEPER.to_owned())?;
    let against = variable("AGAINST", String::new())?;
    let without = if against.is_empty() { "without it".to_owned() } else { format!("with {against} instead") };
    println!("pgbench, {each:?} for each load, with {library} and {without} at the same time on one processor:");
    let mut met = true;
    for measured in load::compare(&loads, each, [&library, &against], |text| eprintln!("  {text}"))? {
        met &= report_load(&measured)?;
    }
    Ok(met)
}

fn report_load(measured: &Measured) -> Result<bool> {
    let Measured { load, throughput, cpu, throughput_ratios, cpu_ratios } = measured;
    let enough = "too few samples";
    let (throughput_ratio, cpu_ratio) =
        (estimate(throughput_ratios).context(enough)?, estimate(cpu_ratios).context(enough)?);
    println!("  {}, {} samples:", load.title(), throughput_ratios.len());
    let line = |what: &str, Sides { with, without }: &Sides, ratio: Estimate, verdict: &str| -> Result<()> {
        let (with, without) = (summary(with).context(enough)?.median, summary(without).context(enough)?.median);
        let Estimate { value, low, high, standard_error } = ratio;
        println!("    {what:<42}{with:>9.1} with{without:>9.1} without   (medians)");
        println!(
            "      with / without {value:.4}, 95 % sure between {low:.4} and {high:.4}, standard error {standard_error:.4}   {verdict}"
        );
        Ok(())
    };
    let met = throughput_ratio.low >= THROUGHPUT_TARGET;
    let missed = throughput_ratio.high < THROUGHPUT_TARGET;
    let verdict = if met || missed {
        judged(met, ">= 0.99")
    } else {
        "target >= 0.99: NOT DECIDED, it lies within the noise; raise MINUTES".to_owned()
    };
    line("transactions per second of processor time", throughput, throughput_ratio, &verdict)?;
    line("µs of it per transaction, the primary", cpu, cpu_ratio, "less is better; not judged")?;
    println!();
    Ok(met)
}

fn judged(met: bool, target: &str) -> String {
    format!("target {target}: {}", if met { "met" } else { "MISSED" })
}
