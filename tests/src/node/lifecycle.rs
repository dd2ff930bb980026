//! Starting a server, and every way of ending it.

use std::fs::{self, OpenOptions};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Stdio;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{Node, PATIENCE};
use crate::install::{install, run};
use crate::state::KEEPER_DATABASE;
use crate::{netns, process};

impl Node {
    /// Starts the server and returns at once.
    pub fn launch(&self) -> Result<()> {
        let mut running = self.postmaster();
        ensure!(running.is_none(), "{} runs already", self.name);
        self.outwait_orphans()?;
        let log = OpenOptions::new().create(true).append(true).open(self.log_path())?;
        install()?.give_to_server_account(&self.log_path())?;
        let mut postgres = install()?.tool("postgres");
        postgres.arg("-D").arg(self.data()).current_dir(self.data());
        // Its own process group: a Ctrl-C on the terminal ends us, and the reaper then ends the servers.
        postgres.process_group(0).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let hosts = self.hosts.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clone();
        let child = match (&self.namespace, hosts) {
            (Some(namespace), _) => namespace.run(|| postgres.spawn())?,
            (None, Some(hosts)) => netns::with_hosts_file(&hosts, || postgres.spawn())?,
            (None, None) => postgres.spawn(),
        };
        *running = Some(child.with_context(|| format!("start {}", self.name))?);
        Ok(())
    }

    /// Starts the server and waits until it takes connections.
    pub fn start(&self) -> Result<()> {
        self.launch()?;
        self.wait_ready()
    }

    /// Waits until the server takes connections; fails at once when it has ended.
    pub fn wait_ready(&self) -> Result<()> {
        let begun = Instant::now();
        loop {
            if self.says_ready() {
                return Ok(());
            }
            if let Some(child) = self.postmaster().as_mut()
                && let Some(status) = child.try_wait()?
            {
                bail!("{} ended while starting, {status}:\n{}", self.name, self.log_tail(30));
            }
            ensure!(begun.elapsed() < PATIENCE, "{} does not become ready:\n{}", self.name, self.log_tail(30));
            sleep(Duration::from_millis(5));
        }
    }

    /// What the postmaster has written for pg_ctl: its process id in the first line, its state in the eighth. A killed one
    /// leaves the file behind as it was.
    fn says_ready(&self) -> bool {
        let file = fs::read_to_string(self.data().join("postmaster.pid")).unwrap_or_default();
        let lines: Vec<&str> = file.lines().map(str::trim).collect();
        let ours = self.postmaster_pid().map(|pid| pid.to_string());
        lines.get(7) == Some(&"ready") && lines.first().copied() == ours.as_deref()
    }

    /// Fast shutdown.
    pub fn stop_fast(&self) -> Result<()> {
        self.end_with(Signal::SIGINT)
    }

    /// Immediate shutdown.
    pub fn stop_immediately(&self) -> Result<()> {
        self.end_with(Signal::SIGQUIT)
    }

    /// SIGKILL to the postmaster alone; its children find out by themselves.
    pub fn kill_postmaster(&self) -> Result<()> {
        self.end_with(Signal::SIGKILL)
    }

    /// SIGKILL to every process of the server.
    pub fn kill_all(&self) -> Result<()> {
        if let Some(pid) = self.postmaster_pid() {
            let _ = kill(pid, Signal::SIGKILL);
        }
        process::kill_all_in(&self.data())?;
        self.forget();
        Ok(())
    }

    /// SIGSTOP to every process of the server.
    pub fn freeze(&self) -> Result<()> {
        process::stop_all_in(&self.data())
    }

    /// SIGCONT to every process of the server.
    pub fn thaw(&self) {
        process::continue_all_in(&self.data());
    }

    /// Promotes it as an administrator does.
    pub fn promote(&self) -> Result<()> {
        run(install()?.tool("pg_ctl").args(["promote", "--wait", "--pgdata"]).arg(self.data())).map(drop)
    }

    /// Makes a fenced server a standby of its new primary by the commands that it prints itself, and starts it as ours. Returns the
    /// commands.
    pub fn rejoin(&self) -> Result<String> {
        self.carry_out("select pg_keeper.rejoin_plan()")
    }

    /// As [`Self::rejoin`], by a copy of the whole new primary.
    pub fn rejoin_by_copy(&self) -> Result<String> {
        self.carry_out("select pg_keeper.rejoin_plan(fresh_copy => true)")
    }

    fn carry_out(&self, query: &str) -> Result<String> {
        let rows = self.sql(KEEPER_DATABASE, query)?;
        let plan: String = rows.iter().filter_map(|row| row.first()).map(|line| format!("{line}\n")).collect();
        let script = self.folder.join("rejoin.sh");
        fs::write(&script, &plan).with_context(|| format!("write {}", script.display()))?;
        self.disconnect();
        // A server that the commands start keeps their output open, so it goes into a file.
        let said = fs::File::create(self.folder.join("rejoin.log"))?;
        let mut shell = install()?.tool("pg_ctl");
        let mut command = install()?.as_server_account(Path::new("/bin/sh"));
        command.arg(&script).current_dir(&self.folder).stdin(Stdio::null()).stdout(said.try_clone()?).stderr(said);
        for (name, value) in shell.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        let status = command.status().context("run the commands")?;
        let said = fs::read_to_string(self.folder.join("rejoin.log")).unwrap_or_default();
        ensure!(status.success(), "the commands failed, {status}:\n{plan}\nthey said:\n{said}\n{}", self.log_tail(20));
        self.forget();
        run(shell.args(["stop", "--mode=fast", "--wait", "--pgdata"]).arg(self.data()))?;
        self.start()?;
        Ok(plan)
    }

    /// Makes it read its settings again.
    pub fn reload(&self) -> Result<()> {
        let pid = self.postmaster_pid().with_context(|| format!("{} does not run", self.name))?;
        kill(pid, Signal::SIGHUP).with_context(|| format!("reload {}", self.name))
    }

    /// The postmaster's process id.
    pub fn postmaster_pid(&self) -> Option<Pid> {
        let running = self.postmaster();
        running.as_ref().and_then(|child| i32::try_from(child.id()).ok()).map(Pid::from_raw)
    }

    /// The server's process whose title holds the words.
    pub fn process(&self, words: &str) -> Option<Pid> {
        process::living_in(&self.data()).into_iter().find(|pid| process::title(*pid).contains(words))
    }

    fn end_with(&self, signal: Signal) -> Result<()> {
        let pid = self.postmaster_pid().with_context(|| format!("{} does not run", self.name))?;
        kill(pid, signal).with_context(|| format!("send {signal} to {}", self.name))?;
        let begun = Instant::now();
        while self.postmaster().as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(None))) {
            ensure!(begun.elapsed() < PATIENCE, "{} survives {signal}:\n{}", self.name, self.log_tail(30));
            sleep(Duration::from_millis(1));
        }
        self.forget();
        Ok(())
    }

    /// Reaps the postmaster: a zombie would look alive to whoever reads postmaster.pid.
    fn forget(&self) {
        if let Some(mut child) = self.postmaster().take() {
            let _ = child.wait();
        }
    }

    /// PostgreSQL refuses to start while children of a killed postmaster are left.
    fn outwait_orphans(&self) -> Result<()> {
        let begun = Instant::now();
        while !process::living_in(&self.data()).is_empty() {
            ensure!(begun.elapsed() < PATIENCE, "children of a killed postmaster of {} live on", self.name);
            sleep(Duration::from_millis(5));
        }
        Ok(())
    }
}
