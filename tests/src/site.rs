//! One server that is primary, and an application host whose watcher keeps a file right: all that tests of writing need.

use std::fs;
use std::path::Path;

use anyhow::Result;

use crate::folder::ClusterFolder;
use crate::host::Host;
use crate::install::install;
use crate::node::{Node, PATIENCE};
use crate::process;
use crate::template::template;
use crate::wait;
use crate::watcher::{Ended, Watcher, plain_nodes_section, run_once};

/// Its addresses are longer than any that they are replaced by, so that a write in place has to cut the file.
pub const FILE: &str = "# 設定\r\ndb_master:\r\n  - address: \"old-primary.database.example.com:54321\"   # 主\r\nother: [1, 'two']\r\nlast: of all";

/// How a target is written in place, in the configuration.
pub const IN_PLACE: &str = "    write: in_place\n";

/// The site.
pub struct Site {
    host: Host,
    nodes: String,
    /// What the file is made to name.
    pub address: String,
    _server: Node,
    _down: Node,
    // Last, so that it goes after the servers that live in it.
    _cluster: ClusterFolder,
}

impl Site {
    /// Starts the server.
    pub fn start(name: &str) -> Result<Self> {
        let cluster = ClusterFolder::create(name)?;
        let server = Node::create(cluster.path(), "db01", None)?;
        server.copy_from(&template()?)?;
        server.configure(&["fsync = off".to_owned()])?;
        server.start()?;
        let down = Node::create(cluster.path(), "db02", None)?;
        let nodes = plain_nodes_section([&server, &down]);
        let host = Host::with_file(cluster.path(), "host", FILE)?;
        let address = server.address();
        Ok(Self { host, nodes, address, _server: server, _down: down, _cluster: cluster })
    }

    /// The folder that the watcher lives in.
    pub fn folder(&self) -> &Path {
        self.host.folder()
    }

    /// The application's folder.
    pub fn application(&self) -> &Path {
        self.file().parent().unwrap_or(self.folder())
    }

    /// The application's file.
    pub fn file(&self) -> &Path {
        self.host.file()
    }

    /// As its owner does it, whatever was there before.
    pub fn put(&self, text: &str) -> Result<()> {
        let _ = fs::remove_file(self.file());
        self.put_into(text)
    }

    /// As its owner does it, into the file itself.
    pub fn put_into(&self, text: &str) -> Result<()> {
        fs::write(self.file(), text)?;
        install()?.give_to_server_account(self.file())
    }

    /// What the file holds now.
    pub fn content(&self) -> String {
        self.host.content()
    }

    /// What the file is to become.
    pub fn rewritten(&self) -> String {
        FILE.replace("old-primary.database.example.com:54321", &self.address)
    }

    /// A target whose restart is counted.
    pub fn configuration(&self, more: &str) -> String {
        let restarts = self.folder().join("restarts");
        self.nodes.clone()
            + &format!(
                "polling: {{interval: 200ms}}\ntargets:\n  - name: shop\n    file: {}\n    set: {{\"db_master[0].address\": \"{{address}}\"}}\n    \
                 restart: {{command: [/bin/sh, -c, \"echo restarted >> {}\"]}}\n{more}",
                self.file().display(),
                restarts.display()
            )
    }

    /// How often the application was restarted.
    pub fn restarts(&self) -> usize {
        self.host.restarts()
    }

    /// Runs `once`, with more lines of the target.
    pub fn once(&self, more: &str) -> Result<Ended> {
        run_once(self.folder(), &self.configuration(more), &["once"])
    }

    /// Starts the daemon, with more lines of the target, and with what is to happen at a fault point.
    pub fn run(&self, more: &str, fault: &str) -> Result<Watcher> {
        Watcher::start_with_fault(self.folder(), &self.configuration(more), fault)
    }

    /// Everything as before the first watcher.
    pub fn reset(&self) -> Result<()> {
        self.put(FILE)?;
        let _ = fs::remove_file(self.folder().join("restarts"));
        let _ = fs::remove_dir_all(self.folder().join("state"));
        Ok(())
    }

    /// Waits until the watcher has made the file hold this.
    pub fn wait_for(&self, watcher: &Watcher, content: &str) -> Result<()> {
        let evidence = || format!("the file: {:?}\n{}", self.content(), watcher.log());
        wait::until("the file to be rewritten", PATIENCE, evidence, || Ok(self.content() == content))
    }
}

/// Names of a folder's files.
pub fn names(folder: &Path) -> Result<Vec<String>> {
    let mut names: Vec<String> = fs::read_dir(folder)?
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect::<Result<_>>()?;
    names.sort();
    Ok(names)
}

/// Waits until the watcher stands still at its fault point.
pub fn wait_stopped(watcher: &Watcher) -> Result<()> {
    wait::until(
        "the watcher to stop at its fault point",
        PATIENCE,
        || watcher.log(),
        || Ok(watcher.count("fault point") > 0 && process::state(watcher.pid()) == Some('T')),
    )
}
