//! The task that looks after one target as long as the daemon runs.
//!
//! The file comes first: a new active node is written into it at once, whatever a restart that is under way is doing.
//! That restart makes good only the rewrites before it, so that another one follows.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};
use watcher_core::follow::{Active, OTHERS_WITHIN, all_tried};
use watcher_core::plan::{Due, Moment};

use super::underway::Underway;
use crate::clock;
use crate::file::Fingerprint;
use crate::monitor::metrics;
use crate::target::{Brought, Keeper, tell_left_alone};

/// Whether the task is to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// It goes on.
    NotYet,
    /// As soon as no rewrite is under way. A restart that is goes on by itself; no other one is begun.
    AfterRewrite,
}

/// The rewrites that keep failing, by target.
#[derive(Debug, Clone, Default)]
pub(super) struct Troubles(Arc<Mutex<BTreeMap<String, String>>>);

impl Troubles {
    /// Each as a sentence.
    pub(super) fn all(&self) -> Vec<String> {
        self.lock().iter().map(|(target, error)| format!("{target}: {error}")).collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The pause after a rewrite that failed; it doubles with each further one.
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LONGEST_RETRY: Duration = Duration::from_secs(30);

/// For which node each target's file was tried last, by the target's place in the configuration.
pub(super) type Tried = watch::Sender<Vec<Option<Active>>>;

/// Follows the active node until it is told to end.
pub(super) async fn up_to_date(
    keeper: Keeper,
    mut followed: watch::Receiver<Option<Active>>,
    mut ending: watch::Receiver<Ending>,
    calm: Duration,
    troubles: Troubles,
    underway: Underway,
    tried: Tried,
) -> Result<(), JoinError> {
    let mut others = tried.subscribe();
    let mut minder = Minder {
        keeper,
        calm,
        settled: None,
        attempted: None,
        followed_since: clock::now(),
        tried,
        waits_for_others: false,
        look_again: clock::now(),
        failures: Failures::default(),
        troubles,
        left_alone: false,
        underway,
        waits_for_turn: false,
        restarting: JoinSet::new(),
        restart_at: None,
        limit_told: false,
    };
    let application = minder.keeper.application();
    loop {
        if *ending.borrow_and_update() == Ending::AfterRewrite {
            minder.restarting.detach_all();
            return Ok(());
        }
        let active = *followed.borrow_and_update();
        let mut wake = None;
        if let Some(active) = active {
            minder.follow(active).await;
            // The end may have been announced during a rewrite, and no restart is begun after that.
            if matches!(ending.has_changed(), Ok(true)) {
                continue;
            }
            wake = minder.restart_if_due(active);
        }
        let look = active.is_some().then_some(minder.look_again);
        tokio::select! {
            changed = followed.changed() => if changed.is_err() { return Ok(()) },
            () = at(wake.into_iter().chain(look).min()) => {}
            Some(ended) = minder.restarting.join_next() => ended?,
            _ = minder.underway.turn(&application), if minder.waits_for_turn => {}
            Ok(()) = others.changed(), if minder.waits_for_others => {}
            changed = ending.changed() => if changed.is_err() { return Ok(()) },
        }
    }
}

async fn at(moment: Option<Moment>) {
    match moment {
        Some(moment) => clock::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

struct Minder {
    keeper: Keeper,
    calm: Duration,
    /// The file is right for this node, or left alone, and looked like this.
    settled: Option<(Active, Fingerprint)>,
    /// The node that was tried last.
    attempted: Option<Active>,
    /// Since when.
    followed_since: Moment,
    /// Where the others hear of it.
    tried: Tried,
    /// The application reads other files, too, that have not been tried yet.
    waits_for_others: bool,
    /// When the file is tried or looked at again.
    look_again: Moment,
    failures: Failures,
    troubles: Troubles,
    /// Another program keeps undoing what is done here, and that has been told.
    left_alone: bool,
    underway: Underway,
    /// A restart of the same application is under way: for another target, or begun with an earlier configuration.
    waits_for_turn: bool,
    /// At most one restart.
    restarting: JoinSet<()>,
    /// The end of the splay.
    restart_at: Option<Moment>,
    limit_told: bool,
}

impl Minder {
    /// Makes the file right for a node, or sees that it still is.
    async fn follow(&mut self, active: Active) {
        let is_new = self.attempted.replace(active) != Some(active);
        if is_new {
            self.settled = None;
            self.followed_since = clock::now();
        } else if clock::now() < self.look_again {
            return;
        }
        let pause = match self.settled {
            Some((_, seen)) if self.keeper.look().await == Some(seen) => self.calm,
            Some(_) | None => self.bring_up_to_date(active).await,
        };
        self.look_again = clock::now().after(pause);
        let at = self.keeper.at();
        self.tried.send_if_modified(|tried| tried[at].replace(active) != Some(active));
    }

    /// Returns how long to wait before the next look.
    async fn bring_up_to_date(&mut self, active: Active) -> Duration {
        let brought = self.keeper.rewrite(active, true).await;
        let target = self.keeper.target();
        metrics::tried_file(&target.name, &brought);
        let brought = match brought {
            Ok(brought) => brought,
            Err(error) => {
                self.settled = None;
                let error = format!("{error:#}");
                self.troubles.lock().insert(target.name.clone(), error.clone());
                let pause = self.failures.next(&target.name, error);
                // To see that a file is not there yet costs nothing.
                return if self.keeper.look().await.is_none() { pause.min(self.calm) } else { pause };
            }
        };
        self.failures = Failures::default();
        let (seen, left_alone) = match brought {
            Brought::UpToDate(seen) => {
                self.troubles.lock().remove(&target.name);
                (seen, false)
            }
            Brought::LeftAlone(seen) => {
                let trouble = "another program keeps changing the file back".to_owned();
                self.troubles.lock().insert(target.name.clone(), trouble);
                (seen, true)
            }
        };
        if left_alone && !self.left_alone {
            tell_left_alone(target);
        }
        self.left_alone = left_alone;
        self.settled = Some((active, seen));
        self.calm
    }

    /// Begins what is due of restarts, or says when to see again.
    fn restart_if_due(&mut self, active: Active) -> Option<Moment> {
        self.waits_for_turn = false;
        self.waits_for_others = false;
        // A restart that is owed waits for the file that it is owed for.
        let is_right = self.settled.is_some_and(|(settled, _)| settled == active);
        if !is_right || !self.restarting.is_empty() {
            return None;
        }
        let due = self.keeper.due();
        let keeper = self.keeper.clone();
        match due {
            Due::Nothing => None,
            Due::Retry(moment) => Some(moment),
            Due::Limited(moment) => {
                if !std::mem::replace(&mut self.limit_told, true) {
                    tracing::error!(
                        "{}: restart pending: there were as many restarts as limit allows; next attempt in {} s",
                        keeper.target().name,
                        moment.since(clock::now()).as_secs()
                    );
                }
                Some(moment)
            }
            Due::Verify => {
                self.in_turn(async move {
                    keeper.verify().await;
                });
                None
            }
            Due::Restart => {
                self.limit_told = false;
                let tried: Vec<Option<Active>> = {
                    let tried = self.tried.borrow();
                    self.keeper.with_same_application().into_iter().map(|at| tried[at]).collect()
                };
                if !all_tried(tried, active, clock::now().since(self.followed_since)) {
                    self.waits_for_others = true;
                    return Some(self.followed_since.after(OTHERS_WITHIN));
                }
                let at = *self.restart_at.get_or_insert_with(|| clock::now().after(splay(&keeper)));
                if clock::now() < at {
                    return Some(at);
                }
                let begun = self.in_turn(async move {
                    keeper.restart().await;
                });
                if begun {
                    self.restart_at = None;
                }
                None
            }
        }
    }

    /// Begins something that no other restart of this application may overlap; false if one is under way.
    fn in_turn(&mut self, work: impl Future<Output = ()> + Send + 'static) -> bool {
        let turn = self.underway.turn_now(&self.keeper.application());
        self.waits_for_turn = turn.is_none();
        let Some(turn) = turn else { return false };
        self.restarting.spawn(async move {
            work.await;
            drop(turn);
        });
        true
    }
}

fn splay(keeper: &Keeper) -> Duration {
    let longest = keeper.target().restart.splay;
    if longest.is_zero() {
        return longest;
    }
    let wait = longest.mul_f64(fastrand::f64());
    tracing::info!("{}: restart in {} ms", keeper.target().name, wait.as_millis());
    wait
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
