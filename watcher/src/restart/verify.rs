//! Seeing that an application is back.

use anyhow::{Context, bail};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};
use watcher_core::config::Verify;

use super::LOOK_AGAIN;

/// Waits until a TCP connection succeeds.
pub(super) async fn tcp(verify: &Verify) -> anyhow::Result<()> {
    let end = Instant::now() + verify.timeout;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let attempt = TcpStream::connect((verify.tcp.host.as_str(), verify.tcp.port));
        let error = match timeout(left, attempt).await {
            Ok(Ok(_)) => return Ok(()),
            Ok(Err(error)) => error,
            Err(_) => bail!("{} took no connection within {:?}", verify.tcp.address, verify.timeout),
        };
        if Instant::now() + LOOK_AGAIN >= end {
            return Err(error)
                .with_context(|| format!("{} took no connection within {:?}", verify.tcp.address, verify.timeout));
        }
        sleep(LOOK_AGAIN).await;
    }
}
