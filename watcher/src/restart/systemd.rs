//! Restart of a systemd unit, by `systemctl`.

use std::collections::BTreeMap;
use std::process::Output;
use std::time::Duration;

use anyhow::{anyhow, bail};
use tokio::time::{Instant, timeout};
use watcher_core::config::Restart;

use super::CarriedOut;
use super::process::output;

/// How long systemd may take for an answer that needs no waiting.
const ANSWER: Duration = Duration::from_secs(10);

/// Between two looks at a job that is waited for.
const LOOK: Duration = Duration::from_millis(500);

/// Restarts the unit, waits for its job, and sees that it stays up.
pub(super) async fn restart(
    name: &str,
    unit: &str,
    restart: &Restart,
    overtaken: impl Fn() -> bool,
) -> anyhow::Result<CarriedOut> {
    let before = properties(unit).await?;
    before.loaded(unit).map_err(anyhow::Error::msg)?;
    if before.is("ActiveState", "inactive") {
        // Somebody stopped it on purpose; it reads the file when it is started.
        tracing::info!("{name}: {unit} is stopped, so it is not restarted");
        return Ok(CarriedOut::NotRunning);
    }
    // A unit in its start limit would refuse; one that is in none loses nothing.
    let _ = output(&["systemctl", "reset-failed", unit], ANSWER).await;
    tracing::info!("{name}: restart issued: systemctl restart {unit}");
    let Some(finished) = finish(name, unit, restart, overtaken).await? else { return Ok(CarriedOut::Overtaken) };
    if !finished.status.success() {
        let reason = String::from_utf8_lossy(&finished.stderr);
        bail!("systemctl restart {unit} failed: {}; see journalctl -u {unit}", reason.trim());
    }
    // That the job succeeded does not mean that the process lives on.
    let started = properties(unit).await?;
    tokio::time::sleep(restart.settle).await;
    let settled = properties(unit).await?;
    if !settled.is("ActiveState", "active") {
        bail!("{unit} is {} after its restart; see journalctl -u {unit}", settled.get("ActiveState"));
    }
    if settled.get("NRestarts") != started.get("NRestarts") || settled.get("MainPID") != started.get("MainPID") {
        bail!("{unit} died and was started again within {:?}; see journalctl -u {unit}", restart.settle);
    }
    Ok(CarriedOut::Restarted)
}

/// Waits for the job; nothing if that is not waited for any more. Only a unit that does not stop is killed: one that is
/// starting would be thrown back to the beginning.
async fn finish(
    name: &str,
    unit: &str,
    restart: &Restart,
    overtaken: impl Fn() -> bool,
) -> anyhow::Result<Option<Output>> {
    let command = ["systemctl", "restart", unit];
    let job = output(&command, Duration::MAX);
    tokio::pin!(job);
    let mut ends = Instant::now() + restart.timeout;
    let mut killed = false;
    loop {
        if let Ok(finished) = timeout(LOOK, &mut job).await {
            return finished.map(Some);
        }
        let is_overtaken = overtaken();
        if !is_overtaken && Instant::now() < ends {
            continue;
        }
        let state = properties(unit).await?;
        let is_stopping = state.is("ActiveState", "deactivating");
        if is_overtaken && !is_stopping {
            return Ok(None);
        }
        if Instant::now() < ends {
            continue;
        }
        if killed {
            bail!("{unit} was killed and has not restarted within {:?}; see journalctl -u {unit}", restart.kill_after);
        }
        if is_stopping {
            tracing::warn!("{name}: {unit} has not stopped within {:?} and is killed", restart.timeout);
            output(&["systemctl", "kill", "--signal=SIGKILL", unit], ANSWER).await?;
            killed = true;
            ends = Instant::now() + restart.kill_after;
        } else {
            tracing::warn!("{name}: {unit} is {} still; it is waited for", state.get("ActiveState"));
            ends = Instant::now() + restart.timeout;
        }
    }
}

/// The unit has failed, and is not just slow.
pub(super) async fn has_failed(unit: &str) -> bool {
    properties(unit).await.is_ok_and(|properties| properties.is("ActiveState", "failed"))
}

/// The unit must exist.
pub(super) async fn check(unit: &str) -> Result<(), String> {
    let properties = properties(unit).await.map_err(|error| format!("{error:#}"))?;
    properties.loaded(unit)
}

struct Properties(BTreeMap<String, String>);

async fn properties(unit: &str) -> anyhow::Result<Properties> {
    let shown =
        output(&["systemctl", "show", "--property=LoadState,ActiveState,NRestarts,MainPID", unit], ANSWER).await?;
    if !shown.status.success() {
        return Err(anyhow!("systemctl show {unit} failed: {}", String::from_utf8_lossy(&shown.stderr).trim()));
    }
    let text = String::from_utf8_lossy(&shown.stdout);
    let pairs = text.lines().filter_map(|line| line.split_once('='));
    Ok(Properties(pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()))
}

impl Properties {
    fn get(&self, key: &str) -> &str {
        self.0.get(key).map_or("", String::as_str)
    }

    fn is(&self, key: &str, value: &str) -> bool {
        self.get(key) == value
    }

    fn loaded(&self, unit: &str) -> Result<(), String> {
        match self.get("LoadState") {
            "loaded" => Ok(()),
            "masked" => Err(format!("{unit} is masked; run systemctl unmask {unit}, or correct systemd_unit")),
            "not-found" => Err(format!("{unit} does not exist; correct systemd_unit")),
            other => Err(format!("{unit} is {other:?}, not loaded; see systemctl status {unit}")),
        }
    }
}
