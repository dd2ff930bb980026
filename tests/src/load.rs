//! pgbench with and without the extension: throughput, and the CPU time that both servers of a pair spend.
//!
//! Two like pairs are measured in turn, a quarter of a second each, in blocks of the order with, without, without, with: what drifts or
//! disturbs for longer than that falls on both alike. A leg is a few blocks after a start of all servers; a server may be faster or slower
//! than another for as long as it runs, so there are many legs. The pairs swap roles from one leg to the next, and two neighbours make one
//! sample, so that what distinguishes the pairs cancels out as well. Nothing that PostgreSQL does of its own accord comes between: no
//! checkpoint, no autovacuum. And everything runs on one processor: throughput is then what a transaction costs, and not also how two
//! processors happened to share the clients, the servers and the standbys.

use std::collections::HashSet;
use std::str::FromStr;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};

use crate::install::{install, run};
use crate::node::Node;
use crate::pair::Pair;
use crate::process;
use crate::quiet::{HugePages, OneProcessor};
use crate::state::{LOAD, has_replayed, is_streaming};

/// pgbench's scale: small enough to stay in memory, large enough for its branches not to be what clients wait for.
const SCALE: u32 = 20;

/// One computes while another waits for its commit; more would only wait for one another.
const CLIENTS: u32 = 2;

/// Of one server, in megabytes: its buffers, and at most what else it shares.
const SHARED_BUFFERS: u64 = 512;
const OTHER_SHARED: u64 = 64;

/// The line that loads nothing.
const UNLOADED: &str = "shared_preload_libraries = ''";

/// Blocks of each load in a leg.
const BLOCKS: usize = 4;

/// About how long a round takes, which is a number of transactions.
const ROUND: Duration = Duration::from_millis(250);

/// The rounds of one block: with the extension (`true`) and without.
const BLOCK: [bool; 4] = [true, false, false, true];

/// A touch of every page through its index: a sequential scan would leave a table of this size out of the buffers.
const WARM: &str =
    "set enable_seqscan = off; select sum(abalance) from pgbench_accounts where aid > 0; reset enable_seqscan";

/// What pgbench asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Load {
    /// Its TPC-B.
    TpcB,
    /// Its transactions that only read.
    Select,
    /// TPC-B with a connection of its own for each transaction.
    Connect,
}

impl Load {
    /// What it is, for a reader.
    pub fn title(self) -> &'static str {
        match self {
            Load::TpcB => "TPC-B",
            Load::Select => "select only (pgbench -S)",
            Load::Connect => "TPC-B, a connection for each transaction (pgbench -C)",
        }
    }

    fn arguments(self) -> &'static [&'static str] {
        match self {
            Load::TpcB => &["--protocol=prepared", "--jobs=1"],
            Load::Select => &["--protocol=prepared", "--jobs=1", "--select-only"],
            // One job would connect its clients one after the other.
            Load::Connect => &["--connect", "--jobs=2"],
        }
    }
}

impl FromStr for Load {
    type Err = anyhow::Error;

    fn from_str(word: &str) -> Result<Self> {
        match word {
            "tpcb" => Ok(Load::TpcB),
            "select" => Ok(Load::Select),
            "connect" => Ok(Load::Connect),
            _ => Err(anyhow!("there is no load «{word}», only tpcb, select and connect")),
        }
    }
}

/// One round of pgbench.
#[derive(Debug, Clone, Copy)]
struct Round {
    /// Transactions per second.
    throughput: f64,
    /// What the two servers spent for each transaction, all their processes together, in seconds.
    cpu: f64,
}

/// What came of one load.
#[derive(Debug, Clone)]
pub struct Measured {
    /// The load.
    pub load: Load,
    /// Transactions per second, round by round.
    pub throughput: Sides,
    /// Microseconds of CPU time of both servers for each transaction, round by round.
    pub cpu: Sides,
    /// With over without, sample by sample: throughput.
    pub throughput_ratios: Vec<f64>,
    /// With over without, sample by sample: CPU time.
    pub cpu_ratios: Vec<f64>,
}

/// Figures with the extension and without it.
#[derive(Debug, Clone, Default)]
pub struct Sides {
    /// With it, its keepers watching each other.
    pub with: Vec<f64>,
    /// Without it.
    pub without: Vec<f64>,
}

/// Runs the loads for so long each. With `control` both pairs have the extension: what the ratios are then off by is the noise.
pub fn compare(loads: &[Load], each: Duration, control: bool, mut say: impl FnMut(&str)) -> Result<Vec<Measured>> {
    let leg = ROUND * (BLOCKS * BLOCK.len()) as u32;
    let samples = (each.as_secs_f64() / leg.as_secs_f64() / 2.0).ceil() as usize;
    let processor = OneProcessor::take()?;
    // Where small pages lie differs from start to start, and so does what a look at them costs.
    let huge_pages = HugePages::reserve(2 * 2 * (SHARED_BUFFERS + OTHER_SHARED));
    let pages = match &huge_pages {
        Ok(_) => "huge pages".to_owned(),
        Err(error) => format!("without huge pages ({error:#}), so that servers differ more from start to start"),
    };
    say(&format!("two pairs, filled by pgbench, all on processor {}, {pages}", processor.number));
    let pairs = start_pairs()?;
    let mut all: Vec<Vec<Leg>> = vec![Vec::new(); loads.len()];
    for number in 0..samples * 2 {
        let (with, without) = (&pairs[number % 2], &pairs[1 - number % 2]);
        set_up(with, LOAD)?;
        set_up(without, if control { LOAD } else { UNLOADED })?;
        with.wait_armed()?;
        for (load, legs) in loads.iter().zip(&mut all) {
            let leg = measure(*load, with, without)?;
            let (throughput, cpu) = (leg.ratio(|round| round.throughput), leg.ratio(|round| round.cpu));
            let counted = format!("{} of {}", number + 1, samples * 2);
            say(&format!("{counted}, {}: with / without {throughput:.4}, CPU time {cpu:.4}", load.title()));
            legs.push(leg);
        }
    }
    Ok(loads.iter().zip(&all).map(|(load, legs)| Measured::new(*load, legs)).collect())
}

/// The blocks of one load after one start of the servers, each with its rounds in their order.
#[derive(Debug, Clone)]
struct Leg(Vec<[Round; BLOCK.len()]>);

impl Leg {
    /// With over without: the geometric mean of the blocks' ratios.
    fn ratio(&self, what: fn(&Round) -> f64) -> f64 {
        let of_block = |block: &[Round; BLOCK.len()]| {
            let sum = |side: bool| -> f64 {
                block.iter().zip(BLOCK).filter(|(_, is_with)| *is_with == side).map(|(round, _)| what(round)).sum()
            };
            sum(true) / sum(false)
        };
        (self.0.iter().map(|block| of_block(block).ln()).sum::<f64>() / self.0.len() as f64).exp()
    }
}

impl Measured {
    fn new(load: Load, legs: &[Leg]) -> Self {
        let mut measured = Measured {
            load,
            throughput: Sides::default(),
            cpu: Sides::default(),
            throughput_ratios: Vec::new(),
            cpu_ratios: Vec::new(),
        };
        for (round, is_with) in legs.iter().flat_map(|leg| leg.0.iter().flat_map(|block| block.iter().zip(BLOCK))) {
            let (throughput, cpu) = (&mut measured.throughput, &mut measured.cpu);
            if is_with { &mut throughput.with } else { &mut throughput.without }.push(round.throughput);
            if is_with { &mut cpu.with } else { &mut cpu.without }.push(round.cpu * 1e6);
        }
        let samples = |what: fn(&Round) -> f64| {
            let of_two = |legs: &[Leg]| (legs[0].ratio(what) * legs[1].ratio(what)).sqrt();
            legs.chunks_exact(2).map(of_two).collect::<Vec<f64>>()
        };
        measured.throughput_ratios = samples(|round| round.throughput);
        measured.cpu_ratios = samples(|round| round.cpu);
        measured
    }
}

fn start_pairs() -> Result<[Pair; 2]> {
    let buffers = format!("shared_buffers = {SHARED_BUFFERS}MB");
    let describe = |name: &str| {
        let pair = Pair::describe(name).keepalive_time(Duration::from_secs(1)).keepalive_count(4);
        let quiet = [buffers.as_str(), "checkpoint_timeout = 1d", "max_wal_size = 16GB", "full_page_writes = off"];
        quiet.into_iter().fold(pair, |pair, line| pair.set(line))
    };
    let pairs = [describe("load-a").start()?, describe("load-b").start()?];
    for pair in &pairs {
        run(pgbench(&pair.primary)?.args(["--initialize", "--quiet", "--scale", &SCALE.to_string()]))?;
    }
    Ok(pairs)
}

/// Starts both servers with this line, with everything in memory that is going to be asked for.
fn set_up(pair: &Pair, line: &str) -> Result<()> {
    for node in [&pair.standby, &pair.primary] {
        node.stop_fast()?;
        node.set(line)?;
    }
    for node in [&pair.primary, &pair.standby] {
        node.start()?;
    }
    pair.wait_until("the standby to stream", || is_streaming(&pair.primary))?;
    for table in ["pgbench_branches", "pgbench_tellers"] {
        pair.primary.sql("postgres", &format!("vacuum {table}"))?;
    }
    pair.primary.sql("postgres", "checkpoint")?;
    for node in [&pair.primary, &pair.standby] {
        run(node.psql("postgres")?.args(["--output=/dev/null", "--command", WARM]))?;
    }
    Ok(())
}

fn measure(load: Load, with: &Pair, without: &Pair) -> Result<Leg> {
    // Not judged: the first transactions of a server find nothing of what the later ones find. They tell how many a round takes.
    let first = [with, without].map(|pair| Ok(round(load, pair, "--time=1")?.throughput));
    let [with_first, without_first]: [Result<f64>; 2] = first;
    let each = (with_first? + without_first?) / 2.0 * ROUND.as_secs_f64() / f64::from(CLIENTS);
    let length = format!("--transactions={}", each.round().max(1.0));
    let run = |is_with: bool| round(load, if is_with { with } else { without }, &length);
    let block = |_| {
        let mut rounds = Vec::new();
        for is_with in BLOCK {
            rounds.push(run(is_with)?);
        }
        <[Round; BLOCK.len()]>::try_from(rounds).map_err(|_| anyhow!("a block has {} rounds", BLOCK.len()))
    };
    Ok(Leg((0..BLOCKS).map(block).collect::<Result<_>>()?))
}

/// A round that pgbench ends by itself.
fn round(load: Load, pair: &Pair, length: &str) -> Result<Round> {
    let primary = &pair.primary;
    let lasting = processes(pair);
    let before = process::cpu_time_in(pair.folder());
    let mut pgbench = pgbench(primary)?;
    pgbench.args(["--no-vacuum", "--client", &CLIENTS.to_string(), length]);
    let output = run(pgbench.args(load.arguments()))?;
    // What the load still costs, it costs: sessions end, the standby replays.
    pair.wait_until("the standby to have replayed all", || has_replayed(primary, &pair.standby))?;
    let begun = Instant::now();
    while processes(pair) != lasting && begun.elapsed() < Duration::from_secs(1) {
        sleep(Duration::from_millis(1));
    }
    let spent = process::cpu_time_in(pair.folder()).saturating_sub(before);
    let transactions = number_after("number of transactions actually processed: ", &output)?;
    Ok(Round { throughput: number_after("tps = ", &output)?, cpu: spent.as_secs_f64() / transactions })
}

fn processes(pair: &Pair) -> HashSet<nix::unistd::Pid> {
    process::living_in(pair.folder()).into_iter().collect()
}

/// The number after the first of these words in pgbench's output.
fn number_after(words: &str, output: &str) -> Result<f64> {
    let Some((_, rest)) = output.split_once(words) else { bail!("pgbench printed no «{words}»:\n{output}") };
    let number = rest.split(|c: char| !c.is_ascii_digit() && c != '.').next().unwrap_or_default();
    number.parse().with_context(|| format!("«{words}» in pgbench's output:\n{output}"))
}

fn pgbench(primary: &Node) -> Result<std::process::Command> {
    let mut pgbench = install()?.tool("pgbench");
    pgbench.args(["--host", primary.host(), "--port", &primary.port().to_string(), "--username", "postgres"]);
    pgbench.env("PGDATABASE", "postgres");
    Ok(pgbench)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_distinguishes_the_pairs_or_drifts_cancels_out() {
        // The second pair is a tenth faster, throughput rises from round to round, and the extension takes a hundredth.
        let leg = |with: f64, without: f64| {
            let rounds = [with, without, without, with];
            let round = |(drift, side): (f64, f64)| Round { throughput: side * 1000.0 + drift, cpu: 1.0 / side };
            let drifts = [0.0, 10.0, 20.0, 30.0];
            Leg(vec![[0, 1, 2, 3].map(|at| round((drifts[at], rounds[at])))])
        };
        let measured = Measured::new(Load::TpcB, &[leg(0.99, 1.1), leg(0.99 * 1.1, 1.0)]);
        assert!((measured.throughput_ratios[0] - 0.99).abs() < 0.001);
        assert!((measured.cpu_ratios[0] - 1.0 / 0.99).abs() < 0.001);
        assert_eq!(measured.throughput.with.len(), 4);
    }

    #[test]
    fn pgbench_is_read() {
        let output = "number of transactions actually processed: 2934\nlatency = 0.6 ms\ntps = 2950.751284 (without initial connection time)\n";
        assert_eq!(number_after("number of transactions actually processed: ", output).unwrap(), 2934.0);
        assert_eq!(number_after("tps = ", output).unwrap(), 2950.751284);
        assert!(number_after("tps = ", "").is_err());
    }
}
