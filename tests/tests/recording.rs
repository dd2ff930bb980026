//! Every promotion gets its row in failover_log, whatever is in the way.

use std::time::Duration;

use anyhow::Result;
use keeper_tests::pair::Pair;
use keeper_tests::state::{failover_log, set_up_keeper_database};

/// What a reader does that knows only the original's table: the newest row, columns one and two.
const ORIGINAL_READER: &str = "select * from failover_log order by unixtime desc limit 1";

#[test]
fn the_first_primary_has_its_row() -> Result<()> {
    let pair = Pair::describe("first").without_database().start_unarmed()?;
    set_up_keeper_database(&pair.primary)?;
    let row = pair.wait_recorded(&pair.primary, 1)?;
    assert_eq!((row.text("host")?, row.text("reason")?), ("db01", "initial"));
    // The standby shows it too.
    pair.wait_until("the row on the standby", || Ok(failover_log(&pair.standby)?.len() == 1))
}

#[test]
fn the_original_reader_finds_the_new_primary() -> Result<()> {
    let pair = Pair::describe("reader").start()?;
    let host = |node| -> Result<Option<String>> {
        let rows = keeper_tests::node::Node::sql(node, "pg_state", ORIGINAL_READER)?;
        Ok(rows.first().and_then(|row| row.nth(1)).map(str::to_owned))
    };
    assert_eq!(host(&pair.primary)?.as_deref(), Some("db01"));
    pair.primary.kill_all()?;
    pair.wait_recorded(&pair.standby, 2)?;
    assert_eq!(host(&pair.standby)?.as_deref(), Some("db02"));
    let rows = pair.standby.sql("pg_state", ORIGINAL_READER)?;
    let unixtime: i64 = rows[0].nth(0).expect("column one").parse()?;
    assert!((unixtime - keeper_tests::clock::now() / 1_000_000).abs() < 60, "unixtime is {unixtime}");
    Ok(())
}

#[test]
fn a_copied_configuration_names_a_dead_standby() -> Result<()> {
    let pair = Pair::describe("sync").set_on_standby("synchronous_standby_names = 'db01'").start()?;
    pair.primary.kill_all()?;
    pair.wait_promoted(&pair.standby)?;
    pair.wait_recorded(&pair.standby, 2)?;
    // Nor does a client's commit wait for the dead one.
    let session = pair.standby.connect_within(Duration::from_secs(5), "postgres", "postgres")?;
    session.rows("create table after_failover (number int)")?;
    Ok(())
}

#[test]
fn transactions_are_read_only_by_default() -> Result<()> {
    let pair = Pair::describe("readonly").set_on_standby("default_transaction_read_only = on").start()?;
    pair.primary.kill_all()?;
    pair.wait_promoted(&pair.standby)?;
    pair.wait_recorded(&pair.standby, 2).map(drop)
}

#[test]
fn pg_state_comes_later() -> Result<()> {
    let pair = Pair::describe("later").without_database().start_unarmed()?;
    // There is no view to ask, so the keeper's own word in the log tells when it would promote.
    pair.wait_until("the standby to be armed", || Ok(pair.standby.log().contains("pg_keeper: armed")))?;
    pair.primary.kill_all()?;
    pair.wait_promoted(&pair.standby)?;
    set_up_keeper_database(&pair.standby)?;
    let row = pair.wait_recorded(&pair.standby, 2)?;
    assert_eq!((row.text("host")?, row.text("reason")?), ("db02", "partner lost"));
    Ok(())
}

#[test]
fn the_script_runs_twice() -> Result<()> {
    let pair = Pair::describe("twice").start()?;
    set_up_keeper_database(&pair.primary)?;
    assert_eq!(failover_log(&pair.primary)?.len(), 1);
    Ok(())
}

#[test]
fn the_originals_table_is_taken_over() -> Result<()> {
    let pair = Pair::describe("takeover").without_database().start_unarmed()?;
    pair.primary.sql("postgres", "create database pg_state")?;
    pair.primary.sql("pg_state", "create table failover_log (unixtime bigint, host text)")?;
    pair.primary.sql("pg_state", "insert into failover_log values (1500000000, 'old01'), (1600000000, 'old02')")?;
    set_up_keeper_database(&pair.primary)?;
    pair.wait_recorded(&pair.primary, 1)?;
    let hosts =
        pair.primary.sql_value("pg_state", "select string_agg(host, ' ' order by unixtime) from failover_log")?;
    assert_eq!(hosts, "old01 old02 db01");
    Ok(())
}

#[test]
fn a_promotion_by_hand() -> Result<()> {
    let pair = Pair::describe("manual").start()?;
    pair.primary.set("pg_keeper.enabled = off")?;
    pair.primary.reload()?;
    pair.wait_status(&pair.standby, "armed", "f")?;
    pair.primary.stop_fast()?;
    pair.standby.promote()?;
    let row = pair.wait_recorded(&pair.standby, 2)?;
    pair.check(
        ["manual", "switchover"].contains(&row.text("reason")?),
        &format!("reason of a promotion by hand: {row}"),
    )
}

#[test]
fn a_restart_adds_no_row() -> Result<()> {
    let pair = Pair::describe("norow").keepalive_time(Duration::from_secs(10)).start_unarmed()?;
    pair.wait_recorded(&pair.primary, 1)?;
    for _ in 0..2 {
        pair.primary.stop_fast()?;
        pair.primary.start()?;
    }
    pair.primary.kill_postmaster()?;
    pair.primary.start()?;
    // The recorder leaves when it has nothing to do, or nothing any more.
    pair.wait_until("the recorder to be done", || Ok(pair.primary.process("pg_keeper recorder").is_none()))?;
    pair.check(failover_log(&pair.primary)?.len() == 1, "a restart added a row")
}

/// An older row from the future is what a clock that is behind looks like to the table.
#[test]
fn the_new_primarys_clock_is_behind() -> Result<()> {
    let pair = Pair::describe("clock").start()?;
    pair.primary.sql("pg_state", "update failover_log set unixtime = unixtime + 3600")?;
    pair.wait_until("the change on the standby", || keeper_tests::state::has_replayed(&pair.primary, &pair.standby))?;
    pair.primary.kill_all()?;
    pair.wait_recorded(&pair.standby, 2)?;
    let newest = pair.standby.sql("pg_state", ORIGINAL_READER)?;
    assert_eq!(newest[0].nth(1), Some("db02"), "{}", newest[0]);
    Ok(())
}

#[test]
fn only_the_extension_writes() -> Result<()> {
    let pair = Pair::describe("grants").start()?;
    pair.primary.sql("postgres", "create role visitor login")?;
    let visitor = pair.primary.connect("pg_state", "visitor")?;
    assert!(visitor.rows("insert into failover_log (unixtime, host) values (9999999999, 'evil')").is_err());
    let watcher = pair.primary.connect("pg_state", "keeper_watch")?;
    assert_eq!(watcher.rows("select * from failover_log")?.len(), 1);
    watcher.rows("select * from pg_keeper.status")?;
    let written = watcher.rows("insert into failover_log (unixtime, host) values (9999999999, 'evil')");
    assert!(written.is_err(), "keeper_watch wrote to failover_log");
    Ok(())
}

#[test]
fn after_command_is_recorded() -> Result<()> {
    let pair = Pair::describe("after").set("pg_keeper.after_command = 'echo done > after_command_ran'").start()?;
    pair.primary.kill_all()?;
    pair.wait_promoted(&pair.standby)?;
    pair.wait_until("after_command to run", || Ok(pair.standby.data().join("after_command_ran").exists()))?;
    pair.wait_until("its outcome in the row", || {
        Ok(failover_log(&pair.standby)?.first().is_some_and(|row| matches!(row.get("after_command"), Ok(Some(_)))))
    })
}
