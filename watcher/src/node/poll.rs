//! The task that goes on asking one node.
//!
//! At most one attempt is under way. The connection stays open between attempts, and its end is noticed at once: then
//! the node is asked again over a new one, without waiting for the next interval.

use std::sync::Arc;

use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until, timeout};
use watcher_core::choose::{NodeId, Observation};
use watcher_core::config::Config;
use watcher_core::pace::{Ended, Pace, late_after, pause};

use super::{Failure, Session, within};

/// What is asked besides what the node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Question {
    /// How fast.
    pub(crate) pace: Pace,
    /// The newest row of failover_log is asked for when this number changes and this node is the one.
    pub(crate) log_wanted: (u64, NodeId),
}

/// News of a node.
#[derive(Debug)]
pub(crate) enum Report {
    /// An attempt ended.
    Asked(Result<Observation, Failure>),
    /// An attempt has been without an answer for longer than usual, and goes on.
    Late,
    /// The newest row of failover_log, its time and host; none in an empty table.
    LogRow(Result<Option<(String, String)>, Failure>),
}

/// How often a row that is not there yet is asked for.
const LOG_TRIES: u32 = 5;

/// Asks until nobody listens any more.
pub(crate) async fn keep_asking(
    id: NodeId,
    config: Arc<Config>,
    mut question: watch::Receiver<Question>,
    reports: mpsc::Sender<(NodeId, Report)>,
) {
    let node = &config.nodes[id.index()];
    let limit = config.connection.timeout;
    let mut session: Option<Session> = None;
    let mut last = (Ended::Answered, 0_u32);
    let mut log_seen = question.borrow_and_update().log_wanted;
    let mut log_tries = 0;
    loop {
        let begun = Instant::now();
        let outcome = {
            let attempt = within(limit, attempt(node, &mut session));
            tokio::pin!(attempt);
            match timeout(late_after(config.polling), &mut attempt).await {
                Ok(outcome) => outcome,
                Err(_) => {
                    if reports.send((id, Report::Late)).await.is_err() {
                        return;
                    }
                    attempt.await
                }
            }
        };
        let ended = outcome.as_ref().map_or_else(|failure| failure.ended, |_| Ended::Answered);
        if ended != Ended::Answered {
            session = None;
        }
        last = (ended, if last.0 == ended { last.1.saturating_add(1) } else { 1 });
        if reports.send((id, Report::Asked(outcome))).await.is_err() {
            return;
        }

        let wanted = question.borrow_and_update().log_wanted;
        if wanted != log_seen {
            log_seen = wanted;
            log_tries = if wanted.1 == id { LOG_TRIES } else { 0 };
        }
        if log_tries > 0
            && let Some(open) = &session
        {
            log_tries -= 1;
            let row = within(limit, open.failover_log()).await;
            let hangs = row.is_err();
            // A promotion comes before its row. This is the question after the one that showed the promotion, an
            // interval later; a row that is still not there is asked for again.
            if hangs || matches!(row, Ok(Some(_))) || log_tries == 0 {
                log_tries = 0;
                if reports.send((id, Report::LogRow(row))).await.is_err() {
                    return;
                }
            }
            if hangs {
                // A question that is still outstanding there must not hold up the next one, nor be asked again and again.
                session = None;
            }
        }

        // Jitter, so that many watchers do not ask as one.
        let jitter = 0.9 + fastrand::f64() * 0.2;
        loop {
            let pace = question.borrow_and_update().pace;
            let next = begun + pause(config.polling, pace, last.0, last.1).mul_f64(jitter);
            tokio::select! {
                () = sleep_until(next) => break,
                changed = question.changed() => if changed.is_err() { return },
                () = ended_of(&mut session) => {
                    session = None;
                    // A server that accepts connections and ends them at once is not asked without a pause.
                    sleep_until(begun + config.polling.outage).await;
                    break;
                }
            }
        }
    }
}

/// One attempt: over the open connection, or, if that proves broken, over a new one.
async fn attempt(
    node: &watcher_core::config::NodeConfig,
    session: &mut Option<Session>,
) -> Result<Observation, Failure> {
    if let Some(open) = session.as_mut().filter(|open| !open.is_over())
        && let Ok(observation) = open.ask().await
    {
        return Ok(observation);
    }
    *session = None;
    let mut fresh = Session::open(node).await?;
    let observation = fresh.ask().await?;
    *session = Some(fresh);
    Ok(observation)
}

async fn ended_of(session: &mut Option<Session>) {
    match session {
        Some(session) => session.ended().await,
        None => std::future::pending().await,
    }
}
