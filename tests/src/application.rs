//! The sample application on its host: its configuration file, its supervisor, its ledger.

use std::collections::HashSet;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use anyhow::{Context, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::folder::{make, shared_program};
use crate::install::install;
use crate::ledger::{self, Entry};
use crate::node::{Node, PATIENCE};
use crate::pair::Pair;
use crate::wait;

/// The database and the role of the application.
const PREPARE: [(&str, &str); 3] = [
    ("postgres", "create role shop login"),
    ("postgres", "create database shop owner shop"),
    (
        "shop",
        "create table entries (number bigint primary key, written timestamptz not null default clock_timestamp()); \
              alter table entries owner to shop",
    ),
];

/// A running application.
#[derive(Debug)]
pub struct Application {
    folder: PathBuf,
    supervisor: Child,
}

impl Application {
    /// Makes its database, writes its configuration for the pair as it is now, starts it, and waits for its first row.
    pub fn start(pair: &Pair) -> Result<Self> {
        for (database, sql) in PREPARE {
            pair.primary.sql(database, sql)?;
        }
        let folder = pair.folder().join("application");
        make(&folder)?;
        fs::write(folder.join("env.yaml"), configuration(&pair.primary, &pair.standby))?;
        install()?.give_to_server_account(&folder.join("env.yaml"))?;
        let log = fs::File::create(folder.join("log"))?;
        let mut command = install()?.as_server_account(&shared_program("sample-application")?);
        command.args(["supervise", "application.pid", "env.yaml", "ledger"]).current_dir(&folder);
        command.process_group(0).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let supervisor = command.spawn().context("start the sample application")?;
        let application = Self { folder, supervisor };
        application.wait_for_rows(1)?;
        Ok(application)
    }

    /// The file that the watcher rewrites.
    pub fn configuration(&self) -> PathBuf {
        self.folder.join("env.yaml")
    }

    /// The command that restarts it, as argv.
    pub fn restart_command(&self) -> Result<[String; 3]> {
        let program = shared_program("sample-application")?;
        let pid_file = self.folder.join("application.pid");
        Ok([program.display().to_string(), "restart".to_owned(), pid_file.display().to_string()])
    }

    /// Every acknowledgement so far.
    pub fn ledger(&self) -> Result<Vec<Entry>> {
        ledger::read(&self.folder.join("ledger"))
    }

    /// Waits until so many rows more than now have been acknowledged.
    pub fn wait_for_rows(&self, more: usize) -> Result<()> {
        let before = self.ledger()?.len();
        let log = || tail(&self.folder.join("log"));
        wait::until("the application to write", PATIENCE, log, || Ok(self.ledger()?.len() >= before + more))
    }

    /// The numbers that were acknowledged and are not in the server's table.
    pub fn missing_from(&self, node: &Node) -> Result<Vec<i64>> {
        let rows = node.sql("shop", "select number from entries")?;
        let there: HashSet<i64> = rows.iter().filter_map(|row| row.first()?.parse().ok()).collect();
        Ok(self.ledger()?.into_iter().map(|entry| entry.number).filter(|number| !there.contains(number)).collect())
    }
}

impl Drop for Application {
    fn drop(&mut self) {
        if let Ok(pid) = i32::try_from(self.supervisor.id()) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        }
        let _ = self.supervisor.wait();
    }
}

/// A configuration file as people write them: comments, other keys, quotes of both kinds, and not only ASCII.
fn configuration(primary: &Node, standby: &Node) -> String {
    format!(
        r#"# 注文システムの環境設定 — environment of the order system
application:
  name: "注文受付"          # 表示名
  workers: 4
  features: {{ 返品: true, gift_wrap: false }}

# 書き込み先: the application reads this once, when it starts
db_master:
  - address: "{}"   # 主系
    user: shop
    database: shop
    pool: {{ min: 2, max: 10 }}

db_slave:
  - address: '{}'   # 待機系
    user: shop
    database: shop

mail: {{ from: "店舗 <shop@example.com>", retries: 3 }}
"#,
        primary.address(),
        standby.address()
    )
}

fn tail(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<&str> = text.lines().rev().take(20).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join("\n")
}
