//! Throughput under pgbench, with and without the extension.

use std::time::Duration;

use anyhow::{Context, Result};

use crate::install::{install, run};
use crate::node::Node;
use crate::pair::Pair;
use crate::state::{LOAD, is_streaming};

/// pgbench's scale: small enough to stay in memory, large enough for its branches not to be what clients wait for.
const SCALE: u32 = 20;

/// Few enough that clients, servers and standbys of a small machine do not fight for its processors: that noise would be
/// larger than what is looked for.
const CLIENTS: u32 = 2;

/// The line that loads nothing.
const UNLOADED: &str = "shared_preload_libraries = ''";

/// Transactions per second, run by run.
#[derive(Debug, Default)]
pub struct Throughput {
    /// With the extension, its keepers watching each other.
    pub with: Vec<f64>,
    /// Without it.
    pub without: Vec<f64>,
}

/// Runs pgbench on two like pairs in turn, one with the extension and one without. After half of the rounds the pairs swap
/// roles, so that what distinguishes them otherwise, such as where their memory lies, cancels out.
pub fn compare(rounds: usize, each: Duration, mut say: impl FnMut(&str)) -> Result<Throughput> {
    let describe = |name: &str| {
        Pair::describe(name).keepalive_time(Duration::from_secs(1)).keepalive_count(4).set("shared_buffers = 512MB")
    };
    say("two pairs, filled by pgbench");
    let pairs = [describe("load-a").start()?, describe("load-b").start()?];
    for pair in &pairs {
        run(pgbench(&pair.primary)?.args(["--initialize", "--quiet", "--scale", &SCALE.to_string()]))?;
    }
    let mut measured = Throughput::default();
    for half in 0..2 {
        let (with, without) = (&pairs[half], &pairs[1 - half]);
        load_extension(with, LOAD)?;
        load_extension(without, UNLOADED)?;
        with.wait_armed()?;
        for pair in &pairs {
            // Caches and WAL files reach the state they stay in.
            measure(&pair.primary, each)?;
        }
        for round in 0..rounds.div_ceil(2) {
            let (a, b) = if round % 2 == 0 {
                let a = measure(&with.primary, each)?;
                (a, measure(&without.primary, each)?)
            } else {
                let b = measure(&without.primary, each)?;
                (measure(&with.primary, each)?, b)
            };
            say(&format!("with {a:.0}, without {b:.0} transactions per second"));
            measured.with.push(a);
            measured.without.push(b);
        }
    }
    Ok(measured)
}

fn load_extension(pair: &Pair, line: &str) -> Result<()> {
    for node in [&pair.standby, &pair.primary] {
        node.stop_fast()?;
        node.set(line)?;
    }
    for node in [&pair.primary, &pair.standby] {
        node.start()?;
    }
    pair.wait_until("the standby to stream", || is_streaming(&pair.primary))
}

fn measure(primary: &Node, each: Duration) -> Result<f64> {
    primary.sql("postgres", "checkpoint")?;
    let mut pgbench = pgbench(primary)?;
    pgbench.args(["--no-vacuum", "--client", &CLIENTS.to_string(), "--jobs", "1"]);
    let output = run(pgbench.args(["--time", &each.as_secs().max(1).to_string()]))?;
    let line = output.lines().find(|line| line.starts_with("tps = ")).context("pgbench printed no tps")?;
    line.split_whitespace().nth(2).and_then(|word| word.parse().ok()).with_context(|| format!("bad line: {line}"))
}

fn pgbench(primary: &Node) -> Result<std::process::Command> {
    let mut pgbench = install()?.tool("pgbench");
    pgbench.args(["--host", primary.host(), "--port", &primary.port().to_string(), "--username", "postgres"]);
    pgbench.env("PGDATABASE", "postgres");
    Ok(pgbench)
}
