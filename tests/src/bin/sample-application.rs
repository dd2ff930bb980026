//! An application as they are: it reads its configuration when it starts and never again.
//!
//! - `sample-application run CONFIGURATION LEDGER` writes a numbered row every 20 ms to `db_master[0]` and notes every
//!   acknowledgement in the ledger. When the database fails it tries the same address again, for ever.
//! - `sample-application run CONFIGURATION LEDGER HOST` does so in a table that several hosts share, where each row names its host.
//! - `sample-application supervise PID_FILE CONFIGURATION LEDGER` keeps one such process running, and replaces it when
//!   it gets SIGHUP: the place that systemd has elsewhere.
//! - `sample-application restart PID_FILE` asks the supervisor for that and returns when the new process runs: the place
//!   of `systemctl restart`.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use keeper_tests::ledger::{self, Ledger};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::Deserialize;
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tokio_postgres::{Client, NoTls, Statement};

/// How often a row is written.
const PACE: Duration = Duration::from_millis(20);

#[derive(Deserialize)]
struct Configuration {
    db_master: Vec<Database>,
    /// Read as applications do, although this one only writes.
    #[serde(rename = "db_slave")]
    _db_slave: Vec<Database>,
}

#[derive(Deserialize)]
struct Database {
    address: String,
    user: String,
    password: Option<String>,
    database: String,
}

/// Where rows go: each host numbers its own.
#[derive(Debug, Clone, Copy)]
enum Table<'a> {
    /// A table for this application alone.
    Own,
    /// One that names the host.
    Shared { host: &'a str },
}

fn main() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let ended = runtime.block_on(act());
    // A name that is just being looked up does not hold up the end.
    runtime.shutdown_background();
    ended
}

async fn act() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["run", configuration, ledger] => write_rows(Path::new(configuration), Path::new(ledger), Table::Own).await,
        ["run", configuration, ledger, host] => {
            write_rows(Path::new(configuration), Path::new(ledger), Table::Shared { host }).await
        }
        ["supervise", pid_file, configuration, ledger] => supervise(Path::new(pid_file), configuration, ledger).await,
        ["restart", pid_file] => restart(Path::new(pid_file)),
        _ => {
            bail!("usage: run CONFIGURATION LEDGER [HOST] | supervise PID_FILE CONFIGURATION LEDGER | restart PID_FILE")
        }
    }
}

async fn write_rows(configuration: &Path, ledger_path: &Path, table: Table<'_>) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let text = fs::read_to_string(configuration).with_context(|| format!("read {}", configuration.display()))?;
    let configuration: Configuration = serde_yaml::from_str(&text).context("parse the configuration")?;
    let master = configuration.db_master.first().context("db_master is empty")?;
    // Numbers are given in order and retried until acknowledged, so the last entry tells where to go on.
    let mut number = ledger::read(ledger_path)?.last().map_or(1, |entry| entry.number + 1);
    let mut ledger = Ledger::open(ledger_path)?;

    let writing = async {
        let mut pace = interval(PACE);
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut connection = None;
        loop {
            pace.tick().await;
            match write_row(&mut connection, master, table, number).await {
                Ok(()) => {
                    ledger.enter(number, &master.address)?;
                    number += 1;
                }
                Err(error) => {
                    eprintln!("row {number}: {error:#}");
                    connection = None;
                }
            }
        }
    };
    tokio::select! {
        result = writing => result,
        _ = terminate.recv() => Ok(()),
    }
}

async fn write_row(
    connection: &mut Option<(Client, Statement)>,
    master: &Database,
    table: Table<'_>,
    number: i64,
) -> Result<()> {
    let (client, insert) = match connection {
        Some(open) => open,
        None => connection.insert(connect(master, table).await?),
    };
    // The row may be there already, when its first acknowledgement never arrived.
    match table {
        Table::Own => client.execute(&*insert, &[&number]).await?,
        Table::Shared { host } => client.execute(&*insert, &[&host, &number]).await?,
    };
    Ok(())
}

async fn connect(master: &Database, table: Table<'_>) -> Result<(Client, Statement)> {
    let (host, port) = master.address.rsplit_once(':').context("address must be host:port")?;
    let mut config = tokio_postgres::Config::new();
    config.host(host).port(port.parse().context("port")?).user(&master.user).dbname(&master.database);
    config.application_name("sample application");
    if let Some(password) = &master.password {
        config.password(password);
    }
    let (client, connection) = timeout(Duration::from_secs(2), config.connect(NoTls)).await.context("connect")??;
    tokio::spawn(connection);
    let insert = match table {
        Table::Own => "insert into entries (number) values ($1) on conflict do nothing",
        Table::Shared { .. } => "insert into rows (host, number) values ($1, $2) on conflict do nothing",
    };
    let insert = client.prepare(insert).await?;
    Ok((client, insert))
}

async fn supervise(pid_file: &Path, configuration: &str, ledger: &str) -> Result<()> {
    let mut hang_up = signal(SignalKind::hangup())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let start = || -> Result<Child> {
        let child = Command::new(std::env::current_exe()?).args(["run", configuration, ledger]).spawn()?;
        let pid = child.id().context("the application ended at once")?;
        write_whole(&child_file(pid_file), &pid.to_string())?;
        Ok(child)
    };
    let mut child = start()?;
    write_whole(pid_file, &std::process::id().to_string())?;
    loop {
        let ends = tokio::select! {
            _ = hang_up.recv() => false,
            _ = terminate.recv() => true,
            // It ended by itself: do not spin when it cannot even start.
            _ = child.wait() => { sleep(Duration::from_millis(200)).await; false }
        };
        if let Some(pid) = child.id().and_then(|pid| i32::try_from(pid).ok()) {
            kill(Pid::from_raw(pid), Signal::SIGTERM)?;
            child.wait().await?;
        }
        if ends {
            return Ok(());
        }
        child = start()?;
    }
}

fn restart(pid_file: &Path) -> Result<()> {
    let child = child_file(pid_file);
    let before = fs::read_to_string(&child)?;
    let supervisor = fs::read_to_string(pid_file).with_context(|| format!("read {}", pid_file.display()))?;
    kill(Pid::from_raw(supervisor.trim().parse()?), Signal::SIGHUP).context("signal the supervisor")?;
    let begun = Instant::now();
    while fs::read_to_string(&child)? == before {
        ensure!(begun.elapsed() < Duration::from_secs(10), "the application was not restarted");
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

fn child_file(pid_file: &Path) -> PathBuf {
    pid_file.with_extension("child")
}

/// Readers see the old text or the new one, never an empty file.
fn write_whole(path: &Path, text: &str) -> Result<()> {
    let temporary = path.with_extension("new");
    fs::write(&temporary, text)?;
    fs::rename(&temporary, path).with_context(|| format!("write {}", path.display()))
}
