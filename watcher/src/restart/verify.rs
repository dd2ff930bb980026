//! Seeing that an application is back.

use std::time::Duration;

use anyhow::{Context, bail};
use tokio::net::TcpStream;
use watcher_core::config::Verify;

use super::LOOK_AGAIN;
use crate::clock::{now, sleep, within};

/// How long one attempt may be silent.
const ATTEMPT: Duration = Duration::from_secs(1);

/// Waits until a TCP connection succeeds; false if that does not matter any more.
pub(super) async fn tcp(verify: &Verify, overtaken: impl Fn() -> bool) -> anyhow::Result<bool> {
    let end = now().after(verify.timeout);
    loop {
        if overtaken() {
            return Ok(false);
        }
        let left = end.since(now());
        let attempt = TcpStream::connect((verify.tcp.host.as_str(), verify.tcp.port));
        let error = match within(left.min(ATTEMPT), attempt).await {
            Some(Ok(_)) => return Ok(true),
            Some(Err(error)) => error,
            None if left > ATTEMPT => continue,
            None => bail!("{} took no connection within {:?}", verify.tcp.address, verify.timeout),
        };
        if now().after(LOOK_AGAIN) >= end {
            return Err(error)
                .with_context(|| format!("{} took no connection within {:?}", verify.tcp.address, verify.timeout));
        }
        sleep(LOOK_AGAIN).await;
    }
}
