//! The settings that people copied from the original's documentation work as they stand.

use std::time::Duration;

use anyhow::Result;
use keeper_tests::clock::as_micros;
use keeper_tests::pair::{Builder, Pair};
use keeper_tests::state::status;

/// Seconds are plain numbers, conninfos name a database and no user, and after_command sleeps and calls psql.
fn as_published(name: &str) -> Builder {
    let conninfo = |port: &str| format!("'host=127.0.0.1 port={port} dbname=postgres'");
    Pair::describe(name)
        .set(format!("pg_keeper.my_conninfo = {}", conninfo("{own_port}")))
        .set(format!("pg_keeper.partner_conninfo = {}", conninfo("{partner_port}")))
        .set("pg_keeper.keepalive_time = 2")
        .set("pg_keeper.keepalive_count = 3")
        .set(
            "pg_keeper.after_command = 'sleep 1; psql -h 127.0.0.1 -p {own_port} -d postgres \
             -c \"create table written_by_after_command as select 1 as one\"'",
        )
}

#[test]
fn the_published_settings_fail_over() -> Result<()> {
    let pair = as_published("article").start()?;
    pair.primary.kill_all()?;
    pair.wait_promoted(&pair.standby)?;
    let row = pair.wait_recorded(&pair.standby, 2)?;
    let silence = row.integer("detected_us")? - row.integer("last_answer_us")?;
    let (least, most) = (as_micros(Duration::from_secs(4)), as_micros(Duration::from_secs(6)));
    pair.check((least..=most).contains(&silence), &format!("lost after {silence} µs"))?;
    pair.wait_until("after_command to have run", || {
        let sql = "select count(*) from pg_class where relname = 'written_by_after_command'";
        Ok(pair.standby.sql_value("postgres", sql)? == "1")
    })
}

#[test]
fn a_missing_line_in_pg_hba_is_named() -> Result<()> {
    let pair = as_published("hba").start_unarmed()?;
    // As it was for the original: databases may be connected to, replication only by the standby's own user.
    let hba = "local all all trust\nhost all all 127.0.0.1/32 trust\nhost replication keeper 127.0.0.1/32 trust\n";
    for node in [&pair.primary, &pair.standby] {
        node.write("pg_hba.conf", hba)?;
        node.stop_fast()?;
    }
    pair.primary.start()?;
    pair.standby.start()?;
    let names_the_line = |text: &str| text.contains("pg_hba.conf") && text.contains("host replication");
    pair.wait_until("the status to name the line", || Ok(names_the_line(status(&pair.standby)?.text("reason")?)))?;
    pair.wait_until("the log to name the line", || {
        Ok(pair.standby.log().lines().any(|line| line.contains("pg_hba.conf")) && names_the_line(&pair.standby.log()))
    })?;
    pair.wait_until("check() to name the line", || {
        let rows = pair.standby.sql("pg_state", "select * from pg_keeper.check() where status = 'error'")?;
        Ok(rows.iter().any(|row| names_the_line(&row.to_string())))
    })
}
