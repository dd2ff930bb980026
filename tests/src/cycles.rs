//! Fault after fault on one pair, with a client hammering each server all the while, and healing after each.
//!
//! Every cycle begins with a healthy pair and ends with one. Which fault comes, and when, is drawn from a seed, so that a run can be
//! repeated. After each cycle it is asked what the old primary acknowledged after it was replaced, and what was acknowledged and is gone.

use std::fmt;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};

use crate::clock::{self, Micros};
use crate::hammer::{self, Hammer};
use crate::node::Node;
use crate::pair::Pair;
use crate::replication::Replication;
use crate::state::{is_in_recovery, status};

/// What the pairs here wait before they fail over.
const KEEPALIVE_TIME: Duration = Duration::from_millis(300);
const KEEPALIVE_COUNT: u32 = 3;

/// Acknowledged writes that show that a server is in service.
const IN_SERVICE: usize = 20;

/// What befalls the pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Misfortune {
    /// Every process of the primary is killed; it is started when it has been replaced.
    KillPrimary,
    /// Every process of the primary stands still, and goes on when it has been replaced.
    FreezePrimary,
    /// The primary stands still for less than the window.
    StallPrimary,
    /// The primary's keeper is killed, which crashes and restarts the whole server.
    KillPrimaryKeeper,
    /// Every process of the standby is killed; it is started again.
    KillStandby,
    /// Every process of the standby stands still for longer than it takes to be dropped.
    FreezeStandby,
    /// The standby's keeper stands still for a while.
    StallStandbyKeeper,
    /// Both are killed in one moment and started again, the primary first.
    KillBoth,
}

impl Misfortune {
    /// Those by which the primary is replaced.
    pub const REPLACING: [Self; 2] = [Self::KillPrimary, Self::FreezePrimary];
    /// All.
    pub const ALL: [Self; 8] = [
        Self::KillPrimary,
        Self::FreezePrimary,
        Self::StallPrimary,
        Self::KillPrimaryKeeper,
        Self::KillStandby,
        Self::FreezeStandby,
        Self::StallStandbyKeeper,
        Self::KillBoth,
    ];
}

impl fmt::Display for Misfortune {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.pad(match self {
            Self::KillPrimary => "primary killed, comes back",
            Self::FreezePrimary => "primary frozen, wakes up",
            Self::StallPrimary => "primary stands still for a moment",
            Self::KillPrimaryKeeper => "primary's keeper killed",
            Self::KillStandby => "standby killed, comes back",
            Self::FreezeStandby => "standby frozen, wakes up",
            Self::StallStandbyKeeper => "standby's keeper stands still",
            Self::KillBoth => "both killed, both come back",
        })
    }
}

/// What one cycle came to.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// What befell the pair.
    pub misfortune: Misfortune,
    /// Whether the primary was replaced.
    pub replaced: bool,
    /// Writes acknowledged by either server.
    pub acknowledged: usize,
    /// Writes that the old primary acknowledged after it was replaced.
    pub by_superseded: usize,
    /// Writes that were acknowledged and are not on the active server.
    pub lost: usize,
    /// From the fault to the next acknowledged write of the active server, in microseconds.
    pub outage: Micros,
}

/// A pair under way.
pub struct Cycles {
    pair: Pair,
    hammers: [Hammer; 2],
    active: usize,
    timeline: i64,
    replication: Replication,
    /// How many acknowledgements of each hammer have been accounted for.
    accounted: [usize; 2],
}

impl Cycles {
    /// A healthy pair with a client on each server.
    pub fn start(name: &str, replication: Replication) -> Result<Self> {
        let mut builder = Pair::describe(name)
            .keepalive_time(KEEPALIVE_TIME)
            .keepalive_count(KEEPALIVE_COUNT)
            .set("wal_log_hints = on")
            .set("wal_retrieve_retry_interval = '200ms'");
        for (setting, value) in replication.settings() {
            builder = builder.set(format!("{setting} = '{value}'"));
        }
        let pair = builder.start_unarmed()?;
        hammer::prepare(&pair)?;
        let hammers = [Hammer::start(&pair.primary), Hammer::start(&pair.standby)];
        let cycles = Self { pair, hammers, active: 0, timeline: 1, replication, accounted: [0, 0] };
        cycles.wait_healthy()?;
        Ok(cycles)
    }

    /// Lets it befall the pair after a pause, heals, and accounts for what was acknowledged.
    pub fn suffer(&mut self, misfortune: Misfortune, pause: Duration) -> Result<Outcome> {
        sleep(pause);
        let window = KEEPALIVE_TIME * KEEPALIVE_COUNT;
        let before = self.active;
        let (primary, standby) = (self.node(before), self.node(1 - before));
        let fault = clock::now();
        // The promotion of the new primary: from then on the old one must acknowledge nothing.
        let mut superseded = None;
        match misfortune {
            Misfortune::KillPrimary => {
                primary.kill_all()?;
                superseded = Some(self.wait_replaced(standby)?);
                primary.start()?;
            }
            Misfortune::FreezePrimary => {
                primary.freeze()?;
                superseded = Some(self.wait_replaced(standby)?);
                primary.thaw();
            }
            Misfortune::StallPrimary => {
                primary.freeze()?;
                sleep(window / 3);
                primary.thaw();
            }
            Misfortune::KillPrimaryKeeper => {
                let keeper = primary.keeper()?;
                kill(keeper, Signal::SIGKILL)?;
                // Whatever status says before that is about the time before the crash.
                self.pair.wait_until("another keeper", || Ok(primary.keeper()? != keeper))?;
            }
            Misfortune::KillStandby => {
                standby.kill_all()?;
                sleep(window / 2);
                standby.start()?;
            }
            Misfortune::FreezeStandby => {
                standby.freeze()?;
                sleep(window * 2);
                standby.thaw();
            }
            Misfortune::StallStandbyKeeper => {
                let keeper = standby.keeper()?;
                kill(keeper, Signal::SIGSTOP)?;
                sleep(window * 2);
                kill(keeper, Signal::SIGCONT)?;
            }
            Misfortune::KillBoth => {
                primary.kill_all()?;
                standby.kill_all()?;
                primary.start()?;
                standby.start()?;
            }
        }
        if superseded.is_some() {
            self.active = 1 - before;
            self.timeline += 1;
            let old = self.node(before);
            self.pair.wait_until("the old primary to be fenced", || Ok(status(old)?.text("state")? == "fenced"))?;
            let refused = self.hammers[before].refused_with("57P03");
            self.pair.wait_until("the old primary's client to be sent away", || {
                Ok(self.hammers[before].refused_with("57P03") > refused + IN_SERVICE)
            })?;
            old.rejoin()?;
        }
        self.wait_healthy()?;
        self.account(misfortune, before, fault, superseded)
    }

    /// What the clients were told and what the servers say, for the message of a failed run.
    pub fn evidence(&self) -> String {
        let stories: String = self.hammers.iter().map(|hammer| format!("--- client: {}\n", hammer.story())).collect();
        stories + &self.pair.evidence()
    }

    fn node(&self, index: usize) -> &Node {
        if index == 0 { &self.pair.primary } else { &self.pair.standby }
    }

    /// Waits until the standby has taken over and is in service. Returns when it was promoted.
    fn wait_replaced(&self, standby: &Node) -> Result<Micros> {
        self.pair.wait_promoted(standby)?;
        let promoted = self.pair.wait_recorded(standby, self.timeline + 1)?.integer("promoted_us")?;
        let heir = &self.hammers[1 - self.active];
        let before = heir.acknowledged().len();
        self.pair.wait_until("writes on the new primary", || Ok(heir.acknowledged().len() > before + IN_SERVICE))?;
        Ok(promoted)
    }

    /// One primary that takes writes, one standby that is armed and, where replication is to be synchronous, counts.
    fn wait_healthy(&self) -> Result<()> {
        let (primary, standby) = (self.node(self.active), self.node(1 - self.active));
        self.pair.wait_status(standby, "armed", "t")?;
        if self.replication != Replication::Off {
            for node in [primary, standby] {
                self.pair.wait_status(node, "sync", "synchronous")?;
            }
        }
        let hammer = &self.hammers[self.active];
        let before = hammer.acknowledged().len();
        self.pair.wait_until("writes on the primary", || Ok(hammer.acknowledged().len() > before + IN_SERVICE))?;
        ensure!(
            !is_in_recovery(primary)? && is_in_recovery(standby)?,
            "roles are not as they should be\n{}",
            self.evidence()
        );
        Ok(())
    }

    fn account(
        &mut self,
        misfortune: Misfortune,
        before: usize,
        fault: Micros,
        superseded: Option<Micros>,
    ) -> Result<Outcome> {
        // First what was acknowledged, then what is there: so nothing of it can be on its way.
        let mut fresh = Vec::new();
        for (hammer, accounted) in self.hammers.iter().zip(&mut self.accounted) {
            let all = hammer.acknowledged();
            fresh.extend_from_slice(&all[*accounted..]);
            *accounted = all.len();
        }
        let held = hammer::held_by(self.node(self.active))?;
        let lost = fresh.iter().filter(|write| !held.contains(&write.number)).count();
        let by_superseded = superseded.map_or(0, |from| self.hammers[before].acknowledged_after(from).len());
        let next =
            self.hammers[self.active].acknowledged_after(fault).first().copied().context("no write after the fault")?;
        Ok(Outcome {
            misfortune,
            replaced: superseded.is_some(),
            acknowledged: fresh.len(),
            by_superseded,
            lost,
            outage: next.at - fault,
        })
    }
}
