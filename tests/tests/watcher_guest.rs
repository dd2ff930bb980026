//! The watcher as a guest on a server: an old one as well as ours, and whatever is locked there.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use keeper_tests::clock::now;
use keeper_tests::host::Host;
use keeper_tests::node::{Node, PATIENCE};
use keeper_tests::pair::Pair;
use keeper_tests::proxy::Proxy;
use keeper_tests::state::{KEEPER_DATABASE, has_replayed};
use keeper_tests::wait;
use keeper_tests::watcher::{Watcher, nodes_section, plain_nodes_section, run_once};

/// Servers with the original's table and nothing of ours, asked by a role that may do nothing but read it.
#[test]
fn the_originals_servers_and_table() -> Result<()> {
    let pair = Pair::describe("original").without_keeper().start()?;
    let (old, new) = (&pair.primary, &pair.standby);
    old.sql("postgres", &format!("create database {KEEPER_DATABASE}"))?;
    old.sql(
        KEEPER_DATABASE,
        "create table failover_log (unixtime int, host varchar(10)); insert into failover_log values (1460000000, 'db01'); \
         create role keeper_watch login; grant select on failover_log to keeper_watch",
    )?;
    pair.wait_until("the table on the standby", || has_replayed(old, new))?;
    let host = Host::create(pair.folder(), "host")?;
    let watcher = Watcher::start(host.folder(), &host.configuration(&nodes_section([old, new])))?;
    watcher.wait_said("the newest row of failover_log: db01 since 1460000000", 0)?;
    let struck = now();
    old.kill_all()?;
    new.promote()?;
    new.sql(KEEPER_DATABASE, "insert into failover_log values (1470000000, 'db02')")?;
    watcher.wait_said("restart finished", struck)?;
    watcher.wait_said("the newest row of failover_log: db0", struck)?;
    assert_eq!((host.named(), host.restarts()), (new.address(), 2));
    Ok(())
}

#[test]
fn a_locked_log_holds_up_nothing() -> Result<()> {
    let pair = Pair::describe("lockedlog").without_keeper().start()?;
    pair.primary.sql("postgres", "create table failover_log (unixtime int, host varchar(10))")?;
    let locker = pair.primary.connect("postgres", "postgres")?;
    locker.rows("begin; lock table failover_log in access exclusive mode")?;
    let host = Host::create(pair.folder(), "host")?;
    let nodes = plain_nodes_section([&pair.primary, &pair.standby]);
    let watcher = Watcher::start(host.folder(), &host.configuration(&nodes))?;
    watcher.wait_said("restart finished", 0)?;
    watcher.wait_said("failover_log is not read: canceling statement due to statement timeout", 0)?;
    assert_eq!(backends(&pair.primary, "true")?, 1);
    assert_eq!(backends(&pair.primary, "wait_event_type = 'Lock'")?, 0);
    assert_eq!(watcher.count("unreachable"), 0, "{}", watcher.log());
    Ok(())
}

/// Questions that wait for a lock end on the server when the watcher stops waiting for them.
#[test]
fn a_locked_view_collects_no_backends() -> Result<()> {
    let pair = Pair::describe("lockedview").start()?;
    let host = Host::create(pair.folder(), "host")?;
    let nodes = nodes_section([&pair.primary, &pair.standby]) + "connection: {timeout: 1s}\n";
    let watcher = Watcher::start(host.folder(), &host.configuration(&nodes))?;
    watcher.wait_said("restart finished", 0)?;
    let locker = pair.primary.connect(KEEPER_DATABASE, "postgres")?;
    let since = now();
    locker.rows("begin; lock table pg_keeper.status in access exclusive mode")?;
    watcher.wait_said("db01: unreachable", since)?;
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(6) {
        let waiting = backends(&pair.primary, "wait_event_type = 'Lock'")?;
        // One that ends, and the next one.
        ensure!(waiting <= 2, "{waiting} backends wait for the lock\n{}", watcher.log());
    }
    let since = now();
    drop(locker);
    watcher.wait_said("db01: primary", since)?;
    assert_eq!((host.named(), host.restarts()), (pair.primary.address(), 1));
    Ok(())
}

#[test]
fn a_connection_is_kept_open_unless_it_is_not_to_be() -> Result<()> {
    let pair = Pair::describe("keepopen").without_keeper().start()?;
    for (keep_open, name) in [(true, "kept"), (false, "anew")] {
        let road = Proxy::to(&pair.primary)?;
        let host = Host::create(pair.folder(), name)?;
        let nodes = nodes_section([&pair.primary, &pair.standby])
            .replace("dbname=pg_state user=keeper_watch", "dbname=postgres user=postgres sslmode=disable")
            .replace(&format!("port={}", pair.primary.port()), &format!("port={}", road.port()));
        let nodes = format!("{nodes}connection: {{keep_open: {keep_open}}}\npolling: {{interval: 100ms}}\n");
        let watcher = Watcher::start(host.folder(), &host.configuration(&nodes))?;
        watcher.wait_said("restart finished", 0)?;
        if keep_open {
            std::thread::sleep(Duration::from_secs(2));
            assert_eq!(road.accepted(), 1, "{}", watcher.log());
        } else {
            wait::until("ten connections", PATIENCE, || watcher.log(), || Ok(road.accepted() >= 10))?;
        }
    }
    Ok(())
}

/// An application that starts does not wait for the server whose silence made it start anew.
#[test]
fn the_application_starts_without_waiting_for_a_silent_node() -> Result<()> {
    let pair = Pair::describe("silentnode").start()?;
    let host = Host::create(pair.folder(), "host")?;
    let nodes = nodes_section([&pair.primary, &pair.standby]) + "connection: {timeout: 50s}\n";
    let once = |arguments: &[&str]| run_once(host.folder(), &host.configuration(&nodes), arguments);
    assert_eq!(once(&["once"])?.code, Some(0));
    pair.standby.freeze()?;
    let begun = Instant::now();
    let ended = once(&["once", "--no-restart"])?;
    assert_eq!(ended.code, Some(0), "{}", ended.text);
    // Half of what it would wait.
    assert!(begun.elapsed() < Duration::from_secs(25), "it took {:?}", begun.elapsed());
    Ok(())
}

/// The watcher's backends on a server of which something holds.
fn backends(node: &Node, what: &str) -> Result<usize> {
    let sql = format!("select count(*) from pg_stat_activity where application_name = 'pg-keeper-watcher' and {what}");
    Ok(node.sql_value("postgres", &sql)?.parse()?)
}
