//! A whole outage on real programs: two servers, the application, the watcher; a fault; service again.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::application::Application;
use crate::clock::{self, Micros};
use crate::fault::Fault;
use crate::ledger::Entry;
use crate::node::{Node, PATIENCE};
use crate::pair::Pair;
use crate::sql::Row;
use crate::state::failover_log;
use crate::wait;
use crate::watcher::{self, Watcher};

/// What is allowed after the partner has been found lost, for promotion, row, rewrite, restart and the first write.
/// Generous: each of these is measured in the benchmark, the promise is only that they don't add seconds.
const AFTER_LOSS: Duration = Duration::from_secs(2);

/// What a proven death takes at most to be found under `fast_failover`, whatever the window is.
const PROOF: Duration = Duration::from_secs(1);

/// Rows acknowledged before the fault, so that there is a service to interrupt.
const WARM_UP: usize = 50;

/// What is going to happen.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// What befalls the primary.
    pub fault: Fault,
    /// `pg_keeper.keepalive_time`.
    pub keepalive_time: Duration,
    /// `pg_keeper.keepalive_count`.
    pub keepalive_count: u32,
    /// `pg_keeper.fast_failover`.
    pub fast_failover: bool,
}

/// Everything up and running, before the fault.
pub struct Stage {
    plan: Plan,
    /// The two servers.
    pub pair: Pair,
    /// The application.
    pub application: Application,
    /// The watcher.
    pub watcher: Watcher,
}

/// What happened, in instants of one clock.
#[derive(Debug)]
pub struct Outage {
    /// The last acknowledged write on the old primary.
    pub last_acknowledged: Entry,
    /// The fault.
    pub fault: Micros,
    /// The last answer of the old primary to a keepalive.
    pub last_answer: Option<Micros>,
    /// The standby's keeper found its partner lost.
    pub lost: Micros,
    /// The standby had become primary.
    pub promoted: Micros,
    /// The row of failover_log was committed.
    pub recorded: Micros,
    /// The watcher knew the new active node.
    pub active_known: Micros,
    /// The watcher had rewritten the application's file.
    pub rewritten: Micros,
    /// The watcher asked for the restart.
    pub restart_issued: Micros,
    /// The restart was done.
    pub restarted: Micros,
    /// The first acknowledged write on the new primary.
    pub first_acknowledged: Entry,
    /// The row of failover_log.
    pub row: Row,
    /// The application's file before.
    pub file_before: String,
    /// The application's file after.
    pub file_after: String,
    /// How many writes were acknowledged by the old primary.
    pub acknowledged: usize,
    /// Those of them that the new primary does not have.
    pub missing: Vec<i64>,
}

impl Plan {
    /// From the fault to the first acknowledged write, at most.
    pub fn promise(&self) -> Duration {
        let window = self.keepalive_time * self.keepalive_count;
        let finding = if self.fast_failover && self.fault.is_provable() { PROOF.min(window) } else { window };
        finding + AFTER_LOSS
    }
}

impl Stage {
    /// Starts everything; `say` is told what is being done.
    pub fn set_up(plan: Plan, say: impl Fn(&str)) -> Result<Self> {
        say("two PostgreSQL servers: initdb, pg_keeper in both, pg_state, a base backup, streaming");
        let switch = if plan.fast_failover { "on" } else { "off" };
        let pair = Pair::describe("outage")
            .as_in_production()
            .keepalive_time(plan.keepalive_time)
            .keepalive_count(plan.keepalive_count)
            .set(format!("pg_keeper.fast_failover = {switch}"))
            .start()?;
        say("the sample application: it reads env.yaml once and writes a row every 20 ms");
        let application = Application::start(&pair)?;
        say("the watcher: it polls both servers");
        let folder = pair.folder().join("watcher");
        let configuration = watcher::nodes_section([&pair.primary, &pair.standby])
            + &watcher::target_section(
                &application.configuration(),
                &watcher::restart_by(&application.restart_command()?),
            );
        let watcher = Watcher::start(&folder, &configuration)?;
        watcher.wait_said(&active(&pair.primary), 0)?;
        application.wait_for_rows(WARM_UP)?;
        pair.wait_armed()?;
        Ok(Self { plan, pair, application, watcher })
    }

    /// Lets the fault befall the primary and waits until the application writes again.
    pub fn strike(&self) -> Result<Outage> {
        self.fail_over(&self.pair.primary, &self.pair.standby, 2)
    }

    /// Lets the fault befall the server that is primary now, and waits until the application writes to the other one, which is to be on the
    /// given timeline.
    pub fn fail_over(&self, from: &Node, to: &Node, timeline: i64) -> Result<Outage> {
        let Self { plan, pair, application, watcher } = self;
        let file_before = fs::read_to_string(application.configuration())?;
        // The watcher may have had a first rewrite of its own: only what comes after the fault counts.
        let fault = clock::now();
        plan.fault.befall(from, pair)?;

        let new_primary = to.address();
        let evidence = || format!("{}--- watcher log:\n{}", pair.evidence(), watcher.log());
        let limit = plan.promise() * 2 + PATIENCE;
        let on_new = |entry: &Entry| entry.server == new_primary && entry.at > fault;
        let first_acknowledged = wait::value("the first write on the new primary", limit, evidence, || {
            Ok(application.ledger()?.into_iter().find(on_new))
        })?;
        let row = pair.wait_recorded(to, timeline)?;
        let rewritten = watcher.wait_said("rewrote", fault)?;
        let restart_issued = watcher.wait_said("restart issued", fault)?;
        let restarted = watcher.wait_said("restart finished", fault)?;
        let active_known = watcher.wait_said(&active(to), fault)?;

        let old: Vec<Entry> = application.ledger()?.into_iter().filter(|entry| !on_new(entry)).collect();
        let at = |column: &str| row.integer(column);
        Ok(Outage {
            fault,
            last_answer: at("last_answer_us").ok(),
            lost: at("detected_us")?,
            promoted: at("promoted_us")?,
            recorded: at("committed_us").or_else(|_| at("recorded_us"))?,
            active_known,
            rewritten,
            restart_issued,
            restarted,
            first_acknowledged,
            file_before,
            file_after: fs::read_to_string(application.configuration())?,
            acknowledged: old.len(),
            missing: application.missing_from(to)?,
            last_acknowledged: old.into_iter().last().context("no write before the fault")?,
            row: failover_log(to)?.into_iter().next().context("failover_log is empty")?,
        })
    }
}

impl Outage {
    /// From the fault to the first acknowledged write.
    pub fn until_service(&self) -> Duration {
        Duration::from_micros(u64::try_from(self.first_acknowledged.at - self.fault).unwrap_or_default())
    }
}

fn active(node: &Node) -> String {
    format!("active node is {}", node.name())
}
