//! Synchronous replication under pg_keeper's hand: who counts, when he is dropped, and what is lost.

use std::time::Duration;

use anyhow::{Context, Result};
use keeper_tests::clock::now;
use keeper_tests::hammer::{self, Hammer, held_by};
use keeper_tests::pair::{Builder, Pair};
use keeper_tests::state::status;
use nix::sys::signal::{Signal, kill};

const LIMIT: Duration = Duration::from_secs(30);

fn describe(name: &str, policy: &str) -> Builder {
    Pair::describe(name)
        .set("pg_keeper.synchronous_standby_names = '*'")
        .set(format!("pg_keeper.on_standby_loss = '{policy}'"))
}

fn start(builder: Builder) -> Result<Pair> {
    let pair = builder.start()?;
    wait_sync(&pair, "synchronous")?;
    pair.wait_until("the standby to know", || Ok(status(&pair.standby)?.text("sync")?.starts_with("synchronous")))?;
    hammer::prepare(&pair)?;
    Ok(pair)
}

fn sync_of(pair: &Pair) -> Result<String> {
    Ok(status(&pair.primary)?.text("sync")?.to_owned())
}

fn wait_sync(pair: &Pair, words: &str) -> Result<()> {
    pair.wait_until(&format!("the primary's sync to be «{words}»"), || Ok(sync_of(pair)?.starts_with(words)))
}

#[test]
fn a_standby_that_is_killed_is_dropped_at_once_and_counts_again() -> Result<()> {
    let pair = start(describe("dropped", "async").keepalive_time(Duration::from_secs(2)).keepalive_count(5))?;
    let state = "select sync_state from pg_stat_replication where application_name = 'db02'";
    assert_eq!(pair.primary.sql_value("postgres", state)?, "sync");
    let hammer = Hammer::start(&pair.primary);
    pair.wait_until("writes", || Ok(hammer.acknowledged().len() > 50))?;
    pair.standby.kill_all()?;
    let killed = now();
    wait_sync(&pair, "asynchronous")?;
    // Its window alone is 10 s.
    pair.check(now() - killed < 5_000_000, "a standby that is proven dead was waited for")?;
    let before = hammer.acknowledged().len();
    pair.wait_until("writes without the standby", || Ok(hammer.acknowledged().len() > before + 50))?;
    pair.standby.start()?;
    wait_sync(&pair, "synchronous")?;
    pair.wait_armed()?;
    assert_eq!(pair.primary.sql_value("postgres", state)?, "sync");
    Ok(())
}

#[test]
fn a_silent_standby_is_dropped_when_it_has_given_up() -> Result<()> {
    let time = Duration::from_millis(500);
    let pair = start(describe("silent", "async").keepalive_time(time).keepalive_count(3))?;
    let hammer = Hammer::start(&pair.primary);
    pair.wait_until("writes", || Ok(hammer.acknowledged().len() > 50))?;
    pair.standby.freeze()?;
    let frozen = now();
    wait_sync(&pair, "degrading")?;
    wait_sync(&pair, "asynchronous")?;
    let before = hammer.acknowledged().len();
    pair.wait_until("writes without the standby", || Ok(hammer.acknowledged().len() > before + 50))?;
    // Nothing was acknowledged without it while it could still have promoted itself: its window and one keepalive.
    let first = hammer.acknowledged_after(frozen + 100_000).first().copied().context("no write")?;
    let waited = first.at - frozen;
    pair.check(waited > 1_400_000, &format!("the standby was dropped after {waited} µs"))?;
    pair.standby.thaw();
    wait_sync(&pair, "synchronous")
}

#[test]
fn with_wait_commits_wait_for_the_standby() -> Result<()> {
    let pair = start(describe("wait", "wait"))?;
    let hammer = Hammer::start(&pair.primary);
    pair.wait_until("writes", || Ok(hammer.acknowledged().len() > 50))?;
    pair.standby.kill_all()?;
    wait_sync(&pair, "commits wait")?;
    let before = hammer.acknowledged().len();
    std::thread::sleep(Duration::from_secs(3));
    pair.check(hammer.acknowledged().len() == before, "a commit did not wait")?;
    pair.standby.start()?;
    pair.wait_until("writes with the standby", || Ok(hammer.acknowledged().len() > before + 50))
}

#[test]
fn nothing_that_was_acknowledged_is_lost_by_a_failover() -> Result<()> {
    for policy in ["async", "wait"] {
        let pair = start(describe("failover", policy))?;
        pair.wait_armed()?;
        let old = Hammer::start(&pair.primary);
        pair.wait_until("writes", || Ok(old.acknowledged().len() > 200))?;
        pair.primary.kill_all()?;
        pair.wait_promoted(&pair.standby)?;
        // The new primary waits for nobody.
        let new = Hammer::start(&pair.standby);
        pair.wait_until("writes on the new primary", || Ok(new.acknowledged().len() > 50))?;
        let held = held_by(&pair.standby)?;
        let lost: Vec<i64> =
            old.acknowledged().iter().map(|write| write.number).filter(|number| !held.contains(number)).collect();
        pair.check(lost.is_empty(), &format!("{policy}: acknowledged and lost: {lost:?}"))?;
        let sync = status(&pair.standby)?.text("sync")?.to_owned();
        pair.check(sync.starts_with("asynchronous"), &format!("after the promotion: {sync}"))?;
    }
    Ok(())
}

/// A standby that its primary may have dropped does not promote itself.
#[test]
fn a_standby_that_may_have_been_dropped_does_not_promote_itself() -> Result<()> {
    let pair = start(describe("maybe", "async"))?;
    pair.wait_armed()?;
    let keeper = pair.standby.keeper()?;
    // Its keeper stands still for longer than the primary waits for it, and then the primary dies.
    kill(keeper, Signal::SIGSTOP)?;
    std::thread::sleep(Duration::from_secs(2));
    pair.primary.kill_all()?;
    kill(keeper, Signal::SIGCONT)?;
    pair.wait_until("the reason", || Ok(status(&pair.standby)?.text("reason")?.contains("gone on without")))?;
    pair.stays_standby(Duration::from_secs(3))
}

/// A setting that cannot take effect is seen and told.
#[test]
fn a_configuration_file_with_an_error_keeps_it_from_taking_effect_and_is_told() -> Result<()> {
    let pair = start(describe("error", "async"))?;
    pair.primary.set("this is no setting")?;
    pair.standby.kill_all()?;
    wait_sync(&pair, "degrading")?;
    pair.wait_until("the word about it", || Ok(sync_of(&pair)?.contains("has no effect")))?;
    let session = pair.primary.connect_within(LIMIT, "postgres", "postgres")?;
    let row = session.rows("select 1")?;
    assert_eq!(row.len(), 1);
    Ok(())
}
