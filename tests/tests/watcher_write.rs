//! How the watcher writes: killed at any step, on a disk that is full, read-only or gives no answer, the file is the old one or
//! the new one, and no restart is lost.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use keeper_tests::clock::now;
use keeper_tests::folder;
use keeper_tests::install::install;
use keeper_tests::mounts;
use keeper_tests::node::PATIENCE;
use keeper_tests::site::{FILE, IN_PLACE, Site, names, wait_stopped};
use keeper_tests::wait;
use keeper_tests::watcher::{assert_ended, run_once, run_once_with_fault};
use nix::sys::signal::{Signal, kill};

/// Runs a watcher again and again, each time killed one step later, and after each death looks at the file and at what the
/// next watcher makes of it. Returns the steps, by name.
fn die_at_every_step(
    host: &Site,
    more: &str,
    faults: impl Iterator<Item = String>,
    live: impl Fn(&str) -> Result<Option<String>>,
) -> Result<BTreeSet<String>> {
    let mut steps = BTreeSet::new();
    for fault in faults {
        host.reset()?;
        let Some(log) = live(&fault)? else { break };
        let told = log.split_once("fault point ").and_then(|(_, rest)| rest.split_once(", "));
        let step = told.and_then(|(_, rest)| rest.split(':').next());
        let step = step.with_context(|| {
            format!("the watcher was not killed at a fault point; was it built with the feature fault_points?\n{log}")
        })?;
        steps.insert(step.to_owned());
        let found = host.content();
        let may_be_half = more == IN_PLACE && step == "written";
        ensure!(
            found == FILE || found == host.rewritten() || may_be_half,
            "killed by {fault} at {step}, the file is not whole: {found:?}\n{log}"
        );

        let ended = host.once(more)?;
        assert_ended(&ended, 0, &[]);
        let done = host.restarts();
        ensure!(host.content() == host.rewritten(), "after {step}: {:?}\n{}", host.content(), ended.text);
        ensure!(done >= 1, "killed by {fault} at {step}, the restart was lost\n{log}\n{}", ended.text);
        assert_ended(&host.once(more)?, 0, &[]);
        ensure!(host.restarts() == done, "killed by {fault} at {step}, restarted once more than need be");
        let left: Vec<String> = names(host.application())?.into_iter().filter(|name| name.contains(".new")).collect();
        ensure!(left.is_empty(), "killed by {fault} at {step}, left behind: {left:?}");
    }
    Ok(steps)
}

fn assert_has(steps: &BTreeSet<String>, wanted: &[&str]) {
    for step in wanted {
        assert!(steps.contains(*step), "no watcher died at {step}: {steps:?}");
    }
}

const BOTH_WAYS: [&str; 8] =
    ["state_written", "state_renamed", "owed", "kept", "placed", "restart_begins", "restart_carried_out", "locked"];

fn once_dies_at_every_step(name: &str, more: &str, own: &[&str]) -> Result<()> {
    let host = Site::start(name)?;
    let steps = die_at_every_step(&host, more, (1..).map(|number| format!("kill {number}")), |fault| {
        let ended = run_once_with_fault(host.folder(), &host.configuration(more), &["once"], fault)?;
        Ok(ended.code.is_none().then_some(ended.text))
    })?;
    assert_has(&steps, &BOTH_WAYS);
    assert_has(&steps, own);
    Ok(())
}

#[test]
fn once_is_killed_at_every_step() -> Result<()> {
    once_dies_at_every_step("killonce", "", &["staged", "exchanged", "folder_synced"])
}

#[test]
fn once_is_killed_at_every_step_of_a_write_in_place() -> Result<()> {
    once_dies_at_every_step("killplace", IN_PLACE, &["journalled", "written", "cut", "synced"])
}

#[test]
fn the_daemon_is_killed_at_every_step() -> Result<()> {
    let host = Site::start("killrun")?;
    for (more, own) in [("", "exchanged"), (IN_PLACE, "written")] {
        // By name, as what it does at the same time is in another order each time.
        let faults = BOTH_WAYS.iter().chain([&own]).map(|step| format!("kill {step}"));
        let steps = die_at_every_step(&host, more, faults, |fault| {
            let daemon = host.run(more, fault)?;
            wait::until(
                &format!("the daemon to have died by {fault}"),
                PATIENCE,
                || daemon.log(),
                || {
                    ensure!(
                        daemon.count("restart finished") == 0,
                        wait::Hopeless("it has finished; was it built with the feature fault_points?")
                    );
                    Ok(daemon.has_ended()? && daemon.count("fault point ") > 0)
                },
            )?;
            Ok(Some(daemon.log()))
        })?;
        assert_has(&steps, &BOTH_WAYS);
        assert_has(&steps, &[own]);
    }
    Ok(())
}

#[test]
fn on_a_full_disk_the_file_stays_whole_and_is_rewritten_when_there_is_room() -> Result<()> {
    let host = Site::start("full")?;
    let Some(mounts) = mounts::private()? else { return Ok(()) };
    mounts.small(host.application(), 64)?;
    host.put(FILE)?;
    let filler = host.application().join("filler");
    let fill = || {
        for chunk in [16_384_usize, 4096, 1] {
            while fs::File::options()
                .create(true)
                .append(true)
                .open(&filler)
                .is_ok_and(|mut file| std::io::Write::write_all(&mut file, &vec![b'x'; chunk]).is_ok())
            {}
        }
    };
    fill();
    assert_ended(&host.once("")?, 1, &["env.yaml", "make room", "No space left on device"]);
    assert_eq!((host.content().as_str(), host.restarts()), (FILE, 0));
    assert_eq!(names(host.application())?, ["env.yaml", "filler"]);

    let daemon = host.run("", "")?;
    daemon.wait_said("make room", 0)?;
    // It tries again after a second, and has nothing new to tell.
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!((host.content().as_str(), daemon.count("make room")), (FILE, 1), "{}", daemon.log());
    fs::remove_file(&filler)?;
    host.wait_for(&daemon, &host.rewritten())?;
    daemon.wait_said("restart finished", 0)?;
    assert_eq!(host.restarts(), 1);
    Ok(())
}

/// Written into itself, a file of one page needs no further room; a larger one must not be begun.
#[test]
fn on_a_full_disk_a_write_in_place_is_not_begun() -> Result<()> {
    let host = Site::start("fullplace")?;
    let Some(mounts) = mounts::private()? else { return Ok(()) };
    mounts.small(host.application(), 64)?;
    let padding = 4096 - FILE.len() - "\r\n# ".len();
    let long =
        format!("{}\r\n# {}", FILE.replace("old-primary.database.example.com:54321", "a:1"), "x".repeat(padding + 35));
    assert!(long.len() <= 4096 && long.len() + host.address.len() - "a:1".len() > 4096, "{}", long.len());
    host.put(&long)?;
    fs::write(host.application().join("env.yaml.pg_keeper.bak"), "")?;
    let filler = host.application().join("filler");
    while fs::File::options()
        .create(true)
        .append(true)
        .open(&filler)
        .is_ok_and(|mut file| std::io::Write::write_all(&mut file, &[b'x'; 4096]).is_ok())
    {}
    assert_ended(&host.once(IN_PLACE)?, 1, &["env.yaml", "make room"]);
    assert_eq!((host.content(), host.restarts()), (long.clone(), 0));
    fs::remove_file(&filler)?;
    assert_ended(&host.once(IN_PLACE)?, 0, &[]);
    assert_eq!(host.content(), long.replace("a:1", &host.address));
    Ok(())
}

#[test]
fn on_a_read_only_file_system_it_says_so_and_goes_on_when_it_can() -> Result<()> {
    let host = Site::start("readonly")?;
    let Some(mounts) = mounts::private()? else { return Ok(()) };
    mounts.small(host.application(), 256)?;
    host.put(FILE)?;
    mounts.set_read_only(host.application(), true)?;
    for more in ["", IN_PLACE] {
        assert_ended(&host.once(more)?, 1, &["env.yaml", "Read-only file system", "ReadWritePaths"]);
        let check = run_once(host.folder(), &host.configuration(more), &["check"])?;
        assert_ended(&check, 1, &["env.yaml", "Read-only file system"]);
    }
    let daemon = host.run("", "")?;
    daemon.wait_said("Read-only file system", 0)?;
    assert_eq!((host.content().as_str(), host.restarts()), (FILE, 0));
    mounts.set_read_only(host.application(), false)?;
    host.wait_for(&daemon, &host.rewritten())?;
    Ok(())
}

#[test]
fn a_folder_that_may_not_be_written_to() -> Result<()> {
    let host = Site::start("folder")?;
    fs::set_permissions(host.application(), fs::Permissions::from_mode(0o555))?;
    let ended = host.once("")?;
    let check = run_once(host.folder(), &host.configuration(""), &["check"])?;
    // Into the file itself it may write.
    let in_place = host.once(IN_PLACE)?;
    fs::set_permissions(host.application(), fs::Permissions::from_mode(0o755))?;
    assert_ended(&ended, 1, &["env.yaml", "Permission denied", "let this user write to the folder"]);
    assert_ended(&check, 1, &["Permission denied"]);
    assert_ended(&in_place, 0, &["cannot keep the old version"]);
    assert_eq!(host.content(), host.rewritten());
    Ok(())
}

/// Only root gives files away, so another user must own what it replaces; `check` finds out.
#[test]
fn a_file_of_another_owner() -> Result<()> {
    if !nix::unistd::Uid::effective().is_root() {
        anyhow::bail!("this test makes a file of another owner and needs root");
    }
    let host = Site::start("owner")?;
    nix::unistd::chown(host.file(), Some(0.into()), Some(0.into()))?;
    fs::set_permissions(host.file(), fs::Permissions::from_mode(0o644))?;
    let check = run_once(host.folder(), &host.configuration(""), &["check"])?;
    assert_ended(&check, 1, &["cannot give the new version the file's owner and mode"]);
    assert_ended(&host.once("")?, 1, &["cannot give the new version the file's owner and mode"]);
    assert_eq!((host.content().as_str(), host.restarts()), (FILE, 0));
    assert_eq!(names(host.application())?, ["env.yaml"]);
    Ok(())
}

#[test]
fn a_file_that_is_a_mount_point_is_written_in_place_when_told_so() -> Result<()> {
    let host = Site::start("bind")?;
    let Some(mounts) = mounts::private()? else { return Ok(()) };
    let real = host.folder().join("real.yaml");
    fs::copy(host.file(), &real)?;
    install()?.give_to_server_account(&real)?;
    mounts.bind(&real, host.file())?;
    let advice = "write «write: in_place» in the target";
    assert_ended(&host.once("")?, 1, &["env.yaml", "it is a mount point of its own", advice]);
    assert_eq!((host.content().as_str(), host.restarts()), (FILE, 0));
    assert_ended(&run_once(host.folder(), &host.configuration(""), &["check"])?, 1, &[advice]);
    let check = run_once(host.folder(), &host.configuration(IN_PLACE), &["check"])?;
    assert!(check.text.contains("ok       shop:") && !check.text.contains("problem  shop:"), "{}", check.text);
    assert_ended(&host.once(IN_PLACE)?, 0, &[]);
    assert_eq!((fs::read_to_string(&real)?, host.restarts()), (host.rewritten(), 1));
    assert_eq!(fs::read_to_string(host.application().join("env.yaml.pg_keeper.bak"))?, FILE);
    Ok(())
}

#[test]
fn a_file_that_is_missing_at_the_start_is_edited_when_it_appears() -> Result<()> {
    let host = Site::start("missing")?;
    fs::remove_file(host.file())?;
    let daemon = host.run("", "")?;
    daemon.wait_said("cannot find the file", 0)?;
    assert!(!daemon.has_ended()?);
    let half = host.application().join("half");
    fs::write(&half, FILE)?;
    install()?.give_to_server_account(&half)?;
    fs::rename(&half, host.file())?;
    host.wait_for(&daemon, &host.rewritten())?;
    daemon.wait_said("restart finished", 0)?;
    assert_eq!(host.restarts(), 1);
    Ok(())
}

/// The new version is in its place and the application does not know it: whatever went wrong afterwards, a restart is owed.
#[test]
fn an_error_after_the_exchange_leaves_the_restart_owed() -> Result<()> {
    let host = Site::start("aftererror")?;
    let daemon = host.run("", "stop exchanged")?;
    wait_stopped(&daemon)?;
    assert_eq!(host.content(), host.rewritten());
    let old = names(host.application())?.into_iter().find(|name| name.ends_with(".new")).context("the old version")?;
    fs::set_permissions(host.application().join(old), fs::Permissions::from_mode(0o000))?;
    kill(daemon.pid(), Signal::SIGCONT)?;
    daemon.wait_said("cannot read the file again", 0)?;
    daemon.wait_said("restart finished", 0)?;
    assert_eq!((host.content(), host.restarts()), (host.rewritten(), 1));
    Ok(())
}

/// One file on a file system that gives no answer keeps neither the daemon from starting nor a new configuration from
/// everything else.
#[test]
fn a_file_system_that_hangs_holds_up_only_its_own_file() -> Result<()> {
    let host = Site::start("hangs")?;
    let Some(mounts) = mounts::private()? else { return Ok(()) };
    let hung = host.folder().join("hung");
    folder::make(&hung)?;
    let server = mounts.hung(&hung)?;
    let other = format!(
        "  - {{name: hung, file: {}, set: {{a: \"{{address}}\"}}, restart: {{command: [/bin/true]}}}}\n",
        hung.join("env.yaml").display()
    );
    // Cron's watcher ends, lest the next one find it still there.
    assert_ended(&host.once(&other)?, 1, &["shop: restart finished", "hung: ", "env.yaml: cannot be reached"]);
    assert_eq!((host.content(), host.restarts()), (host.rewritten(), 1));
    host.reset()?;
    let daemon = host.run(&other, "")?;
    daemon.wait_said("restart finished", 0)?;
    assert_eq!(host.content(), host.rewritten());
    let since = now();
    let new = host.configuration(&other).replace("name: shop", "name: renamed");
    fs::write(host.folder().join("watcher.yaml"), new)?;
    daemon.signal(Signal::SIGHUP)?;
    daemon.wait_said("a file cannot be reached", since)?;
    daemon.wait_said("watching db01 and db02 for 2 targets", since)?;
    let since = now();
    host.put(FILE)?;
    daemon.wait_said("renamed: rewrote", since)?;
    daemon.wait_said("renamed: restart finished", since)?;
    assert_eq!((host.content(), host.restarts()), (host.rewritten(), 2));
    // The other one is looked after as soon as there is an answer, whatever it is.
    let since = now();
    drop(server);
    daemon.wait_said("hung: ", since)?;
    Ok(())
}

/// A link in the path that leads to the next release takes no restart away that is owed.
#[test]
fn a_restart_is_owed_also_after_a_link_was_switched() -> Result<()> {
    let host = Site::start("release")?;
    let link = host.folder().join("current");
    let next = host.folder().join("next");
    std::os::unix::fs::symlink(host.application(), &link)?;
    folder::make(&next)?;
    let linked = |restart: &str| {
        host.configuration("")
            .replace(&host.file().display().to_string(), &link.join("env.yaml").display().to_string())
            .replace("echo restarted", restart)
    };
    let fails = linked("false; exit 1; echo");
    assert_ended(&run_once(host.folder(), &fails, &["once"])?, 5, &["restart failed"]);
    // The new release has the right address already.
    fs::copy(host.file(), next.join("env.yaml"))?;
    fs::remove_file(&link)?;
    std::os::unix::fs::symlink(&next, &link)?;
    assert_ended(&run_once(host.folder(), &linked("echo restarted"), &["once"])?, 0, &["restart finished"]);
    assert_eq!(host.restarts(), 1);

    // And when the file is called by its own path from now on.
    fs::write(next.join("env.yaml"), FILE)?;
    install()?.give_to_server_account(&next.join("env.yaml"))?;
    assert_ended(&run_once(host.folder(), &fails, &["once"])?, 5, &["restart failed"]);
    let direct = linked("echo restarted").replace(&link.display().to_string(), &next.display().to_string());
    assert_ended(&run_once(host.folder(), &direct, &["once"])?, 0, &["restart finished"]);
    assert_eq!(host.restarts(), 2);
    Ok(())
}

#[test]
fn the_named_one_of_several_documents() -> Result<()> {
    let host = Site::start("documents")?;
    let two = format!("kind: other\r\n---\r\n{FILE}");
    host.put(&two)?;
    assert_ended(
        &host.once("")?,
        1,
        &["env.yaml, line 2: a second YAML document begins here", "document: 2, which alone"],
    );
    assert_eq!((host.content(), host.restarts()), (two.clone(), 0));
    assert_ended(&host.once("    document: 2\n")?, 0, &[]);
    assert_eq!((host.content(), host.restarts()), (format!("kind: other\r\n---\r\n{}", host.rewritten()), 1));
    Ok(())
}
