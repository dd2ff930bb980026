//! `status`: both nodes, the files, what is pending.

use watcher_core::choose::{Choice, choose};
use watcher_core::config::Config;

use super::{ask_both, describe, observations};
use crate::exit::Exit;
use crate::file::Original;
use crate::state;
use crate::target::key;

/// Prints a table.
pub(crate) async fn status(config: Config) -> anyhow::Result<Exit> {
    let memory = state::peek()?;
    let answers = ask_both(&config).await;
    let choice = choose(observations(&answers), config.node_names(), &memory.past);
    println!("{}", choice.describe(config.node_names()));
    for (node, answer) in config.nodes.iter().zip(&answers) {
        println!("node    {}  {}  {}", node.name, node.address.address, describe(answer));
    }
    let mut exit = Exit::of_choice(&choice);
    for target in &config.targets {
        let active = match choice {
            Choice::Active(node, _) => Some(&config.nodes[node.index()]),
            Choice::Nobody(_) | Choice::TwoPrimaries(_) => None,
        };
        let file = match active.map(|node| Original::read(&target.file)?.edit(&target.wanted(node))) {
            None => "not compared".to_owned(),
            Some(Ok(edited)) if edited.replaced.is_empty() => "up to date".to_owned(),
            Some(Ok(_)) => {
                exit = exit.worse(Exit::RestartPending);
                "not up to date".to_owned()
            }
            Some(Err(error)) => {
                exit = exit.worse(Exit::Failed);
                format!("{error:#}")
            }
        };
        let debt = memory.debt(&key(&target.file));
        let restart = if debt.restart_pending() {
            exit = exit.worse(Exit::RestartPending);
            format!("restart pending, {} failed", debt.attempts)
        } else if debt.unverified {
            exit = exit.worse(Exit::RestartPending);
            "restarted, not seen to be back".to_owned()
        } else {
            "no restart pending".to_owned()
        };
        println!("target  {}  {file}  {restart}", target.name);
    }
    Ok(exit)
}
