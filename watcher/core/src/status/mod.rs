//! What `status` tells: as a table, as JSON, as a line for Nagios.
//!
//! The names of the JSON's keys and of its states are promised to programs that read them: one may be added, none is
//! renamed or removed without another [`FORMAT`].

mod nagios;
mod table;

use serde::Serialize;

use crate::choose::{Choice, Observation};
use crate::config::{NodeConfig, Target as TargetConfig};
use crate::plan::Debt;

pub use nagios::Severity;

/// The number of the JSON's form.
pub const FORMAT: u32 = 1;

/// Everything that is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Status {
    /// The number of this form.
    pub format: u32,
    /// What is known of the active node.
    pub state: State,
    /// The same as a sentence for people.
    pub sentence: String,
    /// The active node's name, if one is known.
    pub active_node: Option<String>,
    /// Its timeline.
    pub timeline: Option<u32>,
    /// Whether another process works with the state folder, as the daemon does all the time.
    pub daemon_running: bool,
    /// Both nodes, in the order of the configuration.
    pub nodes: Vec<Node>,
    /// The targets, in the order of the configuration.
    pub targets: Vec<Target>,
}

/// What is known of the active node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// One is active.
    Active,
    /// None is, or none is known.
    NoActiveNode,
    /// Two might be.
    TwoPrimaries,
}

/// A node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// What applications are told.
    pub address: String,
    /// What it is.
    pub state: NodeState,
    /// A primary's timeline.
    pub timeline: Option<u32>,
    /// Its cluster; as text, since JSON's numbers are too small for it in most readers.
    pub system_identifier: Option<String>,
    /// Why it gave no usable answer.
    pub error: Option<String>,
}

/// What a node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeState {
    /// Out of recovery.
    Primary,
    /// Out of recovery, and lets no client commit.
    Fenced,
    /// In recovery.
    Standby,
    /// No usable answer.
    Unreachable,
}

/// A target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Target {
    /// Its name.
    pub name: String,
    /// Its file, as configured.
    pub file: String,
    /// What the file says.
    pub file_state: FileState,
    /// Why it cannot be brought up to date.
    pub error: Option<String>,
    /// What is owed to the application.
    pub restart: RestartState,
    /// The attempts that failed since something is owed.
    pub failed_attempts: u32,
}

/// What a file says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FileState {
    /// The active node.
    UpToDate,
    /// Another one.
    NotUpToDate,
    /// It cannot be read or edited.
    Unusable,
    /// Nobody knows what it should say.
    NotCompared,
}

/// What is owed to an application.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RestartState {
    /// Nothing.
    None,
    /// A restart.
    Pending,
    /// It was restarted, and has not been seen to be back.
    Unverified,
}

impl Status {
    /// A choice, with no nodes and targets yet; `names` are the nodes' names.
    pub fn new(choice: &Choice, names: [&str; 2], daemon_running: bool) -> Self {
        let (state, active) = match choice {
            Choice::Active(node, position) => (State::Active, Some((names[node.index()], position.timeline.0))),
            Choice::Nobody(_) => (State::NoActiveNode, None),
            Choice::TwoPrimaries(_) => (State::TwoPrimaries, None),
        };
        Self {
            format: FORMAT,
            state,
            sentence: choice.describe(names).to_string(),
            active_node: active.map(|(name, _)| name.to_owned()),
            timeline: active.map(|(_, timeline)| timeline),
            daemon_running,
            nodes: Vec::new(),
            targets: Vec::new(),
        }
    }

    /// As JSON, one key a line.
    pub fn to_json(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string_pretty(self)
    }
}

impl Node {
    /// What a node answered, or why it did not.
    pub fn new(node: &NodeConfig, answer: Result<Observation, String>) -> Self {
        let (state, timeline, system_identifier) = match answer {
            Ok(Observation::Primary { system_identifier, timeline, fenced }) => {
                let state = if fenced { NodeState::Fenced } else { NodeState::Primary };
                (state, Some(timeline.0), Some(system_identifier))
            }
            Ok(Observation::Standby { system_identifier }) => (NodeState::Standby, None, Some(system_identifier)),
            Ok(Observation::Unreachable) | Err(_) => (NodeState::Unreachable, None, None),
        };
        Self {
            name: node.name.clone(),
            address: node.address.address.clone(),
            state,
            timeline,
            system_identifier: system_identifier.map(|identifier| identifier.to_string()),
            error: answer.err(),
        }
    }
}

impl Target {
    /// A target; `up_to_date` says whether its file is, if that was compared, or why that cannot be told.
    pub fn new(target: &TargetConfig, up_to_date: Option<Result<bool, String>>, debt: &Debt) -> Self {
        let file_state = match up_to_date {
            None => FileState::NotCompared,
            Some(Ok(true)) => FileState::UpToDate,
            Some(Ok(false)) => FileState::NotUpToDate,
            Some(Err(_)) => FileState::Unusable,
        };
        let restart = if debt.restart_pending() {
            RestartState::Pending
        } else if debt.unverified {
            RestartState::Unverified
        } else {
            RestartState::None
        };
        Self {
            name: target.name.clone(),
            file: target.file.display().to_string(),
            file_state,
            error: up_to_date.and_then(Result::err),
            restart,
            failed_attempts: debt.attempts,
        }
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
