//! `diff`: what `once` would change.

use watcher_core::choose::{Choice, choose};
use watcher_core::config::{Config, NodeConfig, Target};

use super::{ask_both, observations};
use crate::exit::Exit;
use crate::file::Original;
use crate::output::print;
use crate::state;

/// Prints old and new lines of each file that is not up to date.
pub(crate) async fn diff(config: Config) -> Exit {
    match compare(&config).await {
        Ok(true) => Exit::Done,
        Ok(false) => Exit::Failed,
        Err(error) => {
            tracing::error!("{error:#}");
            Exit::Trouble
        }
    }
}

async fn compare(config: &Config) -> anyhow::Result<bool> {
    let past = state::peek()?.past;
    let choice = choose(observations(&ask_both(config).await), config.node_names(), &past);
    let Choice::Active(node, _) = choice else {
        anyhow::bail!("{}", choice.describe(config.node_names()));
    };
    let mut same = true;
    for target in &config.targets {
        same &= print_changes(target, &config.nodes[node.index()])?;
    }
    Ok(same)
}

/// Lines keep their number in an edit but where a value was spread over several, so they are compared from both ends.
fn print_changes(target: &Target, node: &NodeConfig) -> anyhow::Result<bool> {
    let original = Original::read(&target.file)?;
    let edited = original.edit(&target.wanted(node))?;
    let old: Vec<&str> = original.text()?.lines().collect();
    let new: Vec<&str> = edited.text.lines().collect();
    if edited.replaced.is_empty() {
        return Ok(true);
    }
    let path = original.path().display();
    let mut text = format!("--- {path}\n+++ {path} ({} active)\n", node.name);
    if old.len() == new.len() {
        for (at, (old, new)) in old.iter().zip(&new).enumerate().filter(|(_, (old, new))| old != new) {
            text += &format!("@@ -{line} +{line} @@\n-{old}\n+{new}\n", line = at + 1);
        }
    } else {
        let head = old.iter().zip(&new).take_while(|(old, new)| old == new).count();
        let tail = old[head..].iter().rev().zip(new[head..].iter().rev()).take_while(|(old, new)| old == new).count();
        let (old, new) = (&old[head..old.len() - tail], &new[head..new.len() - tail]);
        text += &format!("@@ -{line},{} +{line},{} @@\n", old.len(), new.len(), line = head + 1);
        old.iter().for_each(|line| text += &format!("-{line}\n"));
        new.iter().for_each(|line| text += &format!("+{line}\n"));
    }
    print(&text)?;
    Ok(false)
}
