//! Seeing that an application is back.

use std::time::Duration;

use anyhow::{Context, bail};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};
use watcher_core::config::Verify;

use super::LOOK_AGAIN;

/// How long one attempt may be silent.
const ATTEMPT: Duration = Duration::from_secs(1);

/// Waits until a TCP connection succeeds; false if that does not matter any more.
pub(super) async fn tcp(verify: &Verify, overtaken: impl Fn() -> bool) -> anyhow::Result<bool> {
    let end = Instant::now() + verify.timeout;
    loop {
        if overtaken() {
            return Ok(false);
        }
        let left = end.saturating_duration_since(Instant::now());
        let attempt = TcpStream::connect((verify.tcp.host.as_str(), verify.tcp.port));
        let error = match timeout(left.min(ATTEMPT), attempt).await {
            Ok(Ok(_)) => return Ok(true),
            Ok(Err(error)) => error,
            Err(_) if left > ATTEMPT => continue,
            Err(_) => bail!("{} took no connection within {:?}", verify.tcp.address, verify.timeout),
        };
        if Instant::now() + LOOK_AGAIN >= end {
            return Err(error)
                .with_context(|| format!("{} took no connection within {:?}", verify.tcp.address, verify.timeout));
        }
        sleep(LOOK_AGAIN).await;
    }
}
