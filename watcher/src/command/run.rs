//! `run`: the daemon.
//!
//! One task asks each node, one task looks after each target; [`watch`] turns their news into a decision. It ends with
//! SIGTERM or SIGINT: a rewrite that is under way is finished, a restart that is owed stays owed. With SIGHUP it reads its
//! configuration again and begins anew with it; the old one stays if the new one is refused.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::sync::{mpsc, watch as channel};
use tokio::task::JoinSet;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at, timeout};
use watcher_core::choose::NodeId;
use watcher_core::config::Config;
use watcher_core::pace::Pace;

use self::keep::Ending;
use self::signals::{Signals, Told};
use self::watch::Watch;
use crate::exit::Exit;
use crate::load;
use crate::node::{Question, keep_asking};
use crate::state::Store;
use crate::target::Keeper;

mod keep;
mod signals;
mod watch;

const SUMMARY_EVERY: Duration = Duration::from_secs(60);
/// How long a rewrite may take to finish at the end.
const FINISH_WITHIN: Duration = Duration::from_secs(10);

/// Watches until it is told to end; `file` is where the configuration came from.
pub(crate) async fn run(config: Config, file: &Path) -> anyhow::Result<Exit> {
    let store = Arc::new(Store::open()?);
    let mut signals = Signals::new()?;
    let mut config = Arc::new(config);
    while let Some(new) = serve(&config, file, &store, &mut signals).await {
        config = Arc::new(new);
    }
    tracing::info!("told to end");
    Ok(Exit::Done)
}

/// Watches with one configuration, until it is told to end or there is a new one.
async fn serve(config: &Arc<Config>, file: &Path, store: &Arc<Store>, signals: &mut Signals) -> Option<Config> {
    let (report, mut reports) = mpsc::channel(16);
    let (question, asked) = channel::channel(Question { pace: Pace::Outage, log_wanted: (0, NodeId::First) });
    // Dropped at the end, and the connections with it.
    let mut pollers = JoinSet::new();
    for node in NodeId::ALL {
        pollers.spawn(keep_asking(node, Arc::clone(config), asked.clone(), report.clone()));
    }
    let (active, followed) = channel::channel(None);
    let (end, ending) = channel::channel(Ending::NotYet);
    let mut keepers = JoinSet::new();
    for keeper in Keeper::all(config, store) {
        keepers.spawn(keep::up_to_date(keeper, followed.clone(), ending.clone()));
    }
    let (past, learnt) = channel::channel(store.memory().past);
    tokio::spawn(watch::remember(Arc::clone(store), learnt));
    let mut watch = Watch::new(config, past, question, active);

    let [first, second] = config.node_names();
    tracing::info!("watching {first} and {second} for {} targets", config.targets.len());
    notify(&[NotifyState::Ready, NotifyState::Status("asking both nodes")]);
    let mut summary = every(SUMMARY_EVERY);
    let new = loop {
        tokio::select! {
            Some((node, report)) = reports.recv() => watch.take(node, report),
            _ = summary.tick() => watch.summarize(),
            told = signals.next() => match told {
                Told::End => break None,
                Told::Reload => match reload(file) {
                    Some(new) => break Some(new),
                    None => notify(&[NotifyState::Ready]),
                },
            },
        }
    };

    if new.is_some() {
        // A restart that is under way would be forgotten and done again, so it is waited for.
        end.send_replace(Ending::AfterRestart);
        tokio::select! {
            () = all_done(&mut keepers) => return new,
            () = signals.end() => {}
        }
    }
    end.send_replace(Ending::Now);
    notify(&[NotifyState::Stopping]);
    if timeout(FINISH_WITHIN, all_done(&mut keepers)).await.is_err() {
        tracing::warn!("a rewrite did not finish within {FINISH_WITHIN:?}");
    }
    None
}

async fn all_done(tasks: &mut JoinSet<()>) {
    while tasks.join_next().await.is_some() {}
}

/// The new configuration, or nothing if the old one stays.
fn reload(file: &Path) -> Option<Config> {
    if let Ok(now) = NotifyState::monotonic_usec_now() {
        notify(&[NotifyState::Reloading, now]);
    }
    match load::config(file) {
        Ok(new) => {
            tracing::info!("{}: configuration read again", file.display());
            Some(new)
        }
        Err(error) => {
            tracing::error!("{error:#}; the old configuration stays");
            None
        }
    }
}

fn every(period: Duration) -> Interval {
    let mut interval = interval_at(Instant::now() + period, period);
    interval.set_missed_tick_behavior(MissedTickBehavior::Skip);
    interval
}

/// Tells systemd, if it started us.
fn notify(state: &[NotifyState<'_>]) {
    if std::env::var_os("NOTIFY_SOCKET").is_some()
        && let Err(error) = sd_notify::notify(state)
    {
        tracing::warn!("cannot tell systemd: {error}");
    }
}
