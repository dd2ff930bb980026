//! What a transaction costs with the extension and without it, as pgbench runs it.
//!
//! Two like pairs run the same load at the same time on one processor, a client each, and what counts is the processor time that each of
//! them took for its transactions: that of all its primary's processes and of its pgbench. A processor that does nothing else gives as many
//! transactions per second as go into a second of its time, so this is throughput. The standby, which elsewhere is another machine and here
//! runs on the same processor, is not counted: what it does slows no primary down. How fast a machine computes changes within milliseconds
//! (other guests of a virtual machine's host, its clock), and by far more than an extension costs: two loads that share each of these
//! milliseconds meet the same machine, two that take turns of a quarter of a second do not.
//!
//! A leg is a few rounds after a start of all servers; a server may be cheaper than another for as long as it runs, so there are many legs.
//! The pairs swap roles from one leg to the next, and two neighbours make one sample, so that what distinguishes the pairs cancels out as
//! well, and so does that the same one is always started first. Nothing that PostgreSQL does of its own accord comes between: no checkpoint,
//! no autovacuum.

use std::collections::HashSet;
use std::process::{Child, Command, Stdio};
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::Pid;

use crate::install::{install, run};
use crate::node::Node;
use crate::pair::Pair;
use crate::process;
use crate::quiet::{HugePages, OneProcessor};
use crate::state::{has_replayed, is_streaming};
use crate::stats::FEWEST;

/// pgbench's scale: small enough to stay in memory, large enough for its branches not to be what clients wait for.
const SCALE: u32 = 20;

/// Of one server, in megabytes: its buffers, and at most what else it shares.
const SHARED_BUFFERS: u64 = 512;
const OTHER_SHARED: u64 = 64;

/// The library that is compared, unless another is asked for.
pub const KEEPER: &str = "pg_keeper";

/// Rounds of each load in a leg.
const ROUNDS: usize = 3;

/// About how long a round takes, which is a number of transactions.
const ROUND: Duration = Duration::from_secs(4);

/// Each pair has half of the processor: with this it has as many keepalives for its transactions as with one second on a whole one.
const KEEPALIVE_TIME: Duration = Duration::from_secs(2);

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
            Load::TpcB => &["--protocol=prepared"],
            Load::Select => &["--protocol=prepared", "--select-only"],
            Load::Connect => &["--connect"],
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

/// What a transaction cost one pair in a round, in seconds of processor time.
#[derive(Debug, Clone, Copy)]
struct Cost {
    /// The primary, all its processes together.
    primary: f64,
    /// Both it and pgbench.
    all: f64,
}

/// What came of one load.
#[derive(Debug, Clone)]
pub struct Measured {
    /// The load.
    pub load: Load,
    /// Transactions for each second of processor time, round by round.
    pub throughput: Sides,
    /// Microseconds of the primary's processor time for each transaction, round by round.
    pub cpu: Sides,
    /// With over without, sample by sample: throughput.
    pub throughput_ratios: Vec<f64>,
    /// With over without, sample by sample: the primary's processor time.
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

/// Runs the loads for so long each, with `library` and with what the other servers have instead of it, an empty name for none. Of another
/// library than pg_keeper one learns what any of them costs; two like ones are a control.
pub fn compare(
    loads: &[Load],
    each: Duration,
    [library, instead]: [&str; 2],
    mut say: impl FnMut(&str),
) -> Result<Vec<Measured>> {
    let sample = (2 * ROUND * ROUNDS as u32).as_secs_f64();
    let samples = (each.as_secs_f64() / sample).ceil() as usize;
    let minutes = sample * FEWEST as f64 / 60.0;
    ensure!(samples >= FEWEST, "{each:?} for each load is too short to tell anything: {minutes} minutes are needed");
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
        let with = number % 2;
        for (at, pair) in pairs.iter().enumerate() {
            let library = if at == with { library } else { instead };
            set_up(pair, library)?;
            if library == KEEPER {
                pair.wait_armed()?;
            }
        }
        for (load, legs) in loads.iter().zip(&mut all) {
            let mut leg = measure(*load, pairs.each_ref())?;
            leg.0.iter_mut().for_each(|costs| costs.rotate_left(with));
            let (throughput, cpu) = (leg.ratio(|cost| 1.0 / cost.all), leg.ratio(|cost| cost.primary));
            let counted = format!("{} of {}", number + 1, samples * 2);
            say(&format!("{counted}, {}: with / without {throughput:.4}, CPU time {cpu:.4}", load.title()));
            legs.push(leg);
        }
    }
    Ok(loads.iter().zip(&all).map(|(load, legs)| Measured::new(*load, legs)).collect())
}

/// The rounds of one load after one start of the servers: with the extension and without.
#[derive(Debug, Clone)]
struct Leg(Vec<[Cost; 2]>);

impl Leg {
    /// With over without: the geometric mean of the rounds' ratios.
    fn ratio(&self, what: fn(&Cost) -> f64) -> f64 {
        let of_round = |[with, without]: &[Cost; 2]| (what(with) / what(without)).ln();
        (self.0.iter().map(of_round).sum::<f64>() / self.0.len() as f64).exp()
    }
}

impl Measured {
    fn new(load: Load, legs: &[Leg]) -> Self {
        let rounds = || legs.iter().flat_map(|leg| &leg.0);
        let sides = |what: fn(&Cost) -> f64| Sides {
            with: rounds().map(|[with, _]| what(with)).collect(),
            without: rounds().map(|[_, without]| what(without)).collect(),
        };
        let samples = |what: fn(&Cost) -> f64| {
            let of_two = |legs: &[Leg]| (legs[0].ratio(what) * legs[1].ratio(what)).sqrt();
            legs.chunks_exact(2).map(of_two).collect::<Vec<f64>>()
        };
        Measured {
            load,
            throughput: sides(|cost| 1.0 / cost.all),
            cpu: sides(|cost| cost.primary * 1e6),
            throughput_ratios: samples(|cost| 1.0 / cost.all),
            cpu_ratios: samples(|cost| cost.primary),
        }
    }
}

fn start_pairs() -> Result<[Pair; 2]> {
    let buffers = format!("shared_buffers = {SHARED_BUFFERS}MB");
    let describe = |name: &str| {
        let pair = Pair::describe(name).keepalive_time(KEEPALIVE_TIME).keepalive_count(4);
        // A segment of WAL is as cheap as another, whether a server has old ones left or not.
        let alike = ["wal_init_zero = off", "wal_recycle = off"];
        let quiet = [buffers.as_str(), "checkpoint_timeout = 1d", "max_wal_size = 16GB", "full_page_writes = off"];
        quiet.into_iter().chain(alike).fold(pair, |pair, line| pair.set(line))
    };
    let pairs = [describe("load-a").start()?, describe("load-b").start()?];
    for pair in &pairs {
        run(pgbench(&pair.primary)?.args(["--initialize", "--quiet", "--scale", &SCALE.to_string()]))?;
    }
    Ok(pairs)
}

/// Starts both servers with this library, with everything in memory that is going to be asked for.
fn set_up(pair: &Pair, library: &str) -> Result<()> {
    for node in [&pair.standby, &pair.primary] {
        node.stop_fast()?;
        node.set(&format!("shared_preload_libraries = '{library}'"))?;
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

/// The rounds' costs in the order of the pairs.
fn measure(load: Load, pairs: [&Pair; 2]) -> Result<Leg> {
    // Not judged: the first transactions of a server find nothing of what the later ones find. The very first tell how many a round takes.
    let first = pairs.map(|pair| transactions(&Running::start(load, pair, "--time=1")?.end()?.0));
    let [first, second]: [Result<f64>; 2] = first;
    let each = (first? + second?) / 2.0 * ROUND.as_secs_f64() / pairs.len() as f64;
    let length = format!("--transactions={}", each.round().max(1.0));
    round(load, pairs, &length)?;
    Ok(Leg((0..ROUNDS).map(|_| round(load, pairs, &length)).collect::<Result<_>>()?))
}

/// A round that both pairs run at the same time.
fn round(load: Load, pairs: [&Pair; 2], length: &str) -> Result<[Cost; 2]> {
    let replayed = |pair: &Pair| {
        pair.wait_until("the standby to have replayed all", || has_replayed(&pair.primary, &pair.standby))
    };
    // Who asks stays connected, and so has to be there before.
    pairs.into_iter().try_for_each(replayed)?;
    let lasting = pairs.map(processes);
    let at_rest = |pair: &Pair, lasting: &HashSet<Pid>| {
        let now = processes(pair);
        let children = process::children_of(&Vec::from_iter(now.clone()));
        now.iter().chain(&children).all(|pid| lasting.contains(pid))
    };
    let spent = |pair: &Pair| process::cpu_time_in(&pair.primary.data());
    let before = pairs.map(spent);
    let [first, second] = pairs.map(|pair| Running::start(load, pair, length));
    let (first, second) = (first?, second?);
    let outputs = [first.end()?, second.end()?];
    // What the load still costs, it costs: sessions end, the standby replays.
    pairs.into_iter().try_for_each(replayed)?;
    for (pair, lasting) in pairs.iter().zip(&lasting) {
        pair.wait_until("its sessions to have ended", || Ok(at_rest(pair, lasting)))?;
    }
    let cost = |at: usize| {
        let (output, client) = &outputs[at];
        let transactions = transactions(output)?;
        let primary = spent(pairs[at]).saturating_sub(before[at]).as_secs_f64();
        Ok::<_, anyhow::Error>(Cost {
            primary: primary / transactions,
            all: (primary + client.as_secs_f64()) / transactions,
        })
    };
    Ok([cost(0)?, cost(1)?])
}

/// A pgbench that runs.
struct Running(Child);

impl Running {
    fn start(load: Load, pair: &Pair, length: &str) -> Result<Self> {
        let mut pgbench = pgbench(&pair.primary)?;
        pgbench.args(["--no-vacuum", "--client=1", length]).args(load.arguments());
        let child = pgbench.stdout(Stdio::piped()).spawn().with_context(|| format!("start {pgbench:?}"))?;
        Ok(Self(child))
    }

    /// Waits until it has ended by itself: what it printed, and the processor time that it took.
    fn end(self) -> Result<(String, Duration)> {
        let pid = Pid::from_raw(self.0.id().cast_signed());
        // Its figures are there for as long as nobody has taken its exit status.
        waitid(Id::Pid(pid), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT).context("wait for pgbench")?;
        let spent = process::cpu_time(pid)?;
        let output = self.0.wait_with_output().context("read what pgbench printed")?;
        ensure!(output.status.success(), "pgbench failed, {}", output.status);
        Ok((String::from_utf8_lossy(&output.stdout).into_owned(), spent))
    }
}

/// How many transactions a pgbench ran that printed this.
fn transactions(output: &str) -> Result<f64> {
    const WORDS: &str = "number of transactions actually processed: ";
    let Some((_, rest)) = output.split_once(WORDS) else { bail!("pgbench printed no «{WORDS}»:\n{output}") };
    let number = rest.split(|c: char| !c.is_ascii_digit()).next().unwrap_or_default();
    number.parse().with_context(|| format!("«{WORDS}» in pgbench's output:\n{output}"))
}

fn processes(pair: &Pair) -> HashSet<Pid> {
    process::living_in(pair.folder()).into_iter().collect()
}

fn pgbench(primary: &Node) -> Result<Command> {
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
        // The second pair is a tenth cheaper, the machine slows down from round to round, and the extension takes a hundredth.
        let leg = |with: f64, without: f64| {
            let cost = |slow: f64, side: f64| Cost { primary: slow * side, all: slow * side + slow };
            Leg([1.0, 1.5, 3.0].map(|slow| [cost(slow, with), cost(slow, without)]).into())
        };
        let measured = Measured::new(Load::TpcB, &[leg(1.01, 0.9), leg(1.01 * 0.9, 1.0)]);
        assert!((measured.cpu_ratios[0] - 1.01).abs() < 1e-9);
        assert!((measured.throughput_ratios[0] - 1.0 / 1.005).abs() < 0.001);
        assert_eq!(measured.throughput.with.len(), 6);
    }

    #[test]
    fn pgbench_is_read() {
        let output = "number of transactions actually processed: 2934\nlatency = 0.6 ms\ntps = 2950.751284 (without initial connection time)\n";
        assert_eq!(transactions(output).unwrap(), 2934.0);
        assert!(transactions("").is_err());
    }
}
