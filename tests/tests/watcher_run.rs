//! The watcher as something that is run: by systemd, by cron, in a pipe.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};
use keeper_tests::configured::{Configured, Nobody, plain_pair};
use keeper_tests::node::PATIENCE;
use keeper_tests::wait;
use keeper_tests::watcher::Watcher;
use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// A daemon that is a child of ours, killed at the end whatever happens.
struct Daemon(Child);

impl Daemon {
    fn start(command: &mut Command) -> Result<Self> {
        Ok(Self(command.arg("run").process_group(0).spawn().context("start the watcher")?))
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        Ok(kill(Pid::from_raw(i32::try_from(self.0.id())?), signal)?)
    }

    fn wait_ended(&mut self) -> Result<Option<i32>> {
        wait::value("the watcher to end", PATIENCE, String::new, || Ok(self.0.try_wait()?)).map(|status| status.code())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What systemd listens with.
struct Manager {
    socket: UnixDatagram,
    path: PathBuf,
}

impl Manager {
    fn listen(folder: &Path) -> Result<Self> {
        let path = folder.join("notify");
        let socket = UnixDatagram::bind(&path)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o777))?;
        socket.set_read_timeout(Some(PATIENCE))?;
        Ok(Self { socket, path })
    }

    /// Waits for a message with these words.
    fn hear(&self, words: &str) -> Result<String> {
        let mut buffer = [0; 4096];
        let mut heard = Vec::new();
        loop {
            let length =
                self.socket.recv(&mut buffer).with_context(|| format!("«{words}» was not heard: {heard:?}"))?;
            let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
            if text.contains(words) {
                return Ok(text);
            }
            ensure!(heard.len() < 10_000, "«{words}» was not heard: {heard:?}");
            heard.push(text);
        }
    }
}

#[test]
fn systemd_is_told_what_it_does() -> Result<()> {
    let site = Nobody::new("notify")?;
    let manager = Manager::listen(site.host.folder())?;
    let mut command = site.host.command()?;
    command.env("NOTIFY_SOCKET", &manager.path).env("WATCHDOG_USEC", "200000").stderr(Stdio::null());
    let mut daemon = Daemon::start(&mut command)?;
    manager.hear("READY=1")?;
    manager.hear("STATUS=no active node: neither db01 nor db02 answers")?;
    for _ in 0..3 {
        manager.hear("WATCHDOG=1")?;
    }

    daemon.signal(Signal::SIGHUP)?;
    let reloading = manager.hear("RELOADING=1")?;
    assert!(reloading.contains("MONOTONIC_USEC="), "{reloading}");
    manager.hear("READY=1")?;

    fs::write(site.host.folder().join("watcher.yaml"), "nodes: {}\n")?;
    daemon.signal(Signal::SIGHUP)?;
    manager.hear("RELOADING=1")?;
    manager.hear("READY=1")?;
    manager.hear("WATCHDOG=1")?;

    daemon.signal(Signal::SIGTERM)?;
    manager.hear("STOPPING=1")?;
    assert_eq!(daemon.wait_ended()?, Some(0));
    Ok(())
}

#[test]
fn a_reload_takes_the_new_configuration_and_never_a_bad_one() -> Result<()> {
    let site = Nobody::new("reload")?;
    let file = site.host.folder().join("watcher.yaml");
    let daemon = Watcher::start(site.host.folder(), &site.host.configuration)?;
    let at = daemon.wait_said("watching db01 and db02", 0)?;
    fs::write(&file, "nodes: {}\n")?;
    daemon.signal(Signal::SIGHUP)?;
    let at =
        daemon.wait_said("watcher.yaml, line 1: nodes: there are exactly two nodes, and here are 0; the old", at)?;
    assert!(!daemon.has_ended()?);
    fs::write(&file, site.host.configuration.replace("  db02: ", "  other: "))?;
    daemon.signal(Signal::SIGHUP)?;
    let at = daemon.wait_said("watching db01 and other", at)?;
    daemon.wait_said("no active node: neither db01 nor other answers", at)?;
    Ok(())
}

/// A pipe that nobody reads holds only so much. The daemon goes on all the same, and says later what was lost.
#[test]
fn a_log_reader_that_stalls_holds_up_nothing() -> Result<()> {
    /// More than the pipe and the queue behind it hold together.
    const RELOADS: u32 = 3000;
    let site = Nobody::new("stall")?;
    let manager = Manager::listen(site.host.folder())?;
    let mut command = site.host.command()?;
    command.env("NOTIFY_SOCKET", &manager.path).stderr(Stdio::piped());
    let mut daemon = Daemon::start(&mut command)?;
    let log = daemon.0.stderr.take().context("the log")?;
    fcntl(&log, FcntlArg::F_SETPIPE_SZ(4096))?;
    manager.hear("READY=1")?;
    for _ in 0..RELOADS {
        daemon.signal(Signal::SIGHUP)?;
        manager.hear("RELOADING=1")?;
        manager.hear("READY=1")?;
    }
    let lost = BufReader::new(log)
        .lines()
        .map_while(Result::ok)
        .find(|line| line.contains("lines of this log have been lost"));
    assert!(lost.is_some(), "nothing was said of lost lines");
    daemon.signal(Signal::SIGTERM)?;
    assert_eq!(daemon.wait_ended()?, Some(0));
    Ok(())
}

/// Nor does a stalled reader keep it from ending.
#[test]
fn it_ends_although_nobody_reads_its_log() -> Result<()> {
    let site = Nobody::new("stallend")?;
    let manager = Manager::listen(site.host.folder())?;
    let mut command = site.host.command()?;
    command.env("NOTIFY_SOCKET", &manager.path).stderr(Stdio::piped());
    let mut daemon = Daemon::start(&mut command)?;
    let log = daemon.0.stderr.take().context("the log")?;
    fcntl(&log, FcntlArg::F_SETPIPE_SZ(4096))?;
    for _ in 0..50 {
        manager.hear("READY=1")?;
        daemon.signal(Signal::SIGHUP)?;
    }
    daemon.signal(Signal::SIGTERM)?;
    assert_eq!(daemon.wait_ended()?, Some(0));
    drop(log);
    Ok(())
}

#[test]
fn lines_for_the_journal_bear_a_priority() -> Result<()> {
    let site = Nobody::new("journal")?;
    let path = site.host.folder().join("stderr");
    for is_journal in [true, false] {
        let stderr = File::create(&path)?;
        let metadata = stderr.metadata()?;
        let inode = if is_journal { metadata.ino() } else { metadata.ino() + 1 };
        let stream = format!("{}:{inode}", metadata.dev());
        let status = site.host.command()?.arg("once").env("JOURNAL_STREAM", stream).stderr(stderr).status()?;
        assert_eq!(status.code(), Some(3));
        let text = fs::read_to_string(&path)?;
        let begins = |line: &str| line.starts_with("<3>db0") || line.starts_with("<3>no active node");
        assert_eq!(text.lines().all(begins), is_journal, "{text}");
        assert_eq!(text.contains("Z ERROR"), !is_journal, "{text}");
    }
    Ok(())
}

#[test]
fn sigterm_finishes_the_write_and_leaves_the_restart_pending() -> Result<()> {
    let slow = "{command: [/bin/sh, -c, \"sleep 600\"], timeout: 600s}";
    let (pair, host) = plain_pair("sigterm", slow)?;
    let daemon = Watcher::start(host.folder(), &host.configuration)?;
    daemon.wait_said("restart issued", 0)?;
    daemon.signal(Signal::SIGTERM)?;
    wait::until("the watcher to end", PATIENCE, || daemon.log(), || daemon.has_ended())?;
    assert!(host.host.content().contains(&pair.primary.address()));
    let json: serde_json::Value = serde_json::from_str(&host.ends_with(&["status", "--json"], 5)?)?;
    assert_eq!(json["targets"][0]["restart"], "pending", "{json}");
    // The one that was under way is left to itself, and the next watcher does it again.
    let host = Configured { configuration: host.configuration.replace("sleep 600", "exit 0"), ..host };
    host.ends_with(&["once"], 0)?;
    host.ends_with(&["status", "--nagios", "--without-daemon"], 0)?;
    Ok(())
}

/// The daemon says at its start what would fail in a failover.
#[test]
fn a_folder_that_cannot_be_written_is_told_of_at_the_start() -> Result<()> {
    let site = Nobody::new("rostart")?;
    let folder = site.host.host.file().parent().context("a folder")?;
    fs::set_permissions(folder, fs::Permissions::from_mode(0o555))?;
    let daemon = Watcher::start(site.host.folder(), &site.host.configuration)?;
    let said = daemon.wait_said("application: the folder is not writable", 0);
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755))?;
    said?;
    Ok(())
}
