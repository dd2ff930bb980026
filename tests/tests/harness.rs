//! The harness itself, on PostgreSQL without pg_keeper: what the other tests rely on.

use std::process::Command;
use std::time::Duration;

use anyhow::Result;
use keeper_tests::application::Application;
use keeper_tests::install::run;
use keeper_tests::netns;
use keeper_tests::pair::Pair;
use keeper_tests::process::living_in;
use keeper_tests::state::{is_in_recovery, is_streaming};

#[test]
fn an_application_moves_by_hand() -> Result<()> {
    let pair = Pair::describe("byhand").without_keeper().as_in_production().start()?;
    let application = Application::start(&pair)?;
    application.wait_for_rows(20)?;

    pair.primary.kill_all()?;
    assert!(living_in(&pair.primary.data()).is_empty());
    pair.standby.promote()?;
    pair.wait_promoted(&pair.standby)?;

    let file = std::fs::read_to_string(application.configuration())?;
    std::fs::write(application.configuration(), file.replace(&pair.primary.address(), &pair.standby.address()))?;
    let [program, arguments @ ..] = application.restart_command()?;
    run(Command::new(program).args(arguments))?;
    application.wait_for_rows(20)?;

    let ledger = application.ledger()?;
    assert_eq!(ledger.first().map(|entry| entry.server.clone()), Some(pair.primary.address()));
    assert_eq!(ledger.last().map(|entry| entry.server.clone()), Some(pair.standby.address()));
    let missing = application.missing_from(&pair.standby)?;
    assert!(missing.len() < 10, "more than the last moments are missing: {missing:?}");
    Ok(())
}

#[test]
fn a_frozen_server_is_silent_and_comes_back() -> Result<()> {
    let pair = Pair::describe("freeze").without_keeper().start()?;
    assert!(!is_in_recovery(&pair.primary)?);
    pair.primary.freeze()?;
    let limit = Duration::from_millis(500);
    let late = pair.primary.connect_within(limit, "postgres", "postgres").err().map(|error| format!("{error:#}"));
    assert!(late.is_some_and(|text| text.contains("no answer within")));
    pair.primary.thaw();
    pair.wait_until("an answer", || Ok(!is_in_recovery(&pair.primary)?))
}

#[test]
fn a_killed_server_starts_again() -> Result<()> {
    let pair = Pair::describe("killed").without_keeper().start()?;
    pair.primary.sql("postgres", "create table here (number int)")?;
    pair.primary.kill_postmaster()?;
    pair.primary.start()?;
    assert!(pair.primary.sql("postgres", "table here")?.is_empty());
    pair.primary.stop_fast()?;
    pair.primary.start()?;
    pair.wait_until("streaming again", || is_streaming(&pair.primary))
}

#[test]
fn a_cut_cable_swallows_packets() -> Result<()> {
    if !netns::available()? {
        return Ok(());
    }
    let pair = Pair::describe("cable").without_keeper().in_namespaces().set("wal_receiver_timeout = 1s").start()?;
    let link = pair.link().expect("a pair in namespaces has a link");
    link.drop_packets()?;
    pair.wait_until("the standby to miss its primary", || {
        Ok(pair.standby.log().contains("terminating walreceiver due to timeout"))
    })?;
    link.heal()?;
    pair.primary.sql("postgres", "create table after_the_cut (number int)")?;
    pair.wait_until("the standby to catch up", || pair.standby.sql("postgres", "table after_the_cut").map(|_| true))
}

#[test]
fn a_pair_takes_its_processes_along() -> Result<()> {
    let pair = Pair::describe("drop").without_keeper().start()?;
    let folder = pair.folder().to_owned();
    assert!(!living_in(&folder).is_empty());
    drop(pair);
    assert!(living_in(&folder).is_empty());
    assert_eq!(folder.exists(), keep());
    Ok(())
}

fn keep() -> bool {
    keeper_tests::folder::keep()
}
