//! The two PostgreSQL nodes: a connection to one, one question to it, and the task that goes on asking.

mod certificate;
mod connect;
mod failure;
mod password;
mod poll;
mod service;
mod session;
mod tls;
mod verifier;

pub(crate) use failure::Failure;
pub(crate) use poll::{Question, Report, keep_asking};
pub(crate) use session::Session;

use std::time::Duration;

use watcher_core::choose::Observation;
use watcher_core::config::NodeConfig;

use crate::clock;

/// Asks a node once, over a connection of its own, within a time limit.
pub(crate) async fn ask_once(node: &NodeConfig, limit: Duration) -> Result<Observation, Failure> {
    let attempt = async { Session::open(&node.conninfo, limit).await?.ask().await };
    within(limit, attempt).await
}

/// One time limit over everything that an attempt does.
async fn within<T>(limit: Duration, attempt: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    clock::within(limit, attempt).await.unwrap_or_else(|| Err(Failure::silent(limit)))
}
