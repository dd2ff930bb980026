//! One PostgreSQL server of ours.

mod lifecycle;
mod queries;

use std::collections::HashMap;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use anyhow::{Context, Result};
use nix::unistd::Pid;

use crate::folder;
use crate::install::{install, run};
use crate::netns::Namespace;
use crate::ports::Port;
use crate::process;
use crate::sql::Session;

/// How long anything that a healthy server does may take before a test gives up.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The file with a node's own settings; a template's postgresql.conf includes it at its end.
pub const SETTINGS_FILE: &str = "node.conf";

/// A server's data directory, its settings, and its postmaster while it runs.
pub struct Node {
    name: String,
    folder: PathBuf,
    port: Port,
    namespace: Option<Namespace>,
    /// A file that the server is to see as /etc/hosts.
    hosts: Mutex<Option<PathBuf>>,
    postmaster: Mutex<Option<Child>>,
    /// Standing connections by database, as a connection costs more than a query.
    sessions: Mutex<HashMap<String, Session>>,
}

impl Node {
    /// A server in a folder of its own, without a data directory so far.
    pub fn create(cluster: &Path, name: &str, namespace: Option<Namespace>) -> Result<Self> {
        let folder = cluster.join(name);
        folder::make(&folder)?;
        Ok(Self {
            name: name.to_owned(),
            folder,
            port: Port::reserve()?,
            namespace,
            hosts: Mutex::new(None),
            postmaster: Mutex::new(None),
            sessions: Mutex::new(HashMap::new()),
        })
    }

    /// The name that the application and the log table know it by.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its data directory.
    pub fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// The address other servers and clients use.
    pub fn host(&self) -> &str {
        self.namespace.as_ref().map_or("127.0.0.1", |namespace| namespace.address)
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// Host and port as an application writes them.
    pub fn address(&self) -> String {
        format!("{}:{}", self.host(), self.port())
    }

    /// A conninfo for the role that may do nothing but replicate.
    pub fn conninfo(&self) -> String {
        format!("host={} port={} user=keeper", self.host(), self.port())
    }

    /// Fills the data directory with a copy of another one whose server is down.
    pub fn copy_from(&self, data: &Path) -> Result<()> {
        let copy = &mut install()?.as_server_account(Path::new("cp"));
        run(copy.args(["--archive", "--reflink=auto"]).arg(data).arg(self.data())).map(drop)
    }

    /// Fills the data directory with a base backup of a running server, as its standby.
    pub fn base_backup_of(&self, primary: &Node) -> Result<()> {
        let conninfo = format!("{} application_name={}", primary.conninfo(), self.name);
        let mut backup = install()?.tool("pg_basebackup");
        backup.args(["--write-recovery-conf", "--wal-method=stream", "--checkpoint=fast", "--no-sync"]);
        backup.arg("--dbname").arg(conninfo).arg("--pgdata").arg(self.data());
        run(&mut backup).map(drop)
    }

    /// Makes the next start a standby's.
    pub fn become_standby_of(&self, primary: &Node) -> Result<()> {
        self.write("standby.signal", "")?;
        self.set(&format!("primary_conninfo = '{} application_name={}'", primary.conninfo(), self.name))
    }

    /// Writes its whole settings file: where it listens, and what it is given.
    pub fn configure(&self, settings: &[String]) -> Result<()> {
        let own = format!(
            "listen_addresses = '{}'\nport = {}\nunix_socket_directories = '{}'\ncluster_name = '{}'\n",
            self.host(),
            self.port(),
            self.folder.display(),
            self.name
        );
        self.write(SETTINGS_FILE, &(own + &settings.join("\n") + "\n"))
    }

    /// Adds a line to its settings; the last line about a setting counts.
    pub fn set(&self, line: &str) -> Result<()> {
        let path = self.data().join(SETTINGS_FILE);
        let mut file =
            OpenOptions::new().append(true).open(&path).with_context(|| format!("open {}", path.display()))?;
        writeln!(file, "{line}").with_context(|| format!("write {}", path.display()))
    }

    /// Writes a file of its data directory.
    pub fn write(&self, file: &str, text: &str) -> Result<()> {
        let path = self.data().join(file);
        fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
        install()?.give_to_server_account(&path)
    }

    /// Gives the server, from its next start on, a hosts file of its own; later changes to it are seen at once. Needs root.
    pub fn resolve_by(&self, text: &str) -> Result<()> {
        let path = self.folder.join("hosts");
        fs::write(&path, text)?;
        *self.hosts.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = Some(path);
        Ok(())
    }

    /// The keeper's process.
    pub fn keeper(&self) -> Result<Pid> {
        let is_keeper = |pid: &Pid| process::title(*pid).ends_with(": pg_keeper");
        let found = process::living_in(&self.data()).into_iter().find(is_keeper);
        found.with_context(|| format!("{} has no keeper process:\n{}", self.name, self.log_tail(20)))
    }

    /// Everything that the server has written to its log.
    pub fn log(&self) -> String {
        let bytes = fs::read(self.log_path()).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The last lines of its log.
    pub fn log_tail(&self, lines: usize) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().rev().take(lines).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
    }

    fn log_path(&self) -> PathBuf {
        self.folder.join("log")
    }

    fn postmaster(&self) -> MutexGuard<'_, Option<Child>> {
        self.postmaster.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Err(error) = self.kill_all() {
            eprintln!("{error:#}");
        }
    }
}
