//! What is done for one target: its file brought up to date, its application restarted.

use std::sync::Arc;

use watcher_core::choose::{NodeId, Position};
use watcher_core::config::{Config, NodeConfig, Target};
use watcher_core::plan::{Due, Moment, Wanted};

use crate::clock;
use crate::file::{Original, Placed};
use crate::restart;
use crate::state::Store;

/// The active node, as targets are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Active {
    /// Which.
    pub(crate) node: NodeId,
    /// Its place in the history.
    pub(crate) position: Position,
}

/// One target with all it needs. Clones share what is remembered.
#[derive(Debug, Clone)]
pub(crate) struct Keeper {
    config: Arc<Config>,
    at: usize,
    store: Arc<Store>,
}

/// What became of a restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Restarted {
    /// Nothing was owed.
    NotDue,
    /// Done.
    Done,
    /// It failed, and is still owed.
    Failed,
}

/// How often another program's change in the same moment is answered by a new attempt.
const WRITE_ATTEMPTS: u32 = 3;

impl Keeper {
    /// One for each target.
    pub(crate) fn all(config: &Arc<Config>, store: &Arc<Store>) -> Vec<Self> {
        (0..config.targets.len()).map(|at| Self { config: Arc::clone(config), at, store: Arc::clone(store) }).collect()
    }

    /// The target.
    pub(crate) fn target(&self) -> &Target {
        &self.config.targets[self.at]
    }

    /// Brings the file up to date. A restart is owed, on disk, before the file changes.
    pub(crate) async fn rewrite(&self, active: Active, with_restart: bool) -> anyhow::Result<()> {
        let keeper = self.clone();
        // Syncing to a busy disk may take long, and nodes must be asked meanwhile.
        tokio::task::spawn_blocking(move || keeper.rewrite_now(active, with_restart)).await?
    }

    fn rewrite_now(&self, active: Active, with_restart: bool) -> anyhow::Result<()> {
        let target = self.target();
        let node: &NodeConfig = &self.config.nodes[active.node.index()];
        let values = target.wanted(node);
        let before = self.store.memory().debt(&target.name);
        for _ in 0..WRITE_ATTEMPTS {
            let original = Original::read(&target.file)?;
            let edited = original.edit(&values)?;
            if edited.replaced.is_empty() {
                return Ok(());
            }
            let staged = original.stage(&edited.text)?;
            // Whom the file follows is known for good before it says so: a watcher that died in between would otherwise
            // begin anew from what was known before, and might go back.
            self.store.update(|memory| {
                memory.past.note_active(&node.name, active.position);
                if with_restart {
                    let wanted = Wanted { node: node.name.clone(), position: active.position.into() };
                    memory.targets.entry(target.name.clone()).or_default().rewrite_begins(wanted);
                }
            })?;
            let placed = staged.place();
            if let Ok(Placed::Done) = placed {
                let changes: Vec<String> = edited
                    .replaced
                    .iter()
                    .map(|replaced| format!("{} {} -> {}", replaced.path, replaced.from, replaced.to))
                    .collect();
                tracing::info!("{}: rewrote {}: {}", target.name, target.file.display(), changes.join(", "));
                return Ok(());
            }
            if with_restart {
                // The file is as it was, so nothing more is owed than before.
                self.store.note(|memory| {
                    memory.targets.insert(target.name.clone(), before.clone());
                })?;
            }
            placed?;
        }
        anyhow::bail!("{}: another program keeps changing the file; stop one of the two", target.file.display())
    }

    /// What is due of restarts.
    pub(crate) fn due(&self) -> Due {
        self.store.memory().debt(&self.target().name).due(clock::now(), self.target().restart.limit)
    }

    /// Restarts the application. Until that has succeeded, the restart is owed.
    pub(crate) async fn restart(&self) -> Restarted {
        let target = self.target();
        let name = &target.name;
        let begun = clock::now();
        let outcome = restart::restart(target).await;
        let result = match &outcome {
            Ok(()) => Restarted::Done,
            Err(_) => Restarted::Failed,
        };
        let update = self.note_restart(begun, result).await;
        match outcome {
            Ok(()) => tracing::info!("{name}: restart finished after {} ms", clock::now().since(begun).as_millis()),
            Err(error) => tracing::error!("{name}: restart failed: {error:#}; it is pending and is tried again"),
        }
        if let Err(error) = update {
            // The restart is done; after a crash of the watcher it would be done once more.
            tracing::warn!("{name}: {error:#}");
        }
        result
    }

    async fn note_restart(&self, begun: Moment, result: Restarted) -> anyhow::Result<()> {
        let keeper = self.clone();
        let note = move || {
            let target = keeper.target();
            // Even if the disk is full: a restart that was done must not be repeated for ever.
            keeper.store.note(|memory| {
                let debt = memory.targets.entry(target.name.clone()).or_default();
                debt.restart_begins(begun, target.restart.limit);
                match result {
                    Restarted::Failed => debt.restart_failed(clock::now()),
                    Restarted::Done | Restarted::NotDue => debt.restart_succeeded(),
                }
            })
        };
        tokio::task::spawn_blocking(note).await?
    }
}
