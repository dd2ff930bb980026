//! What must not make a standby promote itself.

use std::process::{Child, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use keeper_tests::fault::cut_keepalives;
use keeper_tests::netns;
use keeper_tests::node::Node;
use keeper_tests::pair::Pair;
use keeper_tests::proxy::{Manner, Proxy};
use keeper_tests::state::{LOAD, is_streaming, status};
use nix::sys::signal::{Signal, kill};

/// Twice the window of the pairs here, 2 keepalives of 250 ms, and time for a promotion after it.
const LONG_ENOUGH: Duration = Duration::from_millis(1500);

#[test]
fn the_primary_restarts_within_the_window() -> Result<()> {
    let pair = Pair::describe("restart").keepalive_time(Duration::from_secs(1)).keepalive_count(4).start()?;
    pair.primary.stop_fast()?;
    pair.primary.start()?;
    pair.stays_standby(Duration::from_secs(5))?;
    pair.wait_status(&pair.standby, "partner_state", "alive")?;

    pair.primary.kill_postmaster()?;
    pair.primary.start()?;
    pair.stays_standby(Duration::from_secs(5))?;
    pair.wait_status(&pair.standby, "partner_state", "alive")
}

#[test]
fn the_own_keeper_was_stopped() -> Result<()> {
    let pair = Pair::describe("stalled").start()?;
    let keeper = pair.standby.keeper()?;
    for _ in 0..3 {
        kill(keeper, Signal::SIGSTOP)?;
        pair.stays_standby(LONG_ENOUGH)?;
        kill(keeper, Signal::SIGCONT)?;
        pair.stays_standby(LONG_ENOUGH)?;
    }
    pair.wait_status(&pair.standby, "partner_state", "alive")?;
    pair.wait_armed()
}

#[test]
fn the_whole_standby_was_stopped() -> Result<()> {
    let pair = Pair::describe("paused").start()?;
    pair.standby.freeze()?;
    std::thread::sleep(LONG_ENOUGH);
    pair.standby.thaw();
    pair.stays_standby(LONG_ENOUGH)?;
    pair.wait_armed()
}

#[test]
fn the_partner_answers_slowly() -> Result<()> {
    let road = Proxy::reserve()?;
    // A keepalive has 1 s to be answered; a round trip takes 100 ms, and a fresh connection needs several.
    let pair = Pair::describe("slow")
        .keepalive_time(Duration::from_secs(2))
        .keepalive_count(1)
        .set_on_standby(format!("pg_keeper.partner_conninfo = 'host=127.0.0.1 port={} user=keeper'", road.port()))
        .start_unarmed()?;
    road.behave(Manner::Slow(Duration::from_millis(50)));
    road.lead_to(&pair.primary)?;
    pair.wait_armed()?;
    pair.stays_standby(Duration::from_secs(7))?;
    pair.wait_status(&pair.standby, "keepalives_missed", "0")
}

#[test]
fn disabled_on_the_standby() -> Result<()> {
    let pair = Pair::describe("off-standby").start()?;
    pair.standby.set("pg_keeper.enabled = off")?;
    pair.standby.reload()?;
    pair.wait_status(&pair.standby, "armed", "f")?;
    pair.primary.kill_all()?;
    pair.wait_status(&pair.standby, "partner_state", "lost")?;
    pair.stays_standby(LONG_ENOUGH)
}

#[test]
fn disabled_on_the_primary() -> Result<()> {
    let pair = Pair::describe("off-primary").start()?;
    pair.primary.set("pg_keeper.enabled = off")?;
    pair.primary.reload()?;
    pair.wait_status(&pair.standby, "armed", "f")?;
    pair.primary.kill_all()?;
    pair.wait_status(&pair.standby, "partner_state", "lost")?;
    pair.stays_standby(LONG_ENOUGH)
}

#[test]
fn too_far_behind() -> Result<()> {
    let pair = Pair::describe("lag").set("pg_keeper.max_lag = '1MB'").start()?;
    // The standby stops to receive, and the primary writes on.
    pair.standby.set("primary_conninfo = 'host=127.0.0.1 port=1'")?;
    pair.standby.reload()?;
    pair.wait_until("streaming to end", || Ok(!is_streaming(&pair.primary)?))?;
    pair.primary.sql("postgres", "create table much as select g, repeat('x', 100) from generate_series(1, 50000) g")?;
    pair.wait_status(&pair.standby, "armed", "f")?;
    let lag = status(&pair.standby)?.integer("lag_bytes")?;
    assert!(lag > 1 << 20, "lag_bytes is {lag}");
    pair.primary.kill_all()?;
    pair.wait_status(&pair.standby, "partner_state", "lost")?;
    pair.stays_standby(LONG_ENOUGH)?;
    let reason = status(&pair.standby)?.text("reason")?.to_owned();
    pair.check(reason.contains("max_lag"), "the reason does not name max_lag")
}

#[test]
fn before_command_fails() -> Result<()> {
    let pair =
        Pair::describe("before-fails").set("pg_keeper.before_command = 'echo no power switch; exit 3'").start()?;
    pair.primary.kill_all()?;
    pair.wait_until("a word about before_command", || {
        Ok(status(&pair.standby)?.text("reason")?.contains("before_command"))
    })?;
    pair.stays_standby(LONG_ENOUGH)
}

#[test]
fn before_command_hangs() -> Result<()> {
    let pair = Pair::describe("before-hangs")
        .set("pg_keeper.before_command = 'sleep 600'")
        .set("pg_keeper.command_timeout = '500ms'")
        .start()?;
    pair.primary.kill_all()?;
    pair.wait_until("a word about before_command", || {
        Ok(status(&pair.standby)?.text("reason")?.contains("before_command"))
    })?;
    pair.stays_standby(LONG_ENOUGH)?;
    pair.wait_until("the hanging command to be ended", || Ok(pair.standby.process("sleep 600").is_none()))
}

#[test]
fn the_name_no_longer_resolves() -> Result<()> {
    if !netns::available()? {
        return Ok(());
    }
    let name = "db01.pg-keeper.test";
    let pair = Pair::describe("name").start_unarmed()?;
    pair.standby.stop_fast()?;
    pair.standby.resolve_by(&format!("127.0.0.1 localhost {name}\n"))?;
    let port = pair.primary.port();
    pair.standby.set(&format!("pg_keeper.partner_conninfo = 'host={name} port={port} user=keeper'"))?;
    pair.standby.start()?;
    pair.wait_armed()?;

    pair.standby.resolve_by("127.0.0.1 localhost\n")?;
    for _ in 0..3 {
        cut_keepalives(&pair.primary)?;
        pair.stays_standby(LONG_ENOUGH)?;
        pair.wait_status(&pair.standby, "partner_state", "alive")?;
    }
    Ok(())
}

#[test]
fn no_connection_slot_is_left() -> Result<()> {
    let pair = Pair::describe("slots").set_on_primary("max_wal_senders = 2").start()?;
    // While its keeper is stopped somebody else takes the place of its connection.
    let keeper = pair.standby.keeper()?;
    kill(keeper, Signal::SIGSTOP)?;
    cut_keepalives(&pair.primary)?;
    let mut intruder = hold_replication_connection(&pair)?;
    kill(keeper, Signal::SIGCONT)?;

    pair.wait_status(&pair.standby, "partner_state", "unhelpful")?;
    pair.stays_standby(LONG_ENOUGH)?;
    intruder.kill()?;
    intruder.wait()?;
    pair.wait_status(&pair.standby, "partner_state", "alive")
}

/// Takes a walsender's slot on the primary, as soon as one is free.
fn hold_replication_connection(pair: &Pair) -> Result<Child> {
    let mut held = None;
    pair.wait_until("a free slot", || {
        let mut psql = pair.primary.psql("replication=true")?;
        let child = psql.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        let count = "select count(*) from pg_stat_activity where backend_type = 'walsender' and usename = 'postgres'";
        held = Some(child);
        std::thread::sleep(Duration::from_millis(200));
        Ok(pair.primary.sql_value("postgres", count)? == "1")
    })?;
    held.context("no connection was held")
}

#[test]
fn pg_hba_refuses_us() -> Result<()> {
    let pair = Pair::describe("hba").start()?;
    pair.primary.write("pg_hba.conf", "local all all trust\nhost all all 127.0.0.1/32 trust\n")?;
    pair.primary.reload()?;
    pair.wait_until("pg_hba.conf to be read", || {
        cut_keepalives(&pair.primary)?;
        Ok(status(&pair.standby)?.text("partner_state")? == "unhelpful")
    })?;
    pair.stays_standby(LONG_ENOUGH)?;
    let reason = status(&pair.standby)?.text("reason")?.to_owned();
    pair.check(reason.contains("pg_hba.conf"), "the reason does not name pg_hba.conf")
}

#[test]
fn nothing_heard_since_the_start() -> Result<()> {
    let pair = Pair::describe("alone").start()?;
    pair.primary.stop_fast()?;
    pair.standby.stop_fast()?;
    pair.standby.start()?;
    pair.wait_status(&pair.standby, "armed", "f")?;
    pair.stays_standby(LONG_ENOUGH)
}

#[test]
fn a_restored_copy() -> Result<()> {
    let pair = Pair::describe("copy").start()?;
    let copy = Node::create(pair.folder(), "copy", None)?;
    copy.base_backup_of(&pair.primary)?;
    let settings = [
        "fsync = off".to_owned(),
        LOAD.to_owned(),
        "primary_conninfo = ''".to_owned(),
        format!("pg_keeper.partner_conninfo = '{}'", pair.primary.conninfo()),
        "pg_keeper.keepalive_time = '250ms'".to_owned(),
        "pg_keeper.keepalive_count = 2".to_owned(),
    ];
    copy.configure(&settings)?;
    // pg_basebackup wrote where to stream from; a restored copy streams from nowhere.
    copy.write("postgresql.auto.conf", "")?;
    copy.start()?;
    pair.wait_until("the copy to know the primary", || Ok(status(&copy)?.text("partner_state")? == "alive"))?;
    assert_eq!(status(&copy)?.text("armed")?, "f");

    pair.primary.kill_all()?;
    pair.wait_promoted(&pair.standby)?;
    pair.wait_until("the copy to miss the primary", || Ok(status(&copy)?.text("partner_state")? != "alive"))?;
    let until = std::time::Instant::now() + LONG_ENOUGH;
    while std::time::Instant::now() < until {
        assert!(keeper_tests::state::is_in_recovery(&copy)?, "the copy promoted itself:\n{}", copy.log_tail(40));
    }
    Ok(())
}

#[test]
fn the_partner_is_the_server_itself() -> Result<()> {
    let pair = Pair::describe("itself")
        .set_on_standby("pg_keeper.partner_conninfo = 'host=127.0.0.1 port={own_port} user=keeper'")
        .start_unarmed()?;
    pair.wait_until("a word about itself", || Ok(status(&pair.standby)?.text("reason")?.contains("itself")))?;
    pair.wait_status(&pair.standby, "armed", "f")?;
    pair.primary.kill_all()?;
    pair.stays_standby(LONG_ENOUGH)
}
