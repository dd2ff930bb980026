//! Servers that come back: both at a time, in either order, and copies of them that nobody should obey.

use std::fs;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result};
use keeper_tests::clock::now;
use keeper_tests::cycles::{Cycles, Misfortune};
use keeper_tests::hammer::{self, Hammer};
use keeper_tests::install::{install, run};
use keeper_tests::node::Node;
use keeper_tests::pair::{Builder, Pair};
use keeper_tests::replication::Replication;
use keeper_tests::sql::{Address, Session, SqlError};
use keeper_tests::state::{LOAD, is_in_recovery, is_streaming, status};

const LIMIT: Duration = Duration::from_secs(20);
/// The window of the pairs here: 2 keepalives of 250 ms.
const WINDOW: Duration = Duration::from_millis(500);

fn describe(name: &str) -> Builder {
    Pair::describe(name).set("wal_log_hints = on")
}

/// A pair whose standby has taken over: db02 is primary on timeline 2, db01 is down.
fn failed_over(name: &str) -> Result<Pair> {
    let pair = describe(name).start()?;
    hammer::prepare(&pair)?;
    pair.primary.kill_all()?;
    pair.wait_promoted(&pair.standby)?;
    pair.wait_recorded(&pair.standby, 2)?;
    Ok(pair)
}

fn tcp(node: &Node, user: &str) -> Result<Session> {
    Session::connect(&Address::Tcp(node.host().to_owned(), node.port()), "postgres", user, LIMIT)
}

/// How long the old primary (db01) still committed what it acknowledged after the new one (db02) had begun to. By the servers' word: a
/// client on a busy machine reads an acknowledgement late.
fn overlap(pair: &Pair, old: &Hammer, new: &Hammer, since: i64) -> Result<Option<i64>> {
    let (Some(first), Some(last)) =
        (new.acknowledged_after(since).first().copied(), old.acknowledged_after(since).last().copied())
    else {
        return Ok(None);
    };
    let first = hammer::committed_at(&pair.standby, first.number)?;
    let last = hammer::committed_at(&pair.primary, last.number)?;
    Ok((last > first).then_some(last - first))
}

/// pg_rewind is content with a new primary that has no WAL of the failover any more, and what it leaves behind waits for ever. The plan finds
/// out while the server still runs, and a copy is the way out.
#[test]
fn a_plan_sees_that_the_new_primary_has_lost_its_wal() -> Result<()> {
    let pair = describe("lostwal").set_on_standby("wal_keep_size = 0").start()?;
    pair.primary.kill_all()?;
    pair.wait_promoted(&pair.standby)?;
    pair.wait_recorded(&pair.standby, 2)?;
    for _ in 0..3 {
        pair.standby.sql("postgres", "select txid_current(), pg_switch_wal()")?;
        pair.standby.sql("postgres", "checkpoint")?;
    }
    pair.primary.start()?;
    pair.wait_status(&pair.primary, "state", "fenced")?;
    let pid = pair.primary.postmaster_pid();
    let refused = pair.primary.rejoin().err().context("a plan that should have failed")?;
    let refused = format!("{refused:#}");
    assert!(refused.contains("The partner does not have all WAL since its promotion"), "{refused}");
    assert_eq!(pair.primary.postmaster_pid(), pid, "the server was stopped");

    pair.primary.rejoin_by_copy()?;
    pair.wait_until("the old primary to stream", || is_streaming(&pair.standby))
}

/// A power cut of the rack after a failover: whichever is back first, and however long the other one takes.
#[test]
fn both_restart_and_never_are_two_open() -> Result<()> {
    for (old_first, delay) in [
        (true, Duration::ZERO),
        (false, Duration::ZERO),
        (true, WINDOW / 3),
        (false, WINDOW / 3),
        (true, WINDOW * 4),
        (false, WINDOW * 4),
    ] {
        let case = format!("old first: {old_first}, delay {delay:?}");
        let pair = failed_over("both")?;
        pair.standby.kill_all()?;
        let (old, new) = (Hammer::start(&pair.primary), Hammer::start(&pair.standby));
        let begun = now();
        let order = if old_first { [&pair.primary, &pair.standby] } else { [&pair.standby, &pair.primary] };
        order[0].launch()?;
        sleep(delay);
        order[1].launch()?;
        for node in order {
            node.wait_ready()?;
        }
        pair.wait_status(&pair.primary, "state", "fenced").with_context(|| case.clone())?;
        pair.wait_until(&format!("the longer history to be open ({case})"), || {
            Ok(new.acknowledged_after(begun).len() > 50)
        })?;
        let overlap = overlap(&pair, &old, &new, begun)?;
        pair.check(overlap.is_none(), &format!("{case}: both acknowledged for {overlap:?} µs; {}", old.story()))?;
        // Only one that was alone for a whole window may have opened.
        let alone = old_first && delay > WINDOW;
        let count = old.acknowledged_after(begun).len();
        pair.check(alone == (count > 0), &format!("{case}: the shorter history acknowledged {count}"))?;
    }
    Ok(())
}

/// Both of a healthy pair: the primary is the primary again, in either order.
#[test]
fn a_healthy_pair_that_restarts_goes_on_as_it_was() -> Result<()> {
    for primary_first in [true, false] {
        let pair = describe("healthy").start()?;
        hammer::prepare(&pair)?;
        pair.primary.kill_all()?;
        pair.standby.kill_all()?;
        let order = if primary_first { [&pair.primary, &pair.standby] } else { [&pair.standby, &pair.primary] };
        for node in order {
            node.launch()?;
        }
        pair.wait_until("a client on the primary", || Ok(tcp(&pair.primary, hammer::ROLE).is_ok()))?;
        pair.wait_armed()?;
        assert!(is_in_recovery(&pair.standby)?);
    }
    Ok(())
}

/// A copy of the primary, restored onto a timeline of its own and started with the primary's configuration.
#[test]
fn a_restored_copy_fences_nobody_and_promotes_nowhere() -> Result<()> {
    let pair = describe("copy").start()?;
    hammer::prepare(&pair)?;
    let hammer = Hammer::start(&pair.primary);
    let copy = Node::create(pair.folder(), "copy", None)?;
    copy.base_backup_of(&pair.primary)?;
    fs::remove_file(copy.data().join("standby.signal"))?;
    copy.write("recovery.signal", "")?;
    copy.configure(&[
        "fsync = off".to_owned(),
        LOAD.to_owned(),
        "pg_keeper.node_name = 'db01'".to_owned(),
        format!("pg_keeper.partner_conninfo = '{}'", pair.standby.conninfo()),
        "pg_keeper.keepalive_time = '250ms'".to_owned(),
        "pg_keeper.keepalive_count = 2".to_owned(),
        "restore_command = 'false'".to_owned(),
    ])?;
    copy.set("primary_conninfo = ''")?;
    copy.start()?;
    pair.wait_until("the copy to be on a timeline of its own", || Ok(!is_in_recovery(&copy)?))?;
    let timeline = "select substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8)";
    assert_eq!(copy.sql_value("postgres", timeline)?, "00000002");
    // It asks the standby all the while, which so asks back, and hears nothing that would fence or promote anybody.
    let before = hammer.acknowledged().len();
    sleep(WINDOW * 6);
    pair.check(hammer.acknowledged().len() > before + 50, "the primary takes no writes any more")?;
    for (node, state) in [(&pair.primary, "watching"), (&pair.standby, "watching")] {
        pair.check(status(node)?.text("state")? == state, "the copy has changed something")?;
    }
    pair.check(is_in_recovery(&pair.standby)?, "the standby promoted itself")?;
    pair.check(is_streaming(&pair.primary)?, "the standby does not stream")?;
    pair.wait_armed()
}

/// Copies of a fenced server take its file along, and are not fenced by it.
#[test]
fn a_clone_does_not_inherit_the_fence() -> Result<()> {
    let pair = failed_over("clone")?;
    pair.primary.start()?;
    pair.wait_status(&pair.primary, "state", "fenced")?;
    // Physical replication passes the fence.
    let clone = Node::create(pair.folder(), "clone", None)?;
    clone.base_backup_of(&pair.primary)?;
    assert!(clone.data().join("pg_keeper.fence").exists(), "the copy has no file to be misled by");
    fs::remove_file(clone.data().join("standby.signal"))?;
    clone.configure(&["fsync = off".to_owned(), LOAD.to_owned()])?;
    clone.set("primary_conninfo = ''")?;
    clone.start()?;
    pair.wait_until("a client on the clone", || {
        tcp(&clone, hammer::ROLE)?.rows("insert into hammered values (-1)")?;
        Ok(true)
    })?;
    pair.check(status(&clone)?.text("fence")? == "none", "the clone is fenced")
}

/// Ways into a fenced server that are not an ordinary client's.
#[test]
fn no_side_entrance_leads_past_the_fence() -> Result<()> {
    let pair = describe("side").start()?;
    hammer::prepare(&pair)?;
    pair.primary.sql("postgres", "create extension dblink")?;
    pair.primary.sql("postgres", "create role streamer login replication")?;
    pair.primary.sql("postgres", "grant all on hammered to streamer")?;
    pair.wait_until("the role on the standby", || Ok(tcp(&pair.standby, "streamer").is_ok()))?;
    pair.primary.kill_all()?;
    pair.wait_promoted(&pair.standby)?;
    pair.wait_recorded(&pair.standby, 2)?;
    pair.primary.start()?;
    pair.wait_status(&pair.primary, "state", "fenced")?;

    let expect = |sql: &str, words: &str| -> Result<()> {
        let Err(error) = pair.primary.sql("postgres", sql) else { anyhow::bail!("let through: {sql}") };
        let text = error.downcast_ref::<SqlError>().context("an answer of the server")?.text.clone();
        pair.check(text.contains(words), &format!("{sql}: {text}"))
    };
    let port = pair.primary.port();
    let socket = pair.primary.data().join("..").canonicalize()?.display().to_string();
    let back = |host: &str, user: &str| {
        format!(
            "select dblink_exec('host={host} port={port} dbname=postgres user={user}', 'insert into hammered values (-1)')"
        )
    };
    expect(&back("127.0.0.1", hammer::ROLE), "fenced")?;
    expect(&back("127.0.0.1", "postgres"), "fenced")?;
    expect(&back(&socket, "postgres"), "fenced")?;

    // A WAL sender with a database takes SQL: it is a client.
    let walsender = |host: &str, user: &str| {
        let mut psql = install()?.tool("psql");
        let conninfo = format!("host={host} port={port} dbname=postgres user={user} replication=database");
        psql.args(["--no-psqlrc", "--dbname", &conninfo, "--command", "insert into hammered values (-1)"]);
        run(&mut psql)
    };
    for (host, user) in [("127.0.0.1", "streamer"), (socket.as_str(), "streamer"), (socket.as_str(), "postgres")] {
        let Err(error) = walsender(host, user) else { anyhow::bail!("a WAL sender of {user} wrote") };
        pair.check(format!("{error:#}").contains("fenced"), &format!("{error:#}"))?;
    }
    let held = hammer::held_by(&pair.primary)?;
    pair.check(held.is_empty(), &format!("the fenced server committed {held:?}"))
}

/// A background worker that is not ours and commits what another server sends it.
#[test]
fn a_subscription_goes_on_at_the_active_server_only() -> Result<()> {
    let pair = describe("fed").start()?;
    let publisher = Node::create(pair.folder(), "publisher", None)?;
    publisher.base_backup_of(&pair.primary)?;
    fs::remove_file(publisher.data().join("standby.signal"))?;
    publisher.configure(&["fsync = off".to_owned(), "wal_level = logical".to_owned()])?;
    publisher.set("primary_conninfo = ''")?;
    publisher.start()?;
    let make = "create table fed (number int primary key)";
    publisher.sql("postgres", make)?;
    publisher.sql("postgres", "create publication feed for table fed")?;
    pair.primary.sql("postgres", make)?;
    let from = format!("host={} port={} user=postgres dbname=postgres", publisher.host(), publisher.port());
    pair.primary.sql("postgres", &format!("create subscription fed connection '{from}' publication feed"))?;
    publisher.sql("postgres", "insert into fed values (1)")?;
    let fed = |node: &Node| node.sql_value("postgres", "select coalesce(max(number), 0) from fed");
    pair.wait_until("the first row on both", || Ok(fed(&pair.primary)? == "1" && fed(&pair.standby)? == "1"))?;

    pair.primary.freeze()?;
    pair.wait_promoted(&pair.standby)?;
    publisher.sql("postgres", "insert into fed values (2)")?;
    pair.primary.thaw();
    pair.wait_status(&pair.primary, "state", "fenced")?;
    publisher.sql("postgres", "insert into fed values (3)")?;
    pair.wait_until("the rows on the active server", || Ok(fed(&pair.standby)? == "3"))?;
    pair.check(fed(&pair.primary)? == "1", "the fenced server took rows of its subscription")?;
    pair.check(
        pair.primary.log().contains("cannot commit: this server is fenced"),
        "nothing says why the subscription stands still",
    )
}

/// Failover and return, killed and frozen in turn, one direction and the other. `make cycles` does it for longer.
#[test]
fn failover_and_return_in_both_directions() -> Result<()> {
    let mut cycles = Cycles::start("there", Replication::Off)?;
    for misfortune in [Misfortune::KillPrimary, Misfortune::FreezePrimary, Misfortune::KillPrimary] {
        let outcome = cycles.suffer(misfortune, Duration::ZERO).with_context(|| cycles.evidence())?;
        assert_eq!(outcome.by_superseded, 0, "{misfortune}: {outcome:?}\n{}", cycles.evidence());
    }
    Ok(())
}

/// Every kind of fault once, with nothing lost that was acknowledged.
#[test]
fn every_fault_with_synchronous_replication_loses_nothing() -> Result<()> {
    std::thread::scope(|scope| {
        let runs = [Replication::Wait, Replication::Async].map(|replication| {
            scope.spawn(move || -> Result<()> {
                let mut cycles = Cycles::start("every", replication)?;
                for misfortune in Misfortune::ALL {
                    let outcome = cycles
                        .suffer(misfortune, Duration::ZERO)
                        .with_context(|| format!("{replication:?}: {misfortune}\n{}", cycles.evidence()))?;
                    assert_eq!(
                        (outcome.by_superseded, outcome.lost),
                        (0, 0),
                        "{replication:?}, {misfortune}: {outcome:?}\n{}",
                        cycles.evidence()
                    );
                }
                Ok(())
            })
        });
        runs.into_iter().try_for_each(|run| run.join().expect("a run panicked"))
    })
}
