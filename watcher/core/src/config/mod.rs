//! The watcher's configuration. What is accepted here needs no further check.

mod parse;
mod reader;
mod template;

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use thiserror::Error;

use crate::conninfo::Conninfo;
use crate::pace::Intervals;
use crate::units::{Address, Limit};
use crate::yaml::{Path, Values};

pub use template::Template;

/// A whole configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The two nodes.
    pub nodes: [NodeConfig; 2],
    /// How they are reached.
    pub connection: Connection,
    /// How often they are asked.
    pub polling: Intervals,
    /// The files that are kept right.
    pub targets: Vec<Target>,
    /// Where metrics and health are told over HTTP, if anywhere.
    pub http: Option<SocketAddr>,
    /// What tells it from an earlier or a later edition of the same file; whoever reads the file sets it.
    pub edition: String,
}

/// One node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeConfig {
    /// Its name in logs and as `{name}`.
    pub name: String,
    /// How it is reached.
    pub conninfo: Conninfo,
    /// What applications are told.
    pub address: Address,
}

/// What holds for the connections to both nodes; a node's conninfo goes before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connection {
    /// The time limit of one attempt, from resolving the name to the answer.
    pub timeout: Duration,
    /// Whether a connection stays open from one question to the next.
    pub keep_open: bool,
}

/// A file, the values in it, and the application that reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Its name in logs and in the state file; the file's path unless given.
    pub name: String,
    /// The YAML file.
    pub file: PathBuf,
    /// Which of its YAML documents, counted from 1, where it has several.
    pub document: Option<NonZeroUsize>,
    /// What it is made to say.
    pub set: Vec<(Path, Template)>,
    /// How it is written.
    pub write: Write,
    /// How the application is made to read it.
    pub restart: Restart,
    /// How it is seen that the application is back.
    pub verify: Option<Verify>,
}

/// What is restarted; two targets may have one unit, which reads both files.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Application {
    /// A systemd unit.
    Unit(String),
    /// Whatever the command or the signal of the target with this file restarts.
    Of(PathBuf),
}

impl Target {
    /// What is restarted.
    pub fn application(&self) -> Application {
        match &self.restart.how {
            RestartHow::SystemdUnit(unit) => Application::Unit(unit.clone()),
            RestartHow::Command(_) | RestartHow::Signal { .. } => Application::Of(self.file.clone()),
        }
    }

    /// Whether what is written at a path is nothing but the node's address, host, port or name.
    pub fn tells_only_the_node(&self, path: &Path) -> bool {
        self.set.iter().any(|(set, template)| set == path && template.is_one_placeholder())
    }

    /// The values that the file holds when a node is active.
    pub fn wanted(&self, node: &NodeConfig) -> Values {
        let set = self.set.iter().map(|(path, template)| (path.clone(), template.render(node))).collect();
        Values { document: self.document, set }
    }
}

/// How a file gets its new version.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Write {
    /// A new file takes the old one's place: readers see one or the other, whatever happens.
    #[default]
    Rename,
    /// The file itself is written to, for one that is a mount point of its own. A reader can see half of each.
    InPlace,
}

/// How an application is restarted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restart {
    /// By what.
    pub how: RestartHow,
    /// How long it may take.
    pub timeout: Duration,
    /// How long after a polite request to end it is killed.
    pub kill_after: Duration,
    /// How long a unit must stay up to count as restarted.
    pub settle: Duration,
    /// The longest random wait before it, so that a fleet does not restart as one.
    pub splay: Duration,
    /// How many restarts are too many.
    pub limit: Option<Limit>,
}

/// By what an application is restarted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RestartHow {
    /// systemd restarts this unit.
    SystemdUnit(String),
    /// This program is run, without a shell.
    Command(Vec<String>),
    /// The process gets a signal.
    Signal {
        /// The file that holds the process's number.
        pid_file: PathBuf,
        /// Which signal.
        signal: Signal,
    },
}

/// The signals that an application may be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// SIGHUP
    Hup,
    /// SIGINT
    Int,
    /// SIGQUIT
    Quit,
    /// SIGTERM
    Term,
    /// SIGUSR1
    Usr1,
    /// SIGUSR2
    Usr2,
}

/// How it is seen that an application is back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verify {
    /// A TCP connection to this host and port succeeds.
    pub tcp: Address,
    /// Within this time.
    pub timeout: Duration,
}

/// A configuration that is refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{}{message}", .line.map(|line| format!("line {line}: ")).unwrap_or_default())]
pub struct ConfigError {
    /// The line, counted from 1, where there is one.
    pub line: Option<usize>,
    /// The key, what is wrong with it, and what to write instead.
    pub message: String,
}

impl Config {
    /// Reads a configuration file's text.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        parse::config(text)
    }

    /// The nodes' names.
    pub fn node_names(&self) -> [&str; 2] {
        let [first, second] = &self.nodes;
        [&first.name, &second.name]
    }
}
