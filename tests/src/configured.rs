//! A watcher that is configured on an application host, for what it is told and what it tells.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, ensure};

use crate::folder::ClusterFolder;
use crate::host::Host;
use crate::pair::Pair;
use crate::ports::Port;
use crate::watcher::{Ended, command, plain_nodes_section, restart_by, run_once};

/// An application host on which the watcher is configured.
pub struct Configured {
    /// The host.
    pub host: Host,
    /// The watcher's configuration.
    pub configuration: String,
}

impl Configured {
    /// Configures it on a new host.
    pub fn new(cluster: &Path, nodes: &str, restart: &str) -> Result<Self> {
        let host = Host::create(cluster, "host")?;
        let configuration = host.configuration_with(nodes, restart);
        Ok(Self { host, configuration })
    }

    /// The folder that the watcher lives in.
    pub fn folder(&self) -> &Path {
        self.host.folder()
    }

    /// Runs one of its commands to its end.
    pub fn run(&self, arguments: &[&str]) -> Result<Ended> {
        run_once(self.folder(), &self.configuration, arguments)
    }

    /// Runs one of its commands, which is to end with this exit code, and returns what it wrote.
    pub fn ends_with(&self, arguments: &[&str], code: i32) -> Result<String> {
        let ended = self.run(arguments)?;
        ensure!(ended.code == Some(code), "{arguments:?} ended with {:?}: {}", ended.code, ended.text);
        ensure!(!ended.text.contains("panicked"), "{}", ended.text);
        Ok(ended.text)
    }

    /// The program, for more arguments.
    pub fn command(&self) -> Result<Command> {
        command(self.folder(), &self.configuration)
    }
}

/// A `restart` entry that does nothing.
pub fn by_true() -> String {
    restart_by(&["/bin/true".to_owned()])
}

/// Two nodes at ports where nobody listens.
pub struct Nobody {
    _cluster: ClusterFolder,
    _ports: [Port; 2],
    /// The host.
    pub host: Configured,
}

impl Nobody {
    /// Configures a watcher for them.
    pub fn new(name: &str) -> Result<Self> {
        let cluster = ClusterFolder::create(name)?;
        let ports = [Port::reserve()?, Port::reserve()?];
        let [one, two] = ports.each_ref().map(Port::number);
        let nodes = format!(
            "nodes:\n  db01: {{conninfo: \"host=127.0.0.1 port={one} user=x\"}}\n  \
             db02: {{conninfo: \"host=127.0.0.1 port={two} user=x\"}}\n"
        );
        let host = Configured::new(cluster.path(), &nodes, &by_true())?;
        Ok(Self { _cluster: cluster, _ports: ports, host })
    }
}

/// A pair without the extension, asked as superuser.
pub fn plain_pair(name: &str, restart: &str) -> Result<(Pair, Configured)> {
    let pair = Pair::describe(name).without_keeper().start()?;
    let nodes = plain_nodes_section([&pair.primary, &pair.standby]);
    let host = Configured::new(pair.folder(), &nodes, restart)?;
    Ok((pair, host))
}
