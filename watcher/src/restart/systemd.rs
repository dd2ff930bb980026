//! Restart of a systemd unit, over D-Bus.
//!
//! The job is followed to its end. If the bus goes away meanwhile, it is followed over a new connection: systemd itself has
//! not gone, and a second restart would be one too many. What the unit's states mean is decided in [`watcher_core::unit`].

mod bus;

use std::time::Duration;

use anyhow::{anyhow, bail};
use watcher_core::config::Restart;
use watcher_core::unit::{ActiveState, Before, Life, Meanwhile, Progress, Unit};

use self::bus::{Bus, JobEnds};
use super::{Back, CarriedOut, LOOK_AGAIN, Misconfigured};
use crate::clock;

/// Between two looks at a unit whose job is waited for; the end of the job itself is told at once.
const LOOK: Duration = Duration::from_millis(250);

/// How long a bus that has gone away is waited for.
const BUS_BACK_WITHIN: Duration = Duration::from_secs(30);

/// A unit that is to be restarted, as it was before.
#[derive(Debug)]
pub(crate) struct Ready {
    bus: Bus,
    before: Unit,
    if_running: bool,
}

/// Looks whether there is anything to restart; nothing if the unit is stopped on purpose. `may_be_down`: an earlier restart
/// may have left it stopped.
pub(super) async fn prepare(name: &str, unit: &str, may_be_down: bool) -> anyhow::Result<Option<Ready>> {
    let bus = Bus::connect(unit).await?;
    let before = bus.look().await?;
    before.usable().map_err(Misconfigured)?;
    let if_running = match before.before(may_be_down) {
        Before::LeaveStopped => {
            tracing::info!("{name}: {unit} is stopped, so it is not restarted");
            return Ok(None);
        }
        Before::RestartIfRunning => true,
        Before::Restart => false,
    };
    Ok(Some(Ready { bus, before, if_running }))
}

impl Ready {
    /// The restart makes the unit look like one that was stopped on purpose, for a moment.
    pub(super) fn looks_stopped_meanwhile(&self) -> bool {
        self.before.looks_stopped_once_reset()
    }

    /// Restarts the unit and waits for the end of the job.
    pub(super) async fn carry_out(
        self,
        name: &str,
        unit: &str,
        restart: &Restart,
        overtaken: impl Fn() -> bool,
    ) -> anyhow::Result<CarriedOut> {
        let ends = self.bus.listen(&self.before.id).await?;
        self.bus.reset_failed().await;
        tracing::info!("{name}: restart issued: systemd restarts {unit}");
        let job = self.bus.restart(self.if_running).await?;
        let mut following = Following { name, unit, bus: self.bus, ends: Some(ends), job };
        match following.follow(restart, overtaken).await? {
            Followed::Ended(result) => judge(unit, &result, &self.before, &following.look().await?),
            Followed::Overtaken => Ok(CarriedOut::Overtaken),
            Followed::Starting => {
                tracing::warn!("{name}: {unit} has not started within {:?}; it is looked at again", restart.timeout);
                Ok(CarriedOut::Restarted)
            }
        }
    }
}

/// The job of a restart.
struct Following<'a> {
    name: &'a str,
    unit: &'a str,
    bus: Bus,
    /// Nothing once the connection that they came over was lost.
    ends: Option<JobEnds>,
    job: String,
}

/// How far a job was followed.
enum Followed {
    /// To its end, with this result; an empty one if nobody saw the end.
    Ended(String),
    /// Until another restart was due.
    Overtaken,
    /// Until the unit was starting, and took long.
    Starting,
}

impl Following<'_> {
    async fn follow(&mut self, restart: &Restart, overtaken: impl Fn() -> bool) -> anyhow::Result<Followed> {
        let begun = clock::now();
        let mut progress = Progress::default();
        loop {
            if let Some(result) = self.end_within(LOOK).await {
                return Ok(Followed::Ended(result));
            }
            let now = self.look().await?;
            if now.job.as_ref().is_none_or(|job| job.path != self.job) {
                // The signal of its end comes before this answer, unless it was lost with a connection.
                let result = self.end_within(Duration::ZERO).await;
                return Ok(Followed::Ended(result.unwrap_or_default()));
            }
            match progress.next(&now, clock::now().since(begun), restart, overtaken()) {
                Meanwhile::Wait => {}
                Meanwhile::Kill => {
                    let (name, unit) = (self.name, self.unit);
                    tracing::warn!("{name}: {unit} has not stopped within {:?} and is killed", restart.kill_after);
                    self.bus.kill().await?;
                }
                Meanwhile::LetStart => return Ok(Followed::Starting),
                Meanwhile::Overtaken => return Ok(Followed::Overtaken),
                Meanwhile::GiveUp(reason) => bail!(reason),
            }
        }
    }

    /// The job's result, if it ends within this time.
    async fn end_within(&mut self, limit: Duration) -> Option<String> {
        let Some(ends) = &mut self.ends else {
            clock::sleep(limit).await;
            return None;
        };
        let next = async {
            loop {
                match ends.next().await {
                    Some((job, result)) if job == self.job => return Some(result),
                    Some(_) => {}
                    None => return None,
                }
            }
        };
        tokio::select! {
            biased;
            result = next => {
                if result.is_none() {
                    self.ends = None;
                }
                result
            }
            () = clock::sleep(limit) => None,
        }
    }

    /// Looks at the unit, over a new connection if the old one is lost. systemd goes on restarting the unit whatever becomes
    /// of the bus, and also where it begins anew itself, as it does when its package is upgraded.
    async fn look(&mut self) -> anyhow::Result<Unit> {
        let (name, unit) = (self.name, self.unit);
        let end = clock::now().after(BUS_BACK_WITHIN);
        let mut told = false;
        loop {
            let error = match self.bus.look().await {
                Ok(now) => return Ok(now),
                Err(error) => error,
            };
            if clock::now() >= end {
                return Err(error.context(format!("it is not known whether {unit} was restarted")));
            }
            if !std::mem::replace(&mut told, true) {
                tracing::warn!("{name}: systemd gives no answer while {unit} restarts: {error:#}; it is asked again");
            }
            if self.bus.is_lost() {
                self.ends = None;
                if let Ok(bus) = Bus::connect(unit).await {
                    self.bus = bus;
                    continue;
                }
            }
            clock::sleep(LOOK).await;
        }
    }
}

/// What a job's result and the unit's state after it mean.
fn judge(unit: &str, result: &str, before: &Unit, after: &Unit) -> anyhow::Result<CarriedOut> {
    if after.was_left_stopped(before) && matches!(result, "done" | "canceled" | "skipped") {
        tracing::info!("{unit} was stopped meanwhile, or its conditions are not met, and is left so");
        return Ok(CarriedOut::NotRunning);
    }
    let result = match result {
        "done" => return Ok(CarriedOut::Restarted),
        // Nobody saw the end of the job, and what came of it is judged by the unit.
        "" if after.was_started_since(before) || after.is_oneshot => return Ok(CarriedOut::Restarted),
        "" => "its end was not seen",
        result => result,
    };
    match after.active {
        // systemd starts it again by itself: whether it comes up is seen when it is looked at.
        ActiveState::Activating => Ok(CarriedOut::Restarted),
        ActiveState::Active if after.was_started_since(before) => Ok(CarriedOut::Restarted),
        ActiveState::Failed => Ok(CarriedOut::Failed(anyhow!(
            "{unit} did not start ({}); see journalctl -u {unit}",
            if after.result.is_empty() || after.result == "success" { result } else { &after.result }
        ))),
        ActiveState::Active | ActiveState::Inactive | ActiveState::Deactivating => {
            bail!("the restart of {unit} came to nothing ({result}); see journalctl -u {unit}")
        }
    }
}

/// Whether the unit lives, and goes on living for a while. `fresh`: it was restarted just now.
pub(super) async fn is_back(unit: &str, settle: Duration, fresh: bool, overtaken: impl Fn() -> bool) -> Back {
    let looks = async {
        let bus = Bus::connect(unit).await?;
        let started = bus.look().await?;
        let end = clock::now().after(settle);
        while clock::now() < end {
            if overtaken() {
                return Ok(None);
            }
            clock::sleep(LOOK_AGAIN.min(end.since(clock::now()))).await;
        }
        anyhow::Ok(Some(bus.look().await?.life(&started, settle, fresh)))
    };
    match looks.await {
        Ok(None) => Back::Overtaken,
        Ok(Some(Life::Up)) => Back::Yes,
        Ok(Some(Life::LeftStopped(state))) => Back::LeftStopped(format!("{unit} {state}")),
        Ok(Some(Life::NotYet(reason))) => Back::NotYet(anyhow!(reason)),
        Ok(Some(Life::Gone(reason))) => Back::Gone(anyhow!(reason)),
        Err(error) => Back::NotYet(error.context(format!("cannot see whether {unit} is up"))),
    }
}

/// The unit has failed, and is not just slow.
pub(super) async fn has_failed(unit: &str) -> bool {
    let look = async { Bus::connect(unit).await?.look().await };
    look.await.is_ok_and(|unit| unit.active == ActiveState::Failed)
}

/// The unit must be there.
pub(super) async fn check(unit: &str) -> Result<(), String> {
    let look = async {
        let unit = Bus::connect(unit).await?.look().await?;
        unit.usable().map_err(anyhow::Error::msg)
    };
    look.await.map_err(|error| format!("{error:#}"))
}
