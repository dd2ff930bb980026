//! What a fleet of watchers costs the servers that it watches, in the calm and during a failover.

use std::fmt;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::clock::{Micros, milliseconds, now};
use crate::fault::Fault;
use crate::host::Host;
use crate::node::Node;
use crate::pair::Pair;
use crate::process::cpu_time_in;
use crate::state::is_in_recovery;
use crate::stats::summary;
use crate::watcher::{Watcher, nodes_section};

/// How many watchers there are, and how they ask.
#[derive(Debug, Clone, Copy)]
pub struct Fleet {
    /// How many.
    pub watchers: usize,
    /// Whether they keep their connections open.
    pub keep_open: bool,
}

/// What it cost.
#[derive(Debug, Clone, Copy)]
pub struct Cost {
    /// The CPU of the primary's processes in the calm, in percent of a core.
    pub calm_primary: f64,
    /// The CPU of the standby's.
    pub calm_standby: f64,
    /// The watchers' backends on one server in the calm.
    pub calm_backends: f64,
    /// The CPU of the standby's processes from the fault until the last watcher has rewritten its file.
    pub outage_standby: f64,
    /// The most backends that watchers had on the standby in that time.
    pub outage_backends: f64,
    /// Milliseconds from the primary found lost until the standby was primary.
    pub promotion: f64,
    /// Milliseconds from the row in `failover_log` until half of the watchers had rewritten their files.
    pub rewritten_half: f64,
    /// And until all had.
    pub rewritten_all: f64,
}

/// How long a failover is looked at. Where watchers leave the servers no processor it takes longer: that is a figure, not a failure.
const STARVED: Duration = Duration::from_secs(60);

/// Enough for the largest fleet and for everybody else.
const CONNECTIONS: &str = "max_connections = 400";

impl Fleet {
    /// Sets up a pair with its fleet, looks at it for a while, and lets it fail over.
    pub fn measure(self, calm: Duration) -> Result<Cost> {
        let pair = Pair::describe("fleet")
            .keepalive_time(Duration::from_secs(1))
            .keepalive_count(3)
            .set(CONNECTIONS)
            .start()?;
        let (primary, standby) = (&pair.primary, &pair.standby);
        primary.sql("postgres", "alter role keeper_watch connection limit -1")?;
        let hosts: Vec<Host> = (0..self.watchers)
            .map(|number| Host::create(pair.folder(), &format!("host{number}")))
            .collect::<Result<_>>()?;
        let nodes = format!("{}connection: {{keep_open: {}}}\n", nodes_section([primary, standby]), self.keep_open);
        let start = |host: &Host| Watcher::start(host.folder(), &host.configuration(&nodes));
        let watchers: Vec<Watcher> = hosts.iter().map(start).collect::<Result<_>>()?;
        for watcher in &watchers {
            watcher.wait_said("restart finished", 0)?;
        }
        pair.wait_armed()?;

        let begun = Instant::now();
        let before = [primary, standby].map(|node| cpu_time_in(&node.data()));
        sleep(calm);
        let after = [primary, standby].map(|node| cpu_time_in(&node.data()));
        let [calm_primary, calm_standby] =
            [0, 1].map(|at| percent(after[at].saturating_sub(before[at]), begun.elapsed()));
        let calm_backends = backends(standby)?;

        let (fault, begun, before) = (now(), Instant::now(), cpu_time_in(&standby.data()));
        Fault::KillAll.befall(primary, &pair)?;
        let mut most = 0.0;
        let rewritten = loop {
            most = backends(standby).unwrap_or_default().max(most);
            let rewritten: Vec<Option<Micros>> =
                watchers.iter().map(|watcher| watcher.said("rewrote", fault)).collect();
            let is_promoted = is_in_recovery(standby).is_ok_and(|recovers| !recovers);
            if is_promoted && rewritten.iter().all(Option::is_some) || begun.elapsed() > STARVED {
                break rewritten;
            }
            sleep(Duration::from_millis(20));
        };
        let outage_standby = percent(cpu_time_in(&standby.data()).saturating_sub(before), begun.elapsed());
        // If they starve the server, it can do its work now.
        drop(watchers);
        let row = pair.wait_recorded(standby, 2)?;
        let recorded = row.integer("committed_us").or_else(|_| row.integer("recorded_us"))?;
        let after_row = |moment: Option<Micros>| moment.map_or(f64::INFINITY, |moment| milliseconds(recorded, moment));
        let mut rewritten: Vec<f64> = rewritten.into_iter().map(after_row).collect();
        rewritten.sort_by(f64::total_cmp);
        let nth = |at: usize| rewritten.get(at).copied().unwrap_or_default();
        Ok(Cost {
            calm_primary,
            calm_standby,
            calm_backends,
            outage_standby,
            outage_backends: most,
            promotion: milliseconds(row.integer("detected_us")?, row.integer("promoted_us")?),
            rewritten_half: nth(self.watchers / 2),
            rewritten_all: nth(self.watchers.saturating_sub(1)),
        })
    }
}

impl Cost {
    /// The median of each figure.
    pub fn median(costs: &[Self]) -> Result<Self> {
        let of = |figure: fn(&Self) -> f64| -> Result<f64> {
            let figures: Vec<f64> = costs.iter().map(figure).collect();
            Ok(summary(&figures).context("nothing was measured")?.median)
        };
        Ok(Self {
            calm_primary: of(|cost| cost.calm_primary)?,
            calm_standby: of(|cost| cost.calm_standby)?,
            calm_backends: of(|cost| cost.calm_backends)?,
            outage_standby: of(|cost| cost.outage_standby)?,
            outage_backends: of(|cost| cost.outage_backends)?,
            promotion: of(|cost| cost.promotion)?,
            rewritten_half: of(|cost| cost.rewritten_half)?,
            rewritten_all: of(|cost| cost.rewritten_all)?,
        })
    }
}

/// The heads of the table whose rows [`line()`] makes.
pub const TABLE: &str = "\
| watchers | connections | calm: CPU of primary, standby | backends on each | failover: CPU of standby | most backends | lost to promoted | row to rewritten: half, all |
|---|---|---|---|---|---|---|---|";

/// A row of the table.
pub fn line(fleet: Fleet, cost: &Cost) -> impl fmt::Display {
    let Cost { calm_primary, calm_standby, calm_backends, outage_standby, outage_backends, promotion, .. } = cost;
    let kept = match (fleet.watchers, fleet.keep_open) {
        (0, _) => "none",
        (_, true) => "kept open",
        (_, false) => "one a question",
    };
    let rewritten = match fleet.watchers {
        0 => String::new(),
        _ => format!("{}, {}", after(cost.rewritten_half), after(cost.rewritten_all)),
    };
    format!(
        "| {} | {kept} | {calm_primary:.2} %, {calm_standby:.2} % | {calm_backends:.0} | {outage_standby:.1} % | {outage_backends:.0} | {promotion:.0} ms | {rewritten} |",
        fleet.watchers
    )
}

fn after(delay: f64) -> String {
    if delay.is_finite() { format!("{delay:.0} ms") } else { format!("not within {} s", STARVED.as_secs()) }
}

fn percent(spent: Duration, of: Duration) -> f64 {
    spent.as_secs_f64() / of.as_secs_f64() * 100.0
}

fn backends(node: &Node) -> Result<f64> {
    let sql = "select count(*) from pg_stat_activity where usename = 'keeper_watch'";
    node.sql_value("postgres", sql)?.parse().context("a count")
}
