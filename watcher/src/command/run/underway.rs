//! Which applications are being restarted.
//!
//! A restart outlives the configuration that it was begun with, so that a slow one holds up no other: the new one's tasks
//! wait here for the restart of their own application, and for no other.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{Mutex as Turn, OwnedMutexGuard};
use watcher_core::config::Application;

/// The restarts under way.
#[derive(Debug, Clone, Default)]
pub(super) struct Underway(Arc<Mutex<BTreeMap<Application, Arc<Turn<()>>>>>);

/// The right to restart an application, until it is dropped.
#[derive(Debug)]
pub(super) struct MyTurn(#[allow(dead_code, reason = "it is the lock")] OwnedMutexGuard<()>);

impl Underway {
    /// The right to restart this application now; nothing if a restart of it is under way.
    pub(super) fn turn_now(&self, application: &Application) -> Option<MyTurn> {
        let turn = Arc::clone(self.lock().entry(application.clone()).or_default());
        turn.try_lock_owned().ok().map(MyTurn)
    }

    /// Waits until no restart of this application is under way.
    pub(super) async fn turn(&self, application: &Application) -> MyTurn {
        let turn = Arc::clone(self.lock().entry(application.clone()).or_default());
        MyTurn(turn.lock_owned().await)
    }

    /// Waits until no restart is under way at all. No other must be begun meanwhile.
    pub(super) async fn all_done(&self) {
        let applications: Vec<Application> = self.lock().keys().cloned().collect();
        for application in applications {
            self.turn(&application).await;
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<Application, Arc<Turn<()>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn restarts_of_one_application_follow_each_other() {
        let underway = Underway::default();
        let (shop, batch) = (&Application::Unit("shop.service".to_owned()), &Application::Of("/batch".into()));
        let first = underway.turn_now(shop).unwrap();
        assert!(underway.turn_now(shop).is_none());
        drop(underway.turn(batch).await);
        let wait = Duration::from_millis(50);
        assert!(timeout(wait, underway.turn(shop)).await.is_err());
        assert!(timeout(wait, underway.all_done()).await.is_err());
        drop(first);
        drop(underway.turn(shop).await);
        underway.all_done().await;
    }
}
