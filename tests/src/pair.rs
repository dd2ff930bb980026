//! A primary and its streaming standby, with pg_keeper in both.

use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::folder::ClusterFolder;
use crate::gate::Gate;
use crate::install::install;
use crate::netns::Link;
use crate::node::{Node, PATIENCE};
use crate::sql::Row;
use crate::state::{LOAD, failover_log, has_replayed, is_in_recovery, is_streaming, set_up_keeper_database, status};
use crate::template::{template, template_with_keeper};
use crate::wait;

/// Starting a pair keeps the processors busy, and a server that gets none looks dead to its partner: two at a time.
static STARTING: Gate = Gate::new(2);

/// What a pair is to be like.
#[derive(Debug, Clone)]
pub struct Builder {
    name: String,
    keepalive_time: Duration,
    keepalive_count: u32,
    with_keeper: bool,
    with_database: bool,
    durable: bool,
    by_base_backup: bool,
    in_namespaces: bool,
    on_both: Vec<String>,
    on_primary: Vec<String>,
    on_standby: Vec<String>,
}

/// Two servers. `primary` and `standby` are what they were at the beginning.
pub struct Pair {
    /// db01.
    pub primary: Node,
    /// db02.
    pub standby: Node,
    link: Option<Link>,
    // Last, so that it goes after the servers that live in it.
    folder: ClusterFolder,
}

impl Pair {
    /// Begins the description of a pair: keepalives every 250 ms, 2 of them, in one network.
    pub fn describe(name: &str) -> Builder {
        Builder {
            name: name.to_owned(),
            keepalive_time: Duration::from_millis(250),
            keepalive_count: 2,
            with_keeper: true,
            with_database: true,
            durable: false,
            by_base_backup: false,
            in_namespaces: false,
            on_both: Vec::new(),
            on_primary: Vec::new(),
            on_standby: Vec::new(),
        }
    }

    /// The cable between the two, for a pair in network namespaces.
    pub fn link(&self) -> Option<&Link> {
        self.link.as_ref()
    }

    /// The folder that everything of this pair lives in.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Waits until a condition holds; an error shows both servers' status and logs.
    pub fn wait_until(&self, what: &str, condition: impl FnMut() -> Result<bool>) -> Result<()> {
        wait::until(what, PATIENCE, || self.evidence(), condition)
    }

    /// Waits until the standby would promote itself.
    pub fn wait_armed(&self) -> Result<()> {
        self.wait_until("the standby to be armed", || Ok(status(&self.standby)?.text("armed")? == "t"))
    }

    /// Waits until the node has left recovery.
    pub fn wait_promoted(&self, node: &Node) -> Result<()> {
        self.wait_until(&format!("{} to be primary", node.name()), || Ok(!is_in_recovery(node)?))
    }

    /// Waits for a row of failover_log about the node and the timeline.
    pub fn wait_recorded(&self, node: &Node, timeline: i64) -> Result<Row> {
        wait::value(
            &format!("the row of timeline {timeline} in failover_log"),
            PATIENCE,
            || self.evidence(),
            || {
                let rows = failover_log(node)?;
                Ok(rows.into_iter().find(|row| row.integer("timeline").ok() == Some(timeline)))
            },
        )
    }

    /// Watches the standby for a time and fails at once if it leaves recovery. That something does not happen can only be
    /// shown by looking for longer than it would have taken.
    pub fn stays_standby(&self, time: Duration) -> Result<()> {
        let begun = Instant::now();
        while begun.elapsed() < time {
            self.check(is_in_recovery(&self.standby)?, "the standby promoted itself")?;
            sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Waits until a column of the node's status has the value.
    pub fn wait_status(&self, node: &Node, column: &str, value: &str) -> Result<()> {
        self.wait_until(&format!("{} to have {column} = {value}", node.name()), || {
            Ok(status(node)?.get(column)? == Some(value))
        })
    }

    /// What both servers say about themselves, for the message of a failed test.
    pub fn evidence(&self) -> String {
        let of = |node: &Node| {
            let status = status(node).map_or_else(|error| format!("{error:#}"), |row| row.to_string());
            format!("--- {} status: {status}\n--- {} log:\n{}\n", node.name(), node.name(), node.log_tail(40))
        };
        [of(&self.primary), of(&self.standby)].concat()
    }

    /// Adds context with both servers' evidence to an assertion.
    pub fn check(&self, holds: bool, what: &str) -> Result<()> {
        anyhow::ensure!(holds, "{what}\n{}", self.evidence());
        Ok(())
    }
}

impl Builder {
    /// The interval between keepalives, on both nodes.
    pub fn keepalive_time(mut self, time: Duration) -> Self {
        self.keepalive_time = time;
        self
    }

    /// How many in a row must fail, on both nodes.
    pub fn keepalive_count(mut self, count: u32) -> Self {
        self.keepalive_count = count;
        self
    }

    /// Adds a line of configuration to both nodes. In any such line `{own_port}` and `{partner_port}` are filled in.
    pub fn set(mut self, line: impl Into<String>) -> Self {
        self.on_both.push(line.into());
        self
    }

    /// Adds a line of configuration to the primary.
    pub fn set_on_primary(mut self, line: impl Into<String>) -> Self {
        self.on_primary.push(line.into());
        self
    }

    /// Adds a line of configuration to the standby.
    pub fn set_on_standby(mut self, line: impl Into<String>) -> Self {
        self.on_standby.push(line.into());
        self
    }

    /// PostgreSQL alone, without the extension.
    pub fn without_keeper(mut self) -> Self {
        self.with_keeper = false;
        self
    }

    /// Without pg_state: nobody ran the administrator's script yet.
    pub fn without_database(mut self) -> Self {
        self.with_database = false;
        self
    }

    /// With fsync, a standby made by pg_basebackup, and what pg_rewind needs: as people run it, and slower to start.
    pub fn as_in_production(mut self) -> Self {
        self.durable = true;
        self.by_base_backup = true;
        self.set("wal_log_hints = on")
    }

    /// Each server in a network namespace of its own, with a cable that can be cut. Needs root.
    pub fn in_namespaces(mut self) -> Self {
        self.in_namespaces = true;
        self
    }

    /// Starts both and waits until the standby is armed and the primary has its row.
    pub fn start(self) -> Result<Pair> {
        let with_keeper = self.with_keeper;
        let pair = self.start_unarmed()?;
        if with_keeper {
            pair.wait_recorded(&pair.primary, 1)?;
            pair.wait_armed()?;
            // The standby may have heard the primary before that one has asked it, and lets clients in.
            pair.wait_status(&pair.primary, "fence", "none")?;
        }
        Ok(pair)
    }

    /// Starts both and waits until the standby streams, whatever their keepers think of that.
    pub fn start_unarmed(self) -> Result<Pair> {
        let _place = STARTING.enter();
        self.start_servers()
    }

    fn start_servers(self) -> Result<Pair> {
        if self.with_keeper {
            install()?.require_keeper()?;
        }
        let folder = ClusterFolder::create(&self.name)?;
        let link = self.in_namespaces.then(Link::create).transpose()?;
        let end = |side: usize| link.as_ref().map(|link| link.ends[side].clone());
        let primary = Node::create(folder.path(), "db01", end(0))?;
        let standby = Node::create(folder.path(), "db02", end(1))?;

        // A pair as in production begins with nothing, so that all of an administrator's work is done on it.
        let prepared = self.with_keeper && self.with_database && !self.by_base_backup;
        let template = if prepared { template_with_keeper()? } else { template()? };
        primary.copy_from(&template)?;
        primary.configure(&self.settings_of(&primary, &standby, &self.on_primary))?;
        primary.launch()?;
        if self.by_base_backup {
            primary.wait_ready()?;
            standby.base_backup_of(&primary)?;
            standby.configure(&self.settings_of(&standby, &primary, &self.on_standby))?;
        } else {
            standby.copy_from(&template)?;
            standby.configure(&self.settings_of(&standby, &primary, &self.on_standby))?;
            standby.become_standby_of(&primary)?;
        }
        standby.launch()?;
        primary.wait_ready()?;
        if self.with_keeper && self.with_database && !prepared {
            set_up_keeper_database(&primary)?;
        }
        let pair = Pair { primary, standby, link, folder };
        pair.standby.wait_ready()?;
        pair.wait_until("the standby to stream", || is_streaming(&pair.primary))?;
        pair.wait_until("the standby to have replayed all", || has_replayed(&pair.primary, &pair.standby))?;
        Ok(pair)
    }

    fn settings_of(&self, node: &Node, partner: &Node, own: &[String]) -> Vec<String> {
        let mut lines = Vec::new();
        if !self.durable {
            lines.push("fsync = off".to_owned());
        }
        if self.with_keeper {
            lines.push(LOAD.to_owned());
            lines.push(format!("pg_keeper.node_name = '{}'", node.name()));
            lines.push(format!("pg_keeper.partner_conninfo = '{}'", partner.conninfo()));
            lines.push(format!("pg_keeper.keepalive_time = '{}ms'", self.keepalive_time.as_millis()));
            lines.push(format!("pg_keeper.keepalive_count = {}", self.keepalive_count));
        }
        let fill = |line: &String| {
            line.replace("{own_port}", &node.port().to_string()).replace("{partner_port}", &partner.port().to_string())
        };
        lines.extend(self.on_both.iter().chain(own).map(fill));
        lines
    }
}
