//! `check`: what would go wrong, before it does.

use watcher_core::choose::{Choice, NodeId, choose};
use watcher_core::config::{Config, NodeConfig, Target};

use super::{ask_both, describe, observations};
use crate::exit::Exit;
use crate::file::Original;
use crate::{restart, state};

/// Prints one line per finding.
pub(crate) async fn check(config: Config) -> anyhow::Result<Exit> {
    let mut failed = false;
    let mut tell = |subject: &str, finding: Result<String, String>| match finding {
        Ok(fact) => println!("ok       {subject}: {fact}"),
        Err(problem) => {
            failed = true;
            println!("problem  {subject}: {problem}");
        }
    };
    let memory = state::peek();
    let usable = memory.as_ref().map_err(|error| format!("{error:#}")).and_then(|_| {
        state::rehearse().map(|()| "can be read and written".to_owned()).map_err(|error| format!("{error:#}"))
    });
    tell("state", usable);

    let answers = ask_both(&config).await;
    for (node, answer) in config.nodes.iter().zip(&answers) {
        match answer {
            Ok(_) => tell(&node.name, Ok(describe(answer))),
            Err(_) => tell(&node.name, Err(format!("{}; correct its conninfo, or start it", describe(answer)))),
        }
    }
    let choice =
        choose(observations(&answers), config.node_names(), &memory.map(|memory| memory.past).unwrap_or_default());
    let choice_exit = Exit::of_choice(&choice);
    let finding = if choice_exit == Exit::Done { "ok      " } else { "problem " };
    println!("{finding} {}", choice.describe(config.node_names()));

    // Without an active node the edit is tried with the first one: whether it works does not depend on the values.
    let node = match choice {
        Choice::Active(node, _) => node,
        Choice::Nobody(_) | Choice::TwoPrimaries(_) => NodeId::First,
    };
    for target in &config.targets {
        tell(&target.name, editable(target, &config.nodes[node.index()]));
        tell(&target.name, restart::check(target).await.map(|()| "restart is possible".to_owned()));
    }
    Ok(if failed && choice_exit == Exit::Done { Exit::Failed } else { choice_exit })
}

fn editable(target: &Target, node: &NodeConfig) -> Result<String, String> {
    let original = Original::read(&target.file).map_err(|error| format!("{error:#}"))?;
    let edited = original.edit(&target.wanted(node)).map_err(|error| format!("{error:#}"))?;
    nix::unistd::access(original.folder(), nix::unistd::AccessFlags::W_OK).map_err(|error| {
        format!(
            "{}: the folder is not writable ({}); let this user write to it (under systemd: ReadWritePaths)",
            original.folder().display(),
            error.desc()
        )
    })?;
    let state = if edited.replaced.is_empty() { "up to date" } else { "editable, and not up to date" };
    Ok(format!("{}: {state}", target.file.display()))
}
