//! `once`: the same decision one time, for cron.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::anyhow;
use watcher_core::choose::{Choice, choose};
use watcher_core::config::{Application, Config};
use watcher_core::follow::Active;
use watcher_core::plan::Due;

use super::{ask_both, ask_until_known, describe, observations};
use crate::clock;
use crate::exit::Exit;
use crate::state::Store;
use crate::target::{Brought, Keeper, Restarted, settle_orphans, tell_left_alone};

/// How long a file may take, another instance's work on it included. Cron's next run would find the lock held by one that waits for
/// a file system that gives no answer.
const REWRITE_WITHIN: Duration = Duration::from_secs(15);

/// Looks once and acts. Silent unless something changed or failed.
///
/// `only`: the targets to look after; all where it is empty.
pub(crate) async fn once(config: Config, with_restart: bool, only: &[String]) -> anyhow::Result<Exit> {
    if let Some(name) = only.iter().find(|name| config.targets.iter().all(|target| target.name != **name)) {
        anyhow::bail!("there is no target {name:?} in the configuration; correct --target");
    }
    let config = Arc::new(config);
    // Without a restart nothing need be remembered, so a daemon that holds the lock is no obstacle: this is what an
    // application's unit runs before it starts.
    let store = Arc::new(if with_restart { Store::open()? } else { Store::open_as_guest()? });
    if with_restart {
        settle_orphans(&config, &store);
        store.look_at_clock();
    }
    let before = store.memory();
    let answers = if with_restart { ask_both(&config).await } else { ask_until_known(&config, &before.past).await };
    let (observations, names) = (observations(&answers), config.node_names());
    let choice = choose(observations, names, &before.past);
    // Two primaries too are remembered, lest the next look take the one that still answers for the only one.
    if !store.is_guest() {
        store.update(|memory| memory.past.learn(observations, names, choice))?;
    }
    let Choice::Active(node, position) = choice else {
        for (node, answer) in config.nodes.iter().zip(&answers) {
            tracing::error!("{}: {}", node.name, describe(answer));
        }
        tracing::error!("{}", choice.describe(names));
        return Ok(Exit::of_choice(&choice));
    };
    // Silent when nothing changed: cron sends mail for every line.
    if store.memory() != before {
        tracing::info!("{}", choice.describe(names));
    }
    let mut applications: BTreeMap<Application, Vec<Keeper>> = BTreeMap::new();
    for keeper in Keeper::all(&config, &store) {
        if only.is_empty() || only.contains(&keeper.target().name) {
            applications.entry(keeper.application()).or_default().push(keeper);
        }
    }
    let active = Active { node, position };
    let tasks: Vec<_> = applications
        .into_values()
        .map(|keepers| tokio::spawn(bring_up_to_date(keepers, active, with_restart)))
        .collect();
    let mut exit = Exit::Done;
    for task in tasks {
        exit = exit.worse(task.await?);
    }
    Ok(exit)
}

/// All targets of one application: their files first, so that one restart serves all.
async fn bring_up_to_date(keepers: Vec<Keeper>, active: Active, with_restart: bool) -> Exit {
    let mut exit = Exit::Done;
    let mut right = Vec::new();
    for keeper in keepers {
        let rewrite = clock::within(REWRITE_WITHIN, keeper.rewrite(active, with_restart)).await;
        match rewrite.unwrap_or_else(|| Err(anyhow!("{}: cannot be reached", keeper.target().file.display()))) {
            Ok(Brought::UpToDate(_)) => right.push(keeper),
            Ok(Brought::LeftAlone(_)) => {
                tell_left_alone(keeper.target());
                exit = Exit::Failed;
            }
            Err(error) => {
                tracing::error!("{}: {error:#}", keeper.target().name);
                exit = Exit::Failed;
            }
        }
    }
    for keeper in right.iter().filter(|_| with_restart) {
        exit = exit.worse(match restart_if_due(keeper).await {
            Restarted::NotDue | Restarted::Done => Exit::Done,
            Restarted::Owed => Exit::RestartPending,
            Restarted::Misconfigured => Exit::Config,
        });
    }
    exit
}

/// Cron is its own pause between attempts, so only the limit holds a restart back.
async fn restart_if_due(keeper: &Keeper) -> Restarted {
    match keeper.due() {
        Due::Nothing => Restarted::NotDue,
        Due::Verify => keeper.verify().await,
        Due::Retry(_) if !keeper.restart_pending() => keeper.verify().await,
        Due::Restart | Due::Retry(_) => {
            clock::sleep(keeper.target().restart.splay.mul_f64(fastrand::f64())).await;
            keeper.restart().await
        }
        Due::Limited(_) => {
            tracing::error!("{}: restart pending: there were as many restarts as limit allows", keeper.target().name);
            Restarted::Owed
        }
    }
}
