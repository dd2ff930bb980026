//! `run`: the daemon.
//!
//! One task asks each node, one task looks after each target; [`watch`] turns their news into a decision. It ends with
//! SIGTERM or SIGINT: a rewrite or a restart that is under way is finished if that does not take long, a restart that is owed
//! stays owed. With SIGHUP it reads its configuration again and begins anew with it as soon as no rewrite is under way; the
//! old one stays if the new one is refused. A restart that is under way goes on meanwhile.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::anyhow;
use sd_notify::NotifyState;
use tokio::sync::{mpsc, watch as channel};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at, timeout};
use watcher_core::choose::{NodeId, Past};
use watcher_core::config::Config;
use watcher_core::pace::Pace;
use watcher_core::plan::Moment;

use self::keep::{Ending, Tried, Troubles};
use self::signals::{Signals, Told};
use self::underway::Underway;
use self::watch::Watch;
use super::notify;
use crate::exit::Exit;
use crate::monitor::{Monitor, metrics};
use crate::node::{Question, keep_asking};
use crate::state::Store;
use crate::target::{Keeper, settle_orphans};
use crate::{clock, load};

mod keep;
mod signals;
mod underway;
mod watch;

const SUMMARY_EVERY: Duration = Duration::from_secs(60);
const LOOK_AT_CLOCK_EVERY: Duration = Duration::from_secs(1);
/// How long a rewrite or a restart may take to finish at the end.
const FINISH_WITHIN: Duration = Duration::from_secs(10);

/// Watches until it is told to end; `file` is where the configuration came from.
pub(crate) async fn run(config: Config, file: &Path) -> anyhow::Result<Exit> {
    let store = Arc::new(Store::open()?);
    let mut signals = Signals::new()?;
    let (past, learnt) = channel::channel(store.memory().past);
    let mut remembering = JoinSet::new();
    remembering.spawn(watch::remember(Arc::clone(&store), learnt));
    remembering.spawn(look_at_clock(Arc::clone(&store)));
    let underway = Underway::default();
    let mut config = Arc::new(config);
    loop {
        settle_orphans(&config, &store);
        let served = tokio::select! {
            served = serve(&config, file, &store, &past, &underway, &mut signals) => served?,
            Some(ended) = remembering.join_next() => return Err(lost("the task that writes the state", ended)),
        };
        match served {
            Some(new) => config = Arc::new(new),
            None => break,
        }
    }
    tracing::info!("told to end");
    Ok(Exit::Done)
}

/// Watches with one configuration, until it is told to end or there is a new one.
async fn serve(
    config: &Arc<Config>,
    file: &Path,
    store: &Arc<Store>,
    past: &channel::Sender<Past>,
    underway: &Underway,
    signals: &mut Signals,
) -> anyhow::Result<Option<Config>> {
    let (report, mut reports) = mpsc::channel(16);
    let (question, asked) = channel::channel(Question { pace: Pace::Outage, log_wanted: (0, NodeId::First) });
    // Dropped at the end, and the connections with it.
    let mut pollers = JoinSet::new();
    for node in NodeId::ALL {
        pollers.spawn(keep_asking(node, Arc::clone(config), asked.clone(), report.clone()));
    }
    let (active, followed) = channel::channel(None);
    let (end, ending) = channel::channel(Ending::NotYet);
    let troubles = Troubles::default();
    let tried = Tried::new(vec![None; config.targets.len()]);
    let mut keepers = JoinSet::new();
    for keeper in Keeper::all(config, store) {
        let (followed, ending, calm) = (followed.clone(), ending.clone(), config.polling.calm);
        keepers.spawn(keep::up_to_date(
            keeper,
            followed,
            ending,
            calm,
            troubles.clone(),
            underway.clone(),
            tried.clone(),
        ));
    }
    let mut watch = Watch::new(config, past.clone(), question, active);
    let mut monitor = Monitor::start(config, store);
    tokio::task::spawn_blocking({
        let config = Arc::clone(config);
        move || super::check::tell_of_read_only_folders(&config)
    });

    let [first, second] = config.node_names();
    tracing::info!("watching {first} and {second} for {} targets", config.targets.len());
    notify(&[NotifyState::Ready, NotifyState::Status("asking both nodes")]);
    let mut summary = every(SUMMARY_EVERY);
    let mut new = None;
    let mut given_up = None;
    // The old configuration serves until no rewrite is under way: two of one file would meet.
    loop {
        tokio::select! {
            Some((node, report)) = reports.recv() => {
                monitor.saw(node, &report);
                watch.take(node, report);
                monitor.chose(watch.choice());
            }
            () = monitor.feed_watchdog() => {}
            _ = summary.tick() => watch.summarize(&troubles.all()),
            told = signals.next() => match told {
                Told::End => break,
                Told::Reload => match reload(file) {
                    Some(config) => {
                        new = Some(config);
                        given_up = Some(clock::now().after(FINISH_WITHIN));
                        end.send_replace(Ending::AfterRewrite);
                    }
                    None => notify(&[NotifyState::Ready]),
                },
            },
            ended = keepers.join_next() => match ended {
                Some(Ok(Ok(()))) if new.is_some() => {}
                Some(Ok(ended)) => return Err(lost("a target's task", ended)),
                Some(Err(error)) => return Err(lost("a target's task", Err(error))),
                None => return Ok(new),
            },
            Some(ended) = pollers.join_next() => return Err(lost("a node's task", ended)),
            () = clock::sleep_until(given_up.unwrap_or(Moment(0))), if given_up.is_some() => {
                tracing::error!("a file cannot be reached: its rewrite has not ended within {FINISH_WITHIN:?} and is left alone");
                return Ok(new);
            }
        }
    }
    notify(&[NotifyState::Stopping]);
    end.send_replace(Ending::AfterRewrite);
    let finish = async {
        all_done(&mut keepers).await;
        underway.all_done().await;
    };
    if timeout(FINISH_WITHIN, finish).await.is_err() {
        tracing::warn!("a rewrite or a restart did not finish within {FINISH_WITHIN:?}; what is owed stays owed");
    }
    Ok(None)
}

/// Sees when the wall clock is set.
async fn look_at_clock(store: Arc<Store>) {
    loop {
        if store.memory().clock.look(clock::both()) {
            let store = Arc::clone(&store);
            let _ = tokio::task::spawn_blocking(move || store.look_at_clock()).await;
        }
        clock::sleep(LOOK_AT_CLOCK_EVERY).await;
    }
}

async fn all_done(tasks: &mut JoinSet<Result<(), JoinError>>) {
    while tasks.join_next().await.is_some() {}
}

/// Without one of its tasks the daemon would look alive and be blind: whoever started it starts it again.
fn lost(what: &str, ended: Result<(), JoinError>) -> anyhow::Error {
    match ended {
        Ok(()) => anyhow!("{what} ended by itself"),
        Err(error) => anyhow!("{what} ended: {error}"),
    }
}

/// The new configuration, or nothing if the old one stays.
fn reload(file: &Path) -> Option<Config> {
    if let Ok(now) = NotifyState::monotonic_usec_now() {
        notify(&[NotifyState::Reloading, now]);
    }
    match load::config(file) {
        Ok(new) => {
            tracing::info!("{}: configuration read again", file.display());
            metrics::reloaded(true);
            Some(new)
        }
        Err(error) => {
            tracing::error!("{error:#}; the old configuration stays");
            metrics::reloaded(false);
            None
        }
    }
}

fn every(period: Duration) -> Interval {
    let mut interval = interval_at(Instant::now() + period, period);
    interval.set_missed_tick_behavior(MissedTickBehavior::Skip);
    interval
}
