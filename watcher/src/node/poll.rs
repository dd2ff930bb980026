//! The task that goes on asking one node.
//!
//! At most one attempt is under way. The connection stays open between attempts, and its end is noticed at once: then
//! the node is asked again over a new one, without waiting for the next interval.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use watcher_core::choose::{NodeId, Observation};
use watcher_core::config::Config;
use watcher_core::conninfo::Conninfo;
use watcher_core::pace::{Ended, Pace, late_after, pause};

use super::{Failure, Session, within};
use crate::clock;

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
    let mut last = (Ended::Answered, 0_u32);
    let asked = *question.borrow_and_update();
    let mut node = Node { id, config, session: None, log: LogWanted { seen: asked.log_wanted.0, tries: 0 } };
    let mut pace = (asked.pace, clock::now());
    loop {
        let begun = clock::now();
        let Some(ended) = node.ask(&reports).await else { return };
        last = (ended, if last.0 == ended { last.1.saturating_add(1) } else { 1 });
        let log_wanted = question.borrow_and_update().log_wanted;
        if !node.read_log(log_wanted, &reports).await {
            return;
        }
        if !node.config.connection.keep_open {
            node.session = None;
        }

        // Jitter, so that many watchers do not ask as one.
        let jitter = 0.9 + fastrand::f64() * 0.2;
        let polling = node.config.polling;
        loop {
            let asked = question.borrow_and_update().pace;
            if asked != pace.0 {
                pace = (asked, clock::now());
            }
            let lasting = clock::now().since(pace.1);
            let cost = if last.0 == Ended::Answered && !node.config.connection.keep_open {
                // The answer took a process on the server, like a refusal: many such questions would starve a promotion.
                Ended::Rejected
            } else {
                last.0
            };
            let next = begun.after(pause(polling, pace.0, lasting, cost, last.1).mul_f64(jitter));
            tokio::select! {
                () = clock::sleep_until(next) => break,
                changed = question.changed() => if changed.is_err() { return },
                () = node.connection_ended() => {
                    node.session = None;
                    // A server that accepts connections and ends them at once is not asked without a pause.
                    clock::sleep_until(begun.after(polling.outage)).await;
                    break;
                }
            }
        }
    }
}

/// One node, and the connection to it.
struct Node {
    id: NodeId,
    config: Arc<Config>,
    session: Option<Session>,
    log: LogWanted,
}

/// Which row of failover_log is asked for, and how often still.
struct LogWanted {
    seen: u64,
    tries: u32,
}

impl Node {
    /// Makes one attempt, tells how it ended, and says so; nothing if nobody listens any more.
    async fn ask(&mut self, reports: &mpsc::Sender<(NodeId, Report)>) -> Option<Ended> {
        let (limit, late) = (self.config.connection.timeout, late_after(self.config.polling));
        let conninfo = &self.config.nodes[self.id.index()].conninfo;
        let outcome = {
            let attempt = within(limit, attempt(conninfo, limit, &mut self.session));
            tokio::pin!(attempt);
            match clock::within(late, &mut attempt).await {
                Some(outcome) => outcome,
                None => {
                    reports.send((self.id, Report::Late)).await.ok()?;
                    attempt.await
                }
            }
        };
        let ended = outcome.as_ref().map_or_else(|failure| failure.ended, |_| Ended::Answered);
        if ended != Ended::Answered {
            self.session = None;
        }
        reports.send((self.id, Report::Asked(outcome))).await.ok()?;
        Some(ended)
    }

    /// Reads the newest row of failover_log if it is wanted of this node; false if nobody listens any more.
    ///
    /// A promotion comes before its row. This is the question after the one that showed the promotion, an interval later; a
    /// row that is still not there is asked for again.
    async fn read_log(&mut self, wanted: (u64, NodeId), reports: &mpsc::Sender<(NodeId, Report)>) -> bool {
        if wanted.0 != self.log.seen {
            self.log = LogWanted { seen: wanted.0, tries: if wanted.1 == self.id { LOG_TRIES } else { 0 } };
        }
        let Some(session) = self.session.as_ref().filter(|_| self.log.tries > 0) else {
            return true;
        };
        self.log.tries -= 1;
        let row = session.failover_log().await;
        if row.as_ref().is_err_and(|failure| failure.ended == Ended::Silent) {
            // An answer that is still to come would be in the way of the next question.
            self.session = None;
        }
        let may_come = match &row {
            Ok(row) => row.is_none(),
            Err(failure) => failure.is_lack_of_time(),
        };
        if may_come && self.log.tries > 0 {
            return true;
        }
        self.log.tries = 0;
        reports.send((self.id, Report::LogRow(row))).await.is_ok()
    }

    async fn connection_ended(&mut self) {
        match &mut self.session {
            Some(session) => session.ended().await,
            None => std::future::pending().await,
        }
    }
}

/// One attempt: over the open connection, or, if that proves broken, over a new one.
async fn attempt(conninfo: &Conninfo, limit: Duration, session: &mut Option<Session>) -> Result<Observation, Failure> {
    if let Some(open) = session.as_mut().filter(|open| !open.is_over())
        && let Ok(observation) = open.ask().await
    {
        return Ok(observation);
    }
    *session = None;
    let mut fresh = Session::open(conninfo, limit).await?;
    let observation = fresh.ask().await?;
    *session = Some(fresh);
    Ok(observation)
}
