//! The task that looks after one target as long as the daemon runs.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::sleep;
use watcher_core::plan::Due;

use crate::clock;
use crate::target::{Active, Keeper};

/// Whether the task is to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// It goes on.
    NotYet,
    /// As soon as no restart is under way.
    AfterRestart,
    /// At once; a restart that is under way stays owed.
    Now,
}

/// The pause after a rewrite that failed; it doubles with each further one.
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LONGEST_RETRY: Duration = Duration::from_secs(30);

/// Follows the active node: the file first, then the restart, again and again until both have succeeded.
pub(super) async fn up_to_date(
    keeper: Keeper,
    mut followed: watch::Receiver<Option<Active>>,
    mut ending: watch::Receiver<Ending>,
) {
    let mut rewritten: Option<Active> = None;
    let mut failures = Failures::default();
    loop {
        let active = *followed.borrow_and_update();
        let mut again = None;
        if let Some(active) = active {
            if rewritten != Some(active) {
                match keeper.rewrite(active, true).await {
                    Ok(()) => {
                        rewritten = Some(active);
                        failures = Failures::default();
                    }
                    Err(error) => again = Some(failures.next(&keeper.target().name, format!("{error:#}"))),
                }
            }
            if *ending.borrow() != Ending::NotYet {
                return;
            }
            // A restart that is owed waits for the file that it is owed for.
            if rewritten == Some(active) {
                again = match keeper.due() {
                    Due::Nothing => None,
                    Due::Retry(moment) => Some(moment.since(clock::now())),
                    Due::Limited(moment) => {
                        let wait = moment.since(clock::now());
                        tracing::error!(
                            "{}: restart pending: there were as many restarts as limit allows; next attempt in {} s",
                            keeper.target().name,
                            wait.as_secs()
                        );
                        Some(wait)
                    }
                    Due::Now => {
                        tokio::select! {
                            _ = keeper.restart() => continue,
                            _ = ending.wait_for(|ending| *ending == Ending::Now) => return,
                        }
                    }
                };
            }
        }
        tokio::select! {
            changed = followed.changed() => if changed.is_err() { return },
            () = pause(again) => {}
            _ = ending.wait_for(|ending| *ending != Ending::NotYet) => return,
        }
    }
}

async fn pause(again: Option<Duration>) {
    match again {
        // A clock of milliseconds may be a fraction early.
        Some(wait) => sleep(wait + Duration::from_millis(1)).await,
        None => std::future::pending().await,
    }
}

/// Failed rewrites in a row.
#[derive(Default)]
struct Failures {
    in_a_row: u32,
    last: String,
}

impl Failures {
    /// Tells a failure if it is another one than the last, and says when to try again.
    fn next(&mut self, target: &str, error: String) -> Duration {
        let wait = FIRST_RETRY.saturating_mul(2_u32.saturating_pow(self.in_a_row)).min(LONGEST_RETRY);
        self.in_a_row = self.in_a_row.saturating_add(1);
        if self.last != error {
            tracing::error!("{target}: {error}; the file is as it was, and it is tried again");
            self.last = error;
        }
        wait
    }
}
