//! Data directories that the servers of a run begin as copies of: initdb takes most of a second, a copy a tenth of it.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Mutex;

use anyhow::{Context, Result, ensure};

use crate::folder::{make, run_folder};
use crate::install::{install, run};
use crate::netns::NETWORK;
use crate::node::{Node, PATIENCE, SETTINGS_FILE};
use crate::state::{LOAD, failover_log, set_up_keeper_database};
use crate::wait;

/// What every test server has in common. Small, because a hundred of them run at a time; no autovacuum, as its launcher
/// wakes up for nothing; dynamic shared memory in files of the data directory, which go with it after a SIGKILL; WAL kept, as a standby may begin as a copy that is older than the primary's last checkpoint.
const SETTINGS: &str = "
shared_buffers = 16MB
max_connections = 30
max_wal_senders = 8
wal_keep_size = 256MB
max_wal_size = 1GB
autovacuum = off
dynamic_shared_memory_type = mmap
log_line_prefix = '%m [%p] %b '
log_timezone = 'UTC'
timezone = 'UTC'
track_commit_timestamp = on
";

/// A cluster as initdb makes it. Made on first use.
pub fn template() -> Result<PathBuf> {
    static MAKING: Mutex<()> = Mutex::new(());
    once(&MAKING, "template", |folder| {
        make(folder)?;
        initialize(&folder.join("data"))
    })
}

/// A cluster as initdb makes it that has nothing in common with [`template`]. Made on first use.
pub fn another_template() -> Result<PathBuf> {
    static MAKING: Mutex<()> = Mutex::new(());
    once(&MAKING, "another-template", |folder| {
        make(folder)?;
        initialize(&folder.join("data"))
    })
}

/// A cluster with pg_state in it, whose primary has been recorded as db01. Made on first use.
pub fn template_with_keeper() -> Result<PathBuf> {
    static MAKING: Mutex<()> = Mutex::new(());
    once(&MAKING, "template-with-keeper", |folder| {
        let name = folder.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let node = Node::create(run_folder()?, name, None)?;
        node.copy_from(&template()?)?;
        node.configure(&["fsync = off", LOAD, "pg_keeper.node_name = 'db01'"].map(str::to_owned))?;
        node.start()?;
        set_up_keeper_database(&node)?;
        let recorded = || Ok(!failover_log(&node)?.is_empty());
        wait::until("the template to be recorded", PATIENCE, || node.log_tail(30), recorded)?;
        node.stop_fast()
    })
}

/// Makes a template unless it is there already; returns its data directory.
fn once(making: &Mutex<()>, name: &str, make: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    let _alone = making.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let folder = run_folder()?.join(name);
    let done = folder.join("done");
    if !done.exists() {
        make(&folder).with_context(|| format!("make the {name}"))?;
        fs::write(done, "")?;
    }
    Ok(folder.join("data"))
}

fn initialize(data: &Path) -> Result<()> {
    let mut initdb = install()?.tool("initdb");
    initdb.args(["--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync"]);
    // Segments of 1 MB instead of 16 halve what has to be copied.
    initdb.args(["--wal-segsize=1", "--pgdata"]).arg(data);
    run(&mut initdb)?;

    let mut settings = OpenOptions::new().append(true).open(data.join("postgresql.conf"))?;
    writeln!(settings, "{SETTINGS}\ninclude = '{SETTINGS_FILE}'")?;
    fs::write(data.join(SETTINGS_FILE), "")?;
    let networks = ["127.0.0.1/32", NETWORK];
    let hosts: String =
        networks.map(|net| format!("host all all {net} trust\nhost replication all {net} trust\n")).concat();
    fs::write(data.join("pg_hba.conf"), format!("local all all trust\nlocal replication all trust\n{hosts}"))?;

    // The role for keepalives and streaming may replicate and nothing else.
    let mut single = install()?.tool("postgres");
    single.args(["--single", "-F", "-D"]).arg(data).arg("postgres");
    single.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut single = single.spawn().context("start postgres --single")?;
    single.stdin.take().context("its standard input")?.write_all(b"create role keeper login replication;\n")?;
    let output = single.wait_with_output()?;
    ensure!(output.status.success(), "postgres --single failed: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}
