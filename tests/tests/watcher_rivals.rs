//! How the watcher writes beside others: programs that change the same file, and other watchers.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};
use keeper_tests::clock::now;
use keeper_tests::site::{FILE, IN_PLACE, Site, names, wait_stopped};
use keeper_tests::watcher::{Ended, assert_ended, run_once};
use nix::sys::signal::{Signal, kill};

#[test]
fn another_programs_change_at_the_same_time_is_kept() -> Result<()> {
    for (name, more, step) in [
        ("betweena", "", "staged"),
        ("betweenb", "", "owed"),
        ("betweenc", "", "exchanged"),
        ("betweend", IN_PLACE, "owed"),
        ("betweene", IN_PLACE, "kept"),
    ] {
        let host = Site::start(name)?;
        let daemon = host.run(more, &format!("stop {step}"))?;
        wait_stopped(&daemon)?;
        // After the exchange, a program that had the file open writes into what is no longer in its place.
        if step == "exchanged" {
            let old = names(host.application())?
                .into_iter()
                .find(|name| name.ends_with(".new"))
                .context("the old version")?;
            fs::write(host.application().join(old), FILE.replace("two", "three"))?;
        } else {
            host.put_into(&FILE.replace("two", "three"))?;
        }
        kill(daemon.pid(), Signal::SIGCONT)?;
        host.wait_for(&daemon, &host.rewritten().replace("two", "three"))?;
        daemon.wait_said("restart finished", 0)?;
        assert_eq!(host.restarts(), 1, "{}", daemon.log());
    }
    Ok(())
}

#[test]
fn a_program_that_keeps_changing_the_file_back_is_answered_three_times() -> Result<()> {
    let host = Site::start("revert")?;
    let daemon = host.run("", "")?;
    daemon.wait_said("restart finished", 0)?;
    for _ in 0..3 {
        host.wait_for(&daemon, &host.rewritten())?;
        host.put(FILE)?;
    }
    host.wait_for(&daemon, &host.rewritten())?;
    let since = now();
    host.put(FILE)?;
    daemon.wait_said("another program keeps changing", since)?;
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!((host.content().as_str(), daemon.count("rewrote")), (FILE, 4), "{}", daemon.log());
    Ok(())
}

/// Cron's watcher knows of its earlier answers, and a daemon of cron's.
#[test]
fn once_answers_a_program_that_keeps_changing_the_file_back_three_times() -> Result<()> {
    let host = Site::start("revertonce")?;
    assert_ended(&host.once("")?, 0, &["rewrote"]);
    for _ in 0..3 {
        host.put(FILE)?;
        assert_ended(&host.once("")?, 0, &["another program changed", "rewrote"]);
        assert_ended(&host.once("")?, 0, &[]);
    }
    host.put(FILE)?;
    for _ in 0..2 {
        assert_ended(&host.once("")?, 1, &["another program keeps changing", "env.yaml back"]);
    }
    assert_eq!((host.content().as_str(), host.restarts()), (FILE, 4));
    let daemon = host.run("", "")?;
    daemon.wait_said("another program keeps changing", 0)?;
    assert_eq!(daemon.count("rewrote"), 0, "{}", daemon.log());
    drop(daemon);
    // Before an application starts its file is put right all the same, and an edited configuration is nobody's revenge.
    assert_ended(&run_once(host.folder(), &host.configuration(""), &["once", "--no-restart"])?, 0, &["rewrote"]);
    assert_eq!(host.content(), host.rewritten());
    host.put(FILE)?;
    assert_ended(&host.once("# edited\n")?, 0, &["rewrote"]);
    assert_eq!((host.content(), host.restarts()), (host.rewritten(), 5));
    Ok(())
}

/// `once --no-restart` works beside a daemon; one of the two waits until the other has written.
#[test]
fn two_watchers_write_one_after_the_other() -> Result<()> {
    let host = Site::start("twolocks")?;
    let daemon = host.run("", "stop owed")?;
    wait_stopped(&daemon)?;
    let ended = std::thread::scope(|scope| -> Result<Ended> {
        let guest = scope.spawn(|| run_once(host.folder(), &host.configuration(""), &["once", "--no-restart"]));
        std::thread::sleep(Duration::from_secs(1));
        assert!(!guest.is_finished(), "it did not wait");
        assert_eq!(host.content(), FILE);
        kill(daemon.pid(), Signal::SIGCONT)?;
        guest.join().map_err(|_| anyhow::anyhow!("the other watcher's thread panicked"))?
    })?;
    assert_ended(&ended, 0, &[]);
    daemon.wait_said("restart finished", 0)?;
    assert_eq!((host.content(), host.restarts()), (host.rewritten(), 1));
    Ok(())
}

#[test]
fn one_that_never_lets_go_is_waited_for_some_seconds_only() -> Result<()> {
    let host = Site::start("heldlock")?;
    let daemon = host.run("", "stop owed")?;
    wait_stopped(&daemon)?;
    let ended = run_once(host.folder(), &host.configuration(""), &["once", "--no-restart"])?;
    assert_ended(&ended, 1, &["another pg-keeper-watcher is rewriting the file"]);
    assert_eq!(host.content(), FILE);
    kill(daemon.pid(), Signal::SIGCONT)?;
    host.wait_for(&daemon, &host.rewritten())
}
