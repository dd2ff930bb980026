//! What pg_keeper and PostgreSQL say of themselves on a server, in SQL.

use std::fs::File;
use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::install::run;
use crate::node::Node;
use crate::sql::Row;

/// The database that holds pg_keeper's table and views.
pub const KEEPER_DATABASE: &str = "pg_state";

/// The line of configuration that loads the extension.
pub const LOAD: &str = "shared_preload_libraries = 'pg_keeper'";

/// Runs the administrator's script on a primary.
pub fn set_up_keeper_database(primary: &Node) -> Result<()> {
    let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../sql/setup.sql");
    // Read by us, as the servers' account may not be allowed into our folders.
    let script = File::open(&script).with_context(|| format!("open {}", script.display()))?;
    run(primary.psql("postgres")?.stdin(script)).context("set up pg_state").map(drop)
}

/// The one row of pg_keeper.status.
pub fn status(node: &Node) -> Result<Row> {
    let rows = node.sql(KEEPER_DATABASE, "select * from pg_keeper.status")?;
    rows.into_iter().next().with_context(|| format!("pg_keeper.status on {} is empty", node.name()))
}

/// All rows of failover_log, the newest first, with the moments also as microseconds (`..._us`) and with the moment at
/// which PostgreSQL committed the row.
pub fn failover_log(node: &Node) -> Result<Vec<Row>> {
    let micros = |column: &str| format!("(extract(epoch from {column}) * 1000000)::bigint as {column}_us");
    let sql = format!(
        "select *, {}, {}, {}, {}, (extract(epoch from pg_xact_commit_timestamp(xmin)) * 1000000)::bigint as \
         committed_us from public.failover_log order by unixtime desc, timeline desc",
        micros("last_answer"),
        micros("detected"),
        micros("promoted"),
        micros("recorded"),
    );
    node.sql(KEEPER_DATABASE, &sql)
}

/// Whether the server is a standby now.
pub fn is_in_recovery(node: &Node) -> Result<bool> {
    Ok(node.sql_value("postgres", "select pg_is_in_recovery()")? == "t")
}

/// Whether a standby streams from this primary.
pub fn is_streaming(primary: &Node) -> Result<bool> {
    let sql = "select count(*) from pg_stat_replication where state = 'streaming' and application_name <> 'pg_keeper'";
    Ok(primary.sql_value("postgres", sql)? != "0")
}

/// Whether the standby has replayed everything that the primary has written by now.
pub fn has_replayed(primary: &Node, standby: &Node) -> Result<bool> {
    let written = primary.sql_value("postgres", "select pg_current_wal_lsn()")?;
    let sql = format!("select coalesce(pg_last_wal_replay_lsn() >= '{written}', false)");
    Ok(standby.sql_value("postgres", &sql)? == "t")
}
