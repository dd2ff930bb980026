//! An application host with a systemd of its own, and a primary whose standby is down.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Stdio};

use anyhow::{Context, Result};

use super::Systemd;
use crate::folder::ClusterFolder;
use crate::install::install;
use crate::node::{Node, PATIENCE};
use crate::ports::Port;
use crate::template::template;
use crate::wait;
use crate::watcher::{Ended, target_section};

/// What the application's file says before a watcher has written it.
pub const FILE: &str = "db_master: [{address: \"old:1\"}]\ndb_slave: [{address: \"old:2\"}]\n";

/// What an application does that just runs.
pub const RUN: &str = "exec sleep 1000";

/// The host.
pub struct Host {
    /// Its systemd.
    pub systemd: Systemd,
    /// The active node.
    pub primary: Node,
    /// Nobody listens here.
    other: Port,
    _cluster: ClusterFolder,
}

impl Host {
    /// Boots it, with the primary running and a file in [`Self::file`].
    pub fn boot(name: &str) -> Result<Self> {
        let cluster = ClusterFolder::create(name)?;
        let primary = Node::create(cluster.path(), "db01", None)?;
        primary.copy_from(&template()?)?;
        primary.configure(&["fsync = off".to_owned()])?;
        primary.start()?;
        let host = Self { systemd: Systemd::boot(name)?, primary, other: Port::reserve()?, _cluster: cluster };
        fs::write(host.file(), FILE)?;
        Ok(host)
    }

    /// A file that has the same path inside and outside.
    pub fn path(&self, name: &str) -> PathBuf {
        self.systemd.folder().join(name)
    }

    /// The application's file.
    pub fn file(&self) -> PathBuf {
        self.path("env.yaml")
    }

    /// A unit `shop.service` whose process notes each of its starts before it runs the script.
    pub fn shop(&self, service: &str, script: &str) -> Result<()> {
        let file = self.path("shop.sh");
        fs::write(&file, format!("echo started >> {}\n{script}\n", self.path("starts").display()))?;
        let folder = self.systemd.folder().display();
        let common = format!("[Service]\nWorkingDirectory={folder}\nExecStart=/bin/sh {}\n", file.display());
        self.systemd.unit("shop.service", &(common + service))
    }

    /// Starts it.
    pub fn start_shop(&self) -> Result<()> {
        let before = self.starts();
        self.systemd.run(&["systemctl", "start", "shop.service"])?;
        self.assert_starts(before + 1)
    }

    /// How often it was started.
    pub fn starts(&self) -> usize {
        fs::read_to_string(self.path("starts")).unwrap_or_default().lines().count()
    }

    /// The `nodes` section of the watcher's configuration.
    pub fn nodes(&self) -> String {
        let node = |name: &str, port: u16| {
            format!("  {name}: {{conninfo: \"host=127.0.0.1 port={port} dbname=postgres user=postgres\"}}\n")
        };
        format!("nodes:\n{}{}", node("db01", self.primary.port()), node("db02", self.other.number()))
    }

    /// The watcher's configuration, with its file as the only target.
    pub fn configuration(&self, restart: &str) -> String {
        self.nodes() + &target_section(&self.file(), restart)
    }

    /// Runs `once` with the unit as target, with more options of the restart.
    pub fn once(&self, options: &str) -> Result<Ended> {
        self.systemd.run_watcher(&self.configuration(&unit("shop.service", options)), &["once"])
    }

    /// `once` as a process that goes on.
    pub fn begin_once(&self, options: &str) -> Result<Child> {
        let mut once = self.systemd.watcher(&self.configuration(&unit("shop.service", options)), &["once"])?;
        once.stderr(Stdio::piped()).spawn().context("start the watcher")
    }

    /// Lets the servers' account change the file.
    pub fn give_away(&self) -> Result<()> {
        install()?.give_to_server_account(&self.file())
    }

    /// Waits until the application has made this file.
    pub fn wait_for(&self, name: &str) -> Result<()> {
        let path = self.path(name);
        wait::until(&format!("the file {name}"), PATIENCE, String::new, || Ok(path.exists()))
    }

    /// So many starts, and no more. systemd calls many a unit started before its process has come to noting that.
    pub fn assert_starts(&self, count: usize) -> Result<()> {
        wait::until("another start", PATIENCE, || self.starts().to_string(), || Ok(self.starts() >= count))?;
        assert_eq!(self.starts(), count);
        Ok(())
    }

    /// The file names the active node.
    pub fn assert_rewritten(&self) {
        let content = fs::read_to_string(self.file()).unwrap_or_default();
        assert!(content.contains(&self.primary.address()), "the file was not rewritten: {content}");
    }

    /// The application is up.
    pub fn assert_active(&self) -> Result<()> {
        assert_eq!(self.systemd.property("shop.service", "ActiveState")?, "active");
        Ok(())
    }
}

/// A `restart` entry for a unit.
pub fn unit(unit: &str, options: &str) -> String {
    format!("{{systemd_unit: {unit}{options}}}")
}
