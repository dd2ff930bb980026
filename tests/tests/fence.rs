//! A superseded server takes no write: the old primary that returns, wakes up, or is reached again.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use keeper_tests::clock::now;
use keeper_tests::hammer::{self, Hammer, held_by};
use keeper_tests::install::run;
use keeper_tests::netns;
use keeper_tests::node::Node;
use keeper_tests::pair::{Builder, Pair};
use keeper_tests::sql::{Address, Session, SqlError};
use keeper_tests::state::status;

/// Longer than the window of the pairs here and a promotion.
const LIMIT: Duration = Duration::from_secs(20);

fn describe(name: &str) -> Builder {
    Pair::describe(name).set("max_prepared_transactions = 5").set("wal_log_hints = on")
}

fn start(builder: Builder) -> Result<Pair> {
    let pair = builder.start()?;
    hammer::prepare(&pair)?;
    pair.wait_until("the hammer's table on the standby", || Ok(held_by(&pair.standby).is_ok()))?;
    Ok(pair)
}

fn fail_over(pair: &Pair) -> Result<()> {
    pair.primary.kill_all()?;
    pair.wait_promoted(&pair.standby)?;
    pair.wait_recorded(&pair.standby, 2).map(drop)
}

fn wait_fenced(pair: &Pair) -> Result<()> {
    pair.wait_until("the old primary to be fenced", || Ok(status(&pair.primary)?.text("state")? == "fenced"))
}

fn tcp(node: &Node, database: &str, user: &str) -> Result<Session> {
    Session::connect(&Address::Tcp(node.host().to_owned(), node.port()), database, user, LIMIT)
}

fn code_of(error: &anyhow::Error) -> String {
    error.downcast_ref::<SqlError>().and_then(|error| error.code.clone()).unwrap_or_default()
}

fn expect_refused<T>(outcome: Result<T>, code: &str, what: &str) -> Result<String> {
    match outcome {
        Ok(_) => bail!("{what} was let through"),
        Err(error) if code_of(&error) == code => Ok(format!("{error:#}")),
        Err(error) => Err(error.context(format!("{what} should have been refused with {code}"))),
    }
}

#[test]
fn the_old_primary_that_returns_is_fenced() -> Result<()> {
    let pair = start(describe("returns"))?;
    let old = Hammer::start(&pair.primary);
    let new = Hammer::start(&pair.standby);
    pair.wait_until("writes on the primary", || Ok(old.acknowledged().len() > 100))?;
    fail_over(&pair)?;
    let killed = now();
    pair.wait_until("writes on the new primary", || Ok(new.acknowledged().len() > 100))?;
    pair.primary.start()?;
    wait_fenced(&pair)?;
    pair.wait_until("the hammer to be sent away", || Ok(old.refused_with("57P03") > 20))?;
    let late = old.acknowledged_after(killed);
    pair.check(late.is_empty(), &format!("the superseded server acknowledged {late:?}"))?;

    // Whoever is sent away hears where to go.
    let refusal = expect_refused(tcp(&pair.primary, "postgres", hammer::ROLE), "57P03", "an ordinary client")?;
    for word in ["fenced", "db02", "timeline 2"] {
        pair.check(refusal.contains(word), &format!("the refusal lacks «{word}»: {refusal}"))?;
    }
    // A superuser from elsewhere is a client like others; one on the machine may look, and commits nothing.
    expect_refused(tcp(&pair.primary, "postgres", "postgres"), "57P03", "a superuser over TCP")?;
    let refusal =
        expect_refused(pair.primary.sql("postgres", "create table t ()"), "25006", "a local superuser's commit")?;
    pair.check(refusal.contains("db02"), &format!("the refusal does not name the active server: {refusal}"))?;
    // Monitoring goes on.
    let monitor = tcp(&pair.primary, "pg_state", "keeper_watch")?;
    let fence = monitor.rows("select fence, reason from pg_keeper.status")?;
    let fence = fence.first().context("no status")?;
    pair.check(fence.text("fence")?.starts_with("fenced"), &format!("{fence}"))?;
    // The recorder of a superseded server writes no row.
    let rows = monitor.rows("select count(*) from failover_log")?;
    assert_eq!(rows.first().and_then(|row| row.first()), Some("1"));
    Ok(())
}

#[test]
fn the_fence_outlasts_restarts_and_the_new_primary() -> Result<()> {
    let pair = start(describe("lasts"))?;
    fail_over(&pair)?;
    pair.primary.start()?;
    wait_fenced(&pair)?;
    // The one that superseded it is gone: nobody can be asked.
    pair.standby.kill_all()?;
    for crash in [false, true] {
        if crash {
            pair.primary.kill_all()?;
        } else {
            pair.primary.stop_fast()?;
        }
        pair.primary.start()?;
        expect_refused(tcp(&pair.primary, "postgres", hammer::ROLE), "57P03", "an ordinary client after a restart")?;
        wait_fenced(&pair)?;
    }
    // An administrator's word opens it, is logged, and outlasts a restart too.
    pair.primary.sql("pg_state", "select pg_keeper.lift_fence()")?;
    pair.wait_until("an ordinary client's write", || {
        tcp(&pair.primary, "postgres", hammer::ROLE)?.rows("insert into hammered values (-1)")?;
        Ok(true)
    })?;
    assert!(pair.primary.log().contains("an administrator lifted the fence"), "{}", pair.primary.log_tail(20));
    pair.check(status(&pair.primary)?.text("fence")?.starts_with("lifted"), "status does not tell of the lift")?;
    pair.primary.stop_fast()?;
    pair.primary.start()?;
    pair.wait_until("an ordinary client's write after a restart", || {
        tcp(&pair.primary, "postgres", hammer::ROLE)?.rows("insert into hammered values (-2)")?;
        Ok(true)
    })
}

#[test]
fn the_old_primary_that_wakes_up_acknowledges_nothing() -> Result<()> {
    let pair = start(describe("wakes"))?;
    let old = Hammer::start(&pair.primary);
    pair.wait_until("writes on the primary", || Ok(old.acknowledged().len() > 100))?;
    pair.primary.freeze()?;
    let frozen = now();
    pair.wait_promoted(&pair.standby)?;
    pair.wait_recorded(&pair.standby, 2)?;
    pair.primary.thaw();
    wait_fenced(&pair)?;
    pair.wait_until("the hammer to be sent away", || Ok(old.refused_with("57P03") > 20))?;
    let late = old.acknowledged_after(frozen);
    pair.check(late.is_empty(), &format!("the superseded server acknowledged {late:?}; {}", old.story()))
}

/// While the cable is cut both take writes: two servers alone cannot help that. Once it is healed, the old one stops.
#[test]
fn a_cut_cable_that_is_healed_fences_the_old_primary() -> Result<()> {
    if !netns::available()? {
        return Ok(());
    }
    let time = Duration::from_secs(1);
    let pair = start(describe("healed").in_namespaces().keepalive_time(time).keepalive_count(2))?;
    // Clients reach both all the while: over the Unix socket, as one on the machine.
    let session = pair.primary.connect_within(LIMIT, "postgres", hammer::ROLE)?;
    session.rows("insert into hammered values (-1)")?;
    pair.link().context("a cable")?.drop_packets()?;
    pair.wait_promoted(&pair.standby)?;
    session.rows("insert into hammered values (-2)").context("the cut-off primary goes on")?;
    let healed = now();
    pair.link().context("a cable")?.heal()?;
    wait_fenced(&pair)?;
    let took = now() - healed;
    pair.check(took < 1_500_000, &format!("fenced only {took} µs after the cable was healed"))?;
    let outcome = session.rows("insert into hammered values (-3)");
    pair.check(outcome.is_err(), "a session went on after the fence")
}

/// What was open when the fence rises commits nothing.
#[test]
fn nothing_that_was_open_commits_after_the_fence() -> Result<()> {
    let pair = start(describe("open"))?;
    let open = || pair.primary.connect_within(LIMIT, "postgres", "postgres");
    open()?.rows(
        "create procedure slow() language plpgsql as $$ begin for i in 1..100000 loop \
           insert into hammered values (-1000 - i); commit; perform pg_sleep(0.01); end loop; end $$",
    )?;
    let transaction = open()?;
    transaction.rows("begin")?;
    transaction.rows("insert into hammered values (-1)")?;
    let prepared = open()?;
    prepared.rows("begin")?;
    prepared.rows("insert into hammered values (-2)")?;
    prepared.rows("prepare transaction 'before'")?;
    let preparing = open()?;
    preparing.rows("begin")?;
    preparing.rows("insert into hammered values (-3)")?;
    let idle = open()?;
    idle.rows("select 1")?;
    let idle_client = tcp(&pair.primary, "postgres", hammer::ROLE)?;
    idle_client.rows("select 1")?;

    pair.primary.freeze()?;
    pair.wait_promoted(&pair.standby)?;
    pair.wait_recorded(&pair.standby, 2)?;
    pair.primary.thaw();
    wait_fenced(&pair)?;

    // A local superuser's sessions live on, and each of these is refused.
    let refused = |session: &Session, sql: &str| -> Result<()> {
        let outcome = session.rows(sql).map_err(anyhow::Error::from);
        expect_refused(outcome, "25006", sql).map(drop)
    };
    refused(&transaction, "commit")?;
    refused(&prepared, "commit prepared 'before'")?;
    refused(&preparing, "prepare transaction 'after'")?;
    refused(&idle, "insert into hammered values (-4)")?;
    refused(&idle, "call slow()")?;
    refused(&idle, "create database another")?;
    // An ordinary client's session is ended.
    let outcome = idle_client.rows("select 1");
    pair.check(outcome.is_err(), "an ordinary client's idle session lives on")?;
    let held = held_by(&pair.primary)?;
    pair.check(held.is_empty(), &format!("the fenced server committed {held:?}"))
}

/// Backends outlive a killed postmaster, and must not commit meanwhile.
#[test]
fn backends_of_a_killed_postmaster_commit_nothing() -> Result<()> {
    let pair = start(describe("orphans"))?;
    let session = pair.primary.connect_within(LIMIT, "postgres", "postgres")?;
    // Busy, so that it does not notice by waiting.
    let busy = "do $$ declare until timestamptz := clock_timestamp() + '3 seconds'; begin insert into hammered values (-1); \
                while clock_timestamp() < until loop perform 1; end loop; end $$";
    let outcome = std::thread::scope(|scope| {
        let working = scope.spawn(|| session.rows(busy));
        std::thread::sleep(Duration::from_millis(500));
        pair.primary.kill_postmaster()?;
        Ok::<_, anyhow::Error>(working.join().expect("the client panicked"))
    })?;
    pair.check(outcome.is_err(), "an orphaned backend committed")?;
    pair.wait_promoted(&pair.standby)?;
    pair.primary.start()?;
    wait_fenced(&pair)?;
    let held = held_by(&pair.primary)?;
    pair.check(held.is_empty(), &format!("an orphaned backend committed {held:?}"))
}

/// A server that starts as primary lets nobody in before it knows its partner.
#[test]
fn a_primary_that_starts_waits_for_its_partner() -> Result<()> {
    let pair = start(describe("guard").keepalive_time(Duration::from_secs(1)).keepalive_count(3))?;
    pair.standby.stop_fast()?;
    pair.primary.stop_fast()?;
    pair.primary.start()?;
    expect_refused(tcp(&pair.primary, "postgres", hammer::ROLE), "57P03", "a client during the guard")?;
    pair.wait_status(&pair.primary, "state", "guarded")?;
    // The standby's answer opens it at once: here long before the window is over.
    pair.standby.start()?;
    pair.wait_until("the guard to open", || Ok(tcp(&pair.primary, "postgres", hammer::ROLE).is_ok()))?;
    pair.wait_armed()?;
    // Alone, it opens after the window.
    pair.standby.stop_fast()?;
    pair.primary.stop_fast()?;
    pair.primary.start()?;
    let begun = now();
    pair.wait_until("the guard to open", || Ok(tcp(&pair.primary, "postgres", hammer::ROLE).is_ok()))?;
    let took = now() - begun;
    pair.check(took > 2_000_000, &format!("the guard opened after {took} µs of silence"))
}

#[test]
fn a_primary_waits_for_an_administrator_when_told_to() -> Result<()> {
    let pair = start(describe("told").set("pg_keeper.on_unknown_partner = 'wait'"))?;
    pair.standby.stop_fast()?;
    pair.primary.stop_fast()?;
    pair.primary.start()?;
    pair.wait_until("the reason", || Ok(status(&pair.primary)?.text("fence")?.contains("on_unknown_partner")))?;
    expect_refused(tcp(&pair.primary, "postgres", hammer::ROLE), "57P03", "a client")?;
    pair.primary.sql("pg_state", "select pg_keeper.lift_fence()")?;
    pair.wait_until("an ordinary client", || Ok(tcp(&pair.primary, "postgres", hammer::ROLE).is_ok()))
}

/// The permit makes nobody wait in the calm, the keeper's restarts included.
#[test]
fn nobody_waits_for_a_permit_in_the_calm() -> Result<()> {
    let pair = start(describe("calm").keepalive_time(Duration::from_secs(1)).keepalive_count(4))?;
    let session = pair.primary.connect_within(LIMIT, "postgres", "postgres")?;
    let mut number = 0;
    let mut slowest = 0;
    let mut write_for = |seconds: i64| -> Result<()> {
        let until = now() + seconds * 1_000_000;
        while now() < until {
            number -= 1;
            let begun = now();
            session.rows(&format!("insert into hammered values ({number})"))?;
            slowest = slowest.max(now() - begun);
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    };
    write_for(3)?;
    let keeper = pair.primary.keeper()?;
    pair.primary.sql("postgres", &format!("select pg_terminate_backend({keeper})"))?;
    write_for(4)?;
    let standby_keeper = pair.standby.keeper()?;
    pair.standby.sql("postgres", &format!("select pg_terminate_backend({standby_keeper})"))?;
    write_for(4)?;
    // The standby dies: its silence costs no commit anything either.
    pair.standby.kill_all()?;
    write_for(6)?;
    // A commit that waited for a permit would have waited for most of a keepalive.
    pair.check(slowest < 400_000, &format!("a commit took {slowest} µs"))
}

/// The state file is cut off, from another cluster, unreadable, or a clone's.
#[test]
fn a_fence_file_that_cannot_be_believed_lets_nobody_in_on_a_guess() -> Result<()> {
    let pair = start(describe("damaged"))?;
    fail_over(&pair)?;
    pair.primary.start()?;
    wait_fenced(&pair)?;
    let file = pair.primary.data().join("pg_keeper.fence");
    let whole = std::fs::read_to_string(&file)?;
    pair.standby.kill_all()?;
    let damages = [
        ("cut off", whole[..whole.len() / 2].to_owned()),
        ("another cluster", whole.replace("system_identifier ", "system_identifier 1")),
        ("not text", String::new()),
    ];
    for (what, text) in damages {
        pair.primary.stop_fast()?;
        if text.is_empty() {
            std::fs::write(&file, b"\xff\xfe\x00")?;
        } else {
            std::fs::write(&file, text)?;
        }
        pair.primary.start()?;
        pair.wait_until(&format!("the reason ({what})"), || {
            Ok(status(&pair.primary)?.text("reason")?.contains("pg_keeper.fence"))
        })?;
        expect_refused(tcp(&pair.primary, "postgres", hammer::ROLE), "57P03", "a client")?;
        assert!(file.exists(), "the file was deleted");
    }
    // An administrator who has looked opens it, and the file is kept under another name.
    pair.primary.sql("pg_state", "select pg_keeper.lift_fence()")?;
    pair.wait_until("an ordinary client", || Ok(tcp(&pair.primary, "postgres", hammer::ROLE).is_ok()))?;
    assert!(pair.primary.data().join("pg_keeper.fence.damaged0").exists());
    Ok(())
}

/// The hook around utility statements leaves their errors as the server raises them.
#[test]
fn an_error_of_a_utility_statement_keeps_all_that_it_says() -> Result<()> {
    let pair = start(describe("errors"))?;
    let mut psql = pair.primary.psql("postgres")?;
    psql.args(["--set=VERBOSITY=verbose", "--command"]);
    psql.arg("do $$ begin insert into hammered values (-1), (-1); end $$");
    let Err(error) = run(&mut psql) else { bail!("the same number twice was let through") };
    let text = format!("{error:#}");
    for part in ["CONSTRAINT NAME:  hammered_pkey", "LOCATION:  _bt_check_unique", "CONTEXT:  SQL statement"] {
        pair.check(text.contains(part), &format!("the error lacks «{part}»: {text}"))?;
    }
    Ok(())
}
