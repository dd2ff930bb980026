//! Restart of a systemd unit, by `systemctl`.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{anyhow, bail};
use watcher_core::config::Restart;

use super::process::output;

/// How long systemd may take for an answer that needs no waiting.
const ANSWER: Duration = Duration::from_secs(10);

/// Restarts the unit, waits for its job, and sees that it stays up.
pub(super) async fn restart(name: &str, unit: &str, restart: &Restart) -> anyhow::Result<()> {
    let before = properties(unit).await?;
    before.loaded(unit).map_err(anyhow::Error::msg)?;
    if before.is("ActiveState", "inactive") {
        // Somebody stopped it on purpose; it reads the file when it is started.
        tracing::info!("{name}: {unit} is stopped, so it is not restarted");
        return Ok(());
    }
    // A unit in its start limit would refuse; one that is in none loses nothing.
    let _ = output(&["systemctl", "reset-failed", unit], ANSWER).await;
    tracing::info!("{name}: restart issued: systemctl restart {unit}");
    let job = output(&["systemctl", "restart", unit], restart.timeout).await;
    let finished = match job {
        Ok(finished) => finished,
        Err(error) => {
            tracing::warn!("{name}: {error:#}; {unit} is killed");
            output(&["systemctl", "kill", "--signal=SIGKILL", unit], ANSWER).await?;
            // The job that is still queued goes on once the old processes are gone; asking again joins it.
            output(&["systemctl", "restart", unit], restart.kill_after).await?
        }
    };
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
    Ok(())
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
