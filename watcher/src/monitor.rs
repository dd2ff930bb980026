//! What others may see of the daemon: systemd's watchdog, metrics, health.

mod http;
pub(crate) mod metrics;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use sd_notify::NotifyState;
use tokio::task::JoinSet;
use tokio::time::{Interval, MissedTickBehavior, interval};
use watcher_core::choose::{Choice, NodeId};
use watcher_core::config::Config;
use watcher_core::health::Health;

use crate::node::Report;
use crate::state::Store;

/// Sees what the daemon does, and tells whoever asks. Ends, with all that it serves, when it is dropped.
pub(crate) struct Monitor {
    config: Arc<Config>,
    health: Arc<Mutex<Health>>,
    watchdog: Option<Interval>,
    _server: JoinSet<()>,
}

impl Monitor {
    /// Begins with one configuration.
    pub(crate) fn start(config: &Arc<Config>, store: &Arc<Store>) -> Self {
        let health = Arc::new(Mutex::new(Health::new(config, Instant::now())));
        metrics::begin(config);
        let mut server = JoinSet::new();
        if let Some(listen) = config.http {
            let targets = config.targets.iter().map(|target| (target.name.clone(), target.file.clone())).collect();
            let pages = http::Pages { targets, store: Arc::clone(store), health: Arc::clone(&health) };
            server.spawn(http::serve(listen, Arc::new(pages)));
        }
        Self { config: Arc::clone(config), health, watchdog: watchdog(), _server: server }
    }

    /// Takes in news of a node.
    pub(crate) fn saw(&self, node: NodeId, report: &Report) {
        if let Report::Asked(answer) = report {
            self.health().asked(node, Instant::now());
            metrics::asked(&self.config.nodes[node.index()].name, answer);
        }
    }

    /// Takes in what follows from it.
    pub(crate) fn chose(&self, choice: Option<&Choice>) {
        if let Some(choice) = choice {
            self.health().chose(choice);
            metrics::chose(&self.config, choice);
        }
    }

    /// Feeds systemd's watchdog for ever, if there is one. Whoever waits for this shows thereby that he makes progress; so that a
    /// task which has stopped asking is found too, nothing is fed without both nodes being asked.
    pub(crate) async fn feed_watchdog(&mut self) {
        let Some(watchdog) = &mut self.watchdog else {
            return std::future::pending().await;
        };
        watchdog.tick().await;
        match self.health().is_asking(Instant::now()) {
            Ok(()) => crate::command::notify(&[NotifyState::Watchdog]),
            Err(reason) => tracing::error!("{reason}: systemd is left to start the watcher again"),
        }
    }

    fn health(&self) -> std::sync::MutexGuard<'_, Health> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Twice as often as it must be fed at least.
fn watchdog() -> Option<Interval> {
    let period = sd_notify::watchdog_enabled()?.max(Duration::from_millis(2)) / 2;
    let mut interval = interval(period);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    Some(interval)
}
