//! Restarts by a real systemd, over D-Bus.

use std::fs::{self, File};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use keeper_tests::node::PATIENCE;
use keeper_tests::systemd::ended;
use keeper_tests::systemd::host::{FILE, Host, RUN, unit};
use keeper_tests::wait;
use keeper_tests::watcher::{assert_ended, restart_by, target_section};

/// Stops only when the test lets it.
const STOPS_WHEN_TOLD: &str = "trap 'touch stopping; while test ! -e go; do sleep 0.1; done; exit 0' TERM\ntouch ready\nwhile :; do sleep 0.1; done";

#[test]
fn a_unit_that_runs_is_restarted_once() -> Result<()> {
    let host = Host::boot("runs")?;
    host.shop("", RUN)?;
    host.start_shop()?;
    assert_ended(&host.once("")?, 0, &["restart issued", "restart finished"]);
    host.assert_rewritten();
    host.assert_active()?;
    host.assert_starts(2)?;
    assert_ended(&host.once("")?, 0, &[]);
    host.assert_starts(2)?;
    Ok(())
}

#[test]
fn a_unit_in_its_start_limit() -> Result<()> {
    let host = Host::boot("startlimit")?;
    host.shop("[Unit]\nStartLimitIntervalSec=1h\nStartLimitBurst=2\n", RUN)?;
    host.start_shop()?;
    assert!(host.systemd.try_run(&["systemctl", "restart", "shop.service"])?);
    host.assert_starts(2)?;
    assert!(!host.systemd.try_run(&["systemctl", "restart", "shop.service"])?, "the limit does not hold");
    assert_eq!(host.systemd.property("shop.service", "Result")?, "start-limit-hit");
    assert_ended(&host.once("")?, 0, &["restart finished"]);
    host.assert_active()?;
    host.assert_starts(3)?;
    Ok(())
}

/// Also one that comes near its limit by our own restart.
#[test]
fn a_restart_counts_for_no_start_limit() -> Result<()> {
    let host = Host::boot("nearlimit")?;
    host.shop("[Unit]\nStartLimitIntervalSec=1h\nStartLimitBurst=1\n", RUN)?;
    host.start_shop()?;
    assert_ended(&host.once("")?, 0, &["restart finished"]);
    host.assert_active()
}

#[test]
fn a_unit_that_dies_right_after_the_start() -> Result<()> {
    let host = Host::boot("dies")?;
    let broken = host.path("broken");
    host.shop("", &format!("test -e {} && exit 3\n{RUN}", broken.display()))?;
    host.start_shop()?;
    fs::write(&broken, "")?;
    let ended = host.once("")?;
    assert_ended(&ended, 5, &["shop.service has failed after its restart (exit-code)", "journalctl -u shop.service"]);
    // Still so: it is tried again, and stays pending.
    assert_ended(&host.once("")?, 5, &["has failed"]);
    fs::remove_file(&broken)?;
    assert_ended(&host.once("")?, 0, &["restart finished"]);
    host.assert_active()?;
    host.assert_starts(4)?;
    Ok(())
}

/// It ends with success, which would look like a unit that was stopped on purpose.
#[test]
fn a_unit_that_ends_right_after_the_start() -> Result<()> {
    let host = Host::boot("ends")?;
    let broken = host.path("broken");
    host.shop("", &format!("test -e {} && exit 0\n{RUN}", broken.display()))?;
    host.start_shop()?;
    fs::write(&broken, "")?;
    assert_ended(&host.once("")?, 5, &["ended right after its start"]);
    fs::remove_file(&broken)?;
    assert_ended(&host.once("")?, 0, &["restart finished"]);
    host.assert_active()
}

/// systemd starts it again by itself: it is looked at, and not thrown back to the beginning.
#[test]
fn a_unit_that_systemd_starts_again() -> Result<()> {
    let host = Host::boot("again")?;
    let broken = host.path("broken");
    host.shop("Restart=always\nRestartSec=5s\n", &format!("test -e {} && exit 3\n{RUN}", broken.display()))?;
    host.start_shop()?;
    fs::write(&broken, "")?;
    assert_ended(&host.once(", settle: 100ms")?, 5, &["systemd starts it again", "looked at again"]);
    fs::remove_file(&broken)?;
    host.systemd.wait_property("shop.service", "SubState", "running")?;
    assert_ended(&host.once("")?, 0, &["restart finished"]);
    let by_itself: usize = host.systemd.property("shop.service", "NRestarts")?.parse()?;
    assert!(by_itself > 0, "it was restarted once more");
    host.assert_starts(2 + by_itself)?;
    Ok(())
}

#[test]
fn a_unit_that_waits_to_be_started_again() -> Result<()> {
    let host = Host::boot("autorestart")?;
    let broken = host.path("broken");
    host.shop("Restart=always\nRestartSec=1h\n", &format!("test -e {} && exit 3\n{RUN}", broken.display()))?;
    fs::write(&broken, "")?;
    host.start_shop()?;
    host.systemd.wait_property("shop.service", "SubState", "auto-restart")?;
    fs::remove_file(&broken)?;
    assert_ended(&host.once("")?, 0, &["restart finished"]);
    host.assert_active()
}

#[test]
fn a_unit_that_ignores_sigterm() -> Result<()> {
    let host = Host::boot("ignores")?;
    host.shop("TimeoutStopSec=1h\n", "trap '' TERM\ntouch ready\nwhile :; do sleep 1; done")?;
    host.start_shop()?;
    host.wait_for("ready")?;
    let ended = host.once(", kill_after: 1s")?;
    assert_ended(&ended, 0, &["has not stopped within 1s and is killed", "restart finished"]);
    host.assert_active()?;
    host.assert_starts(2)?;
    Ok(())
}

#[test]
fn a_unit_that_is_stopped_stays_stopped() -> Result<()> {
    let host = Host::boot("stopped")?;
    host.shop("", RUN)?;
    assert_ended(&host.once("")?, 0, &["shop.service is stopped, so it is not restarted"]);
    host.assert_rewritten();
    assert_eq!(host.systemd.property("shop.service", "ActiveState")?, "inactive");
    host.assert_starts(0)?;
    // Nothing is owed to it any more.
    host.start_shop()?;
    assert_ended(&host.once("")?, 0, &[]);
    host.assert_starts(1)?;
    Ok(())
}

/// Somebody stops it while it is being restarted.
#[test]
fn a_unit_that_is_stopped_meanwhile_stays_stopped() -> Result<()> {
    let host = Host::boot("meanwhile")?;
    host.shop("TimeoutStopSec=1h\n", STOPS_WHEN_TOLD)?;
    host.start_shop()?;
    host.wait_for("ready")?;
    let once = host.begin_once(", kill_after: 1h")?;
    host.wait_for("stopping")?;
    host.systemd.run(&["systemctl", "stop", "--no-block", "shop.service"])?;
    fs::write(host.path("go"), "")?;
    let output = once.wait_with_output()?;
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{text}");
    host.systemd.wait_property("shop.service", "ActiveState", "inactive")?;
    assert_ended(&host.once("")?, 0, &[]);
    host.assert_starts(1)?;
    Ok(())
}

#[test]
fn a_unit_that_is_masked_or_missing_is_a_configuration_error() -> Result<()> {
    let host = Host::boot("masked")?;
    let check = || {
        let ended = host.systemd.run_watcher(&host.configuration(&unit("shop.service", "")), &["check"])?;
        anyhow::Ok(ended.text)
    };
    assert!(check()?.contains("shop.service does not exist; correct systemd_unit"));
    assert_ended(&host.once("")?, 78, &["shop.service does not exist; correct systemd_unit"]);
    host.assert_rewritten();
    host.systemd.run(&["systemctl", "mask", "shop.service"])?;
    assert!(check()?.contains("systemctl unmask shop.service"));
    assert_ended(&host.once("")?, 78, &["shop.service is masked; run systemctl unmask shop.service"]);
    // It is pending all the while.
    host.systemd.run(&["systemctl", "unmask", "shop.service"])?;
    host.shop("", RUN)?;
    host.start_shop()?;
    assert_ended(&host.once("")?, 0, &["restart finished"]);
    host.assert_starts(2)?;
    host.systemd.unit("broken.service", "[Service]\nType=simple\n")?;
    let broken = host.systemd.run_watcher(&host.configuration(&unit("broken.service", "")), &["check"])?;
    assert!(broken.text.contains("broken.service cannot be loaded by systemd"), "{}", broken.text);
    let instance = host.systemd.run_watcher(&host.configuration(&unit("shop@.service", "")), &["check"])?;
    assert!(instance.text.contains("shop@.service does not exist"), "{}", instance.text);
    Ok(())
}

/// A service that tells when it is up, and takes longer than the restart's time for it.
#[test]
fn a_unit_that_starts_slowly_is_started_once() -> Result<()> {
    let host = Host::boot("slow")?;
    host.shop(
        "Type=notify\nNotifyAccess=all\n",
        "while test -e hold; do sleep 0.1; done\nsystemd-notify --ready\nexec sleep 1000",
    )?;
    host.start_shop()?;
    fs::write(host.path("hold"), "")?;
    let ended = host.once(", timeout: 1s, settle: 100ms")?;
    assert_ended(&ended, 5, &["shop.service has not started within 1s", "is still starting; it is looked at again"]);
    fs::remove_file(host.path("hold"))?;
    host.systemd.wait_property("shop.service", "ActiveState", "active")?;
    assert_ended(&host.once("")?, 0, &["restart finished"]);
    host.assert_starts(2)?;
    Ok(())
}

#[test]
fn other_types_of_services() -> Result<()> {
    let host = Host::boot("types")?;
    // A batch that is under way begins anew, and has ended well when it has ended.
    host.shop("Type=oneshot\n", "while test -e hold; do sleep 0.1; done")?;
    fs::write(host.path("hold"), "")?;
    host.systemd.run(&["systemctl", "start", "--no-block", "shop.service"])?;
    host.systemd.wait_property("shop.service", "ActiveState", "activating")?;
    host.assert_starts(1)?;
    let once = host.begin_once("")?;
    host.assert_starts(2)?;
    fs::remove_file(host.path("hold"))?;
    let output = once.wait_with_output()?;
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("restart finished"), "{text}");
    host.assert_starts(2)?;

    // A daemon that goes into the background.
    let script = "sleep 1000 & echo $! > daemon.pid";
    host.shop(&format!("Type=forking\nPIDFile={}\n", host.path("daemon.pid").display()), script)?;
    host.start_shop()?;
    let before = host.systemd.property("shop.service", "MainPID")?;
    fs::write(host.file(), FILE)?;
    assert_ended(&host.once("")?, 0, &["restart finished"]);
    assert_ne!(host.systemd.property("shop.service", "MainPID")?, before);
    host.assert_active()
}

/// The bus is restarted while systemd restarts the unit: there is one restart, and its end is seen.
#[test]
fn the_bus_is_restarted_in_the_middle() -> Result<()> {
    let text = in_the_middle("busrestart", &["systemctl", "kill", "--signal=KILL", "dbus.service"])?;
    assert!(text.contains("systemd gives no answer"), "{text}");
    Ok(())
}

#[test]
fn systemd_begins_anew_in_the_middle() -> Result<()> {
    in_the_middle("reexec", &["systemctl", "daemon-reexec"]).map(drop)
}

/// Runs a command while a unit is being restarted, and returns what the watcher said.
fn in_the_middle(name: &str, command: &[&str]) -> Result<String> {
    let host = Host::boot(name)?;
    host.shop("TimeoutStopSec=1h\n", STOPS_WHEN_TOLD)?;
    host.start_shop()?;
    host.wait_for("ready")?;
    let once = host.begin_once(", kill_after: 1h")?;
    host.wait_for("stopping")?;
    host.systemd.run(command)?;
    // Some looks of the watcher's come in between.
    std::thread::sleep(Duration::from_secs(1));
    fs::write(host.path("go"), "")?;
    let output = once.wait_with_output()?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && text.contains("restart finished"), "{text}");
    host.assert_active()?;
    host.assert_starts(2)?;
    Ok(text)
}

#[test]
fn a_bus_that_is_gone_leaves_the_restart_pending() -> Result<()> {
    let host = Host::boot("nobus")?;
    host.shop("", RUN)?;
    host.start_shop()?;
    host.systemd.run(&["systemctl", "stop", "dbus.socket", "dbus.service"])?;
    assert_ended(&host.once("")?, 5, &["cannot speak to systemd over D-Bus", "dbus.service runs"]);
    host.assert_starts(1)?;
    host.systemd.run(&["systemctl", "start", "dbus.socket"])?;
    assert_ended(&host.once("")?, 0, &["restart finished"]);
    host.assert_starts(2)?;
    Ok(())
}

#[test]
fn a_user_who_may_not_restart_is_told_what_to_do() -> Result<()> {
    let host = Host::boot("refused")?;
    host.shop("", RUN)?;
    host.start_shop()?;
    host.give_away()?;
    let configuration = host.configuration(&unit("shop.service", ""));
    let once = || ended(&mut host.systemd.watcher_as_server_account(&configuration, &["once"])?);
    let refused = once()?;
    assert_ended(
        &refused,
        5,
        &["does not let this user restart shop.service", "org.freedesktop.systemd1.manage-units"],
    );
    host.assert_starts(1)?;

    // What it is told to do helps.
    fs::write(host.path("rule"), POLKIT_RULE)?;
    let rule = host.path("rule").display().to_string();
    host.systemd.run(&["install", "-D", "-m", "644", &rule, "/etc/polkit-1/rules.d/50-shop.rules"])?;
    host.systemd.unit(
        "polkit.service",
        "[Service]\nType=dbus\nBusName=org.freedesktop.PolicyKit1\nExecStart=/usr/lib/polkit-1/polkitd --no-debug\n",
    )?;
    assert_ended(&once()?, 0, &["restart finished"]);
    host.assert_starts(2)?;
    Ok(())
}

/// As README tells administrators to write it.
const POLKIT_RULE: &str = r#"polkit.addRule(function (action, subject) {
    if (action.id == "org.freedesktop.systemd1.manage-units" && action.lookup("unit") == "shop.service" &&
        subject.user == "postgres") {
        return polkit.Result.YES;
    }
});
"#;

/// What a command says goes to the journal under the target's name, also what a daemon says that it leaves behind, when
/// the watcher has long ended.
#[test]
fn a_commands_output_is_in_the_journal() -> Result<()> {
    let host = Host::boot("journal")?;
    let script = format!(
        "echo from the command; (while test ! -e {0}; do sleep 0.1; done; echo from the daemon; touch {0}.done) &",
        host.path("go").display()
    );
    let command = restart_by(&["/bin/sh", "-c", &script].map(str::to_owned));
    let run = host.systemd.watcher(&host.configuration(&command), &["once"])?;
    let program = run.get_args().map(|word| word.to_string_lossy().into_owned());
    let program: Vec<String> = program.skip_while(|word| word != "--").skip(1).collect();
    host.systemd.unit(
        "watcher.service",
        &format!(
            "[Service]\nType=oneshot\nKillMode=process\nEnvironment=STATE_DIRECTORY={}\nExecStart={}\n",
            host.path("state").display(),
            program.join(" ")
        ),
    )?;
    host.systemd.run(&["systemctl", "start", "watcher.service"])?;
    assert!(host.systemd.journal("shop")?.contains("from the command"));
    fs::write(host.path("go"), "")?;
    host.wait_for("go.done")?;
    let said = host.systemd.journal("shop")?;
    assert!(said.contains("from the daemon"), "{said}");
    Ok(())
}

/// Two targets whose files one unit reads: it is restarted once, after both were written.
#[test]
fn one_unit_of_two_targets_is_restarted_once() -> Result<()> {
    let host = Host::boot("twofiles")?;
    host.shop("", RUN)?;
    host.start_shop()?;
    let other = host.path("other.yaml");
    let put = || -> Result<()> {
        fs::write(host.file(), FILE)?;
        Ok(fs::write(&other, FILE)?)
    };
    put()?;
    let restart = unit("shop.service", ", settle: 100ms");
    let second = target_section(&other, &restart).replace("targets:\n", "").replace("name: shop", "name: other");
    let configuration = host.configuration(&restart) + &second;
    let done = ["shop: restart finished", "other: restart finished"];
    assert_ended(&host.systemd.run_watcher(&configuration, &["once"])?, 0, &done);
    host.assert_starts(2)?;

    // The daemon, which has to wait for one of the files.
    put()?;
    let state = host.path("state");
    let is_lock = |path: &PathBuf| path.to_string_lossy().contains("/file-");
    let lock = fs::read_dir(&state)?.flatten().map(|entry| entry.path()).find(is_lock).context("a file's lock")?;
    let lock = File::open(lock)?;
    lock.lock()?;
    fs::remove_file(state.join("state.yaml"))?;
    let log = host.path("log");
    let said = |words: &str| fs::read_to_string(&log).unwrap_or_default().matches(words).count();
    let mut run = host.systemd.watcher(&configuration, &["run"])?;
    let mut run = run.stderr(File::create(&log)?).spawn()?;
    let wait_said = |words: &str, times: usize| {
        let evidence = || fs::read_to_string(&log).unwrap_or_default();
        wait::until(&format!("«{words}»"), PATIENCE, evidence, || Ok(said(words) >= times))
    };
    wait_said("rewrote", 1)?;
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(said("restart issued"), 0, "it did not wait for the other file");
    lock.unlock()?;
    done.iter().try_for_each(|words| wait_said(words, 1))?;
    assert_eq!((said("rewrote"), said("restart issued")), (2, 1));
    host.assert_starts(3)?;
    run.kill()?;
    run.wait()?;
    Ok(())
}
