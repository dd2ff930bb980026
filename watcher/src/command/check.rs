//! `check`: what would go wrong, before it does, and what cannot be told without doing it.

use std::net::{SocketAddr, TcpListener};

use nix::unistd::{AccessFlags, access};
use watcher_core::choose::{Choice, NodeId, choose};
use watcher_core::config::{Config, NodeConfig, RestartHow, Target, Write};
use watcher_core::dropin::OWN_UNIT;

use super::{ask_both, describe, observations};
use crate::exit::Exit;
use crate::file::Original;
use crate::output::print;
use crate::{restart, state};

/// Prints one line per finding.
pub(crate) async fn check(config: Config) -> anyhow::Result<Exit> {
    let mut findings = Findings { failed: false };
    let memory = state::peek();
    let usable = memory.as_ref().map_err(|error| format!("{error:#}")).and_then(|_| {
        state::rehearse().map(|()| "can be read and written".to_owned()).map_err(|error| format!("{error:#}"))
    });
    findings.tell("state", usable)?;

    let answers = ask_both(&config).await;
    for (node, answer) in config.nodes.iter().zip(&answers) {
        match answer {
            Ok(_) => findings.tell(&node.name, Ok(describe(answer)))?,
            Err(_) => {
                let problem = format!("{}; correct its conninfo, or start it", describe(answer));
                findings.tell(&node.name, Err(problem))?;
                findings.unknown(
                    &node.name,
                    "whether it lets us in and belongs to the other node, as it does not answer",
                )?;
            }
        }
    }
    let memory = memory.unwrap_or_default();
    let choice = choose(observations(&answers), config.node_names(), &memory.past);
    let choice_exit = Exit::of_choice(&choice);
    let word = if choice_exit == Exit::Done { "ok" } else { "problem" };
    print(&format!("{word:8} {}\n", choice.describe(config.node_names())))?;

    // Without an active node the edit is tried with the first one: whether it works does not depend on the values.
    let node = match choice {
        Choice::Active(node, _) => node,
        Choice::Nobody(_) | Choice::TwoPrimaries(_) => NodeId::First,
    };
    for target in &config.targets {
        findings.tell(&target.name, editable(target, &config.nodes[node.index()]))?;
        let possible = restart::check(target, memory.clock.clone()).await;
        let unknown = possible.is_ok().then(|| not_tried(target));
        findings.tell(&target.name, possible.map(|()| "restart is possible".to_owned()))?;
        if let Some(unknown) = unknown {
            findings.unknown(&target.name, &unknown)?;
        }
    }
    if let Some(listen) = config.http {
        match can_listen(listen) {
            Some(finding) => findings.tell("http", finding)?,
            None => findings
                .unknown("http", &format!("whether {listen} is free, as a watcher is running that may use it"))?,
        }
    }
    findings.unknown(
        "sandbox",
        &format!(
            "whether the daemon may write there: all this was tried as {}; {OWN_UNIT} may be another user and may write \
             only where ReadWritePaths= lets it, see check --systemd-dropin. The daemon says at its start where it may not",
            user()
        ),
    )?;
    Ok(if findings.failed && choice_exit == Exit::Done { Exit::Failed } else { choice_exit })
}

struct Findings {
    failed: bool,
}

impl Findings {
    fn tell(&mut self, subject: &str, finding: Result<String, String>) -> anyhow::Result<()> {
        match finding {
            Ok(fact) => print(&format!("ok       {subject}: {fact}\n")),
            Err(problem) => {
                self.failed = true;
                print(&format!("problem  {subject}: {problem}\n"))
            }
        }
    }

    fn unknown(&self, subject: &str, what: &str) -> anyhow::Result<()> {
        print(&format!("unknown  {subject}: {what}\n"))
    }
}

/// Says in the log which files this process could not replace: it would show at the worst moment otherwise.
pub(crate) fn tell_of_read_only_folders(config: &Config) {
    for target in &config.targets {
        // A file that cannot be read is told of when it is followed.
        if let Ok(original) = Original::read(&target.file)
            && let Err(problem) = writable(&original, target.write)
        {
            tracing::error!("{}: {problem}", target.name);
        }
    }
}

fn editable(target: &Target, node: &NodeConfig) -> Result<String, String> {
    let original = Original::read(&target.file).map_err(|error| format!("{error:#}"))?;
    let edited = original.edit(&target.wanted(node)).map_err(|error| format!("{error:#}"))?;
    original.rehearse(target.write).map_err(|error| format!("{error:#}"))?;
    let state = if edited.replaced.is_empty() { "up to date" } else { "editable, and not up to date" };
    Ok(format!("{}: {state}", target.file.display()))
}

/// At a glance: the rehearsal would wait for the disk.
fn writable(original: &Original, write: Write) -> Result<(), String> {
    let (what, path) = match write {
        Write::Rename => ("folder", original.folder()),
        Write::InPlace => ("file", original.path()),
    };
    access(path, AccessFlags::W_OK).map_err(|error| {
        format!(
            "{}: the {what} is not writable ({}); let this user write to it (under systemd: ReadWritePaths=, as check \
             --systemd-dropin prints it)",
            path.display(),
            error.desc()
        )
    })
}

/// What of a restart shows only when it is done.
fn not_tried(target: &Target) -> String {
    let restart = match &target.restart.how {
        RestartHow::SystemdUnit(unit) => format!("whether {unit} comes back from a restart"),
        RestartHow::Command(argv) => {
            format!("whether {} does what it should", argv.first().map_or("the command", String::as_str))
        }
        RestartHow::Signal { .. } => "whether the signal makes the process read its file again".to_owned(),
    };
    let verify = if target.verify.is_some() { ", and whether verify sees it" } else { "" };
    format!("{restart}{verify}; check restarts nothing")
}

/// Nothing if that cannot be told.
fn can_listen(listen: SocketAddr) -> Option<Result<String, String>> {
    if state::is_locked() {
        return None;
    }
    Some(match TcpListener::bind(listen) {
        Ok(_) => Ok(format!("{listen} is free")),
        Err(error) => Err(format!("cannot listen on {listen}: {error}; correct http.listen, or stop who has it")),
    })
}

fn user() -> String {
    let uid = nix::unistd::geteuid();
    nix::unistd::User::from_uid(uid).ok().flatten().map_or_else(|| uid.to_string(), |user| user.name)
}
