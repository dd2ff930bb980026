//! `status`: both nodes, the files, what is pending.

use std::path::Path;

use watcher_core::choose::{Choice, choose};
use watcher_core::config::{Config, NodeConfig, Target as TargetConfig};
use watcher_core::status::{FileState, Node, RestartState, Severity, Status, Target};

use super::{ask_both, observations};
use crate::exit::Exit;
use crate::file::Original;
use crate::load;
use crate::output::print;
use crate::state;

/// Prints a table, or JSON.
pub(crate) async fn status(config: Config, json: bool) -> anyhow::Result<Exit> {
    let (status, choice) = look(&config).await?;
    print(&if json { status.to_json()? + "\n" } else { status.to_table() })?;
    Ok(status.targets.iter().fold(Exit::of_choice(&choice), |exit, target| exit.worse(exit_of(target))))
}

/// Prints a line, as a Nagios plugin.
pub(crate) async fn nagios(file: &Path, without_daemon: bool) -> anyhow::Result<Exit> {
    let look = async { look(&load::config(file)?).await };
    let (severity, line) = match look.await {
        Ok((status, _)) => status.to_nagios(!without_daemon),
        Err(error) => (Severity::Unknown, Severity::Unknown.line(&format!("{error:#}"))),
    };
    print(&(line + "\n"))?;
    Ok(Exit::Nagios(severity))
}

async fn look(config: &Config) -> anyhow::Result<(Status, Choice)> {
    let memory = state::peek()?;
    let answers = ask_both(config).await;
    let choice = choose(observations(&answers), config.node_names(), &memory.past);
    let mut status = Status::new(&choice, config.node_names(), state::is_locked());
    status.nodes = (config.nodes.iter().zip(answers))
        .map(|(node, answer)| Node::new(node, answer.map_err(|failure| failure.message)))
        .collect();
    let active = match choice {
        Choice::Active(node, _) => Some(&config.nodes[node.index()]),
        Choice::Nobody(_) | Choice::TwoPrimaries(_) => None,
    };
    let target = |target: &TargetConfig| {
        let up_to_date = active.map(|node| is_up_to_date(target, node).map_err(|error| format!("{error:#}")));
        Target::new(target, up_to_date, &memory.debt(&target.file))
    };
    status.targets = config.targets.iter().map(target).collect();
    Ok((status, choice))
}

fn is_up_to_date(target: &TargetConfig, node: &NodeConfig) -> anyhow::Result<bool> {
    Ok(Original::read(&target.file)?.edit(&target.wanted(node))?.replaced.is_empty())
}

fn exit_of(target: &Target) -> Exit {
    match (target.file_state, target.restart) {
        (FileState::Unusable | FileState::NotUpToDate, _) => Exit::Failed,
        (_, RestartState::Pending | RestartState::Unverified) => Exit::RestartPending,
        (FileState::UpToDate | FileState::NotCompared, RestartState::None) => Exit::Done,
    }
}
