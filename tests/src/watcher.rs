//! The watcher as a process of its own, and what it said when.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;

use anyhow::{Context, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::clock::{self, Micros};
use crate::folder::{make, shared_program};
use crate::install::install;
use crate::node::{Node, PATIENCE};
use crate::state::KEEPER_DATABASE;
use crate::wait::{self, Hopeless};

/// The variable that a watcher built with the feature `fault_points` looks at.
const FAULT: &str = "PG_KEEPER_WATCHER_FAULT";

/// A watcher that runs as a daemon.
#[derive(Debug)]
pub struct Watcher {
    process: Mutex<Child>,
    lines: Arc<Mutex<Vec<Line>>>,
}

/// A line of its log and when it came. The time is taken here, so that it needs no trust in the watcher's own.
#[derive(Debug, Clone)]
pub struct Line {
    /// When it was read.
    pub at: Micros,
    /// What it says.
    pub text: String,
}

/// How one run of another command than `run` ended.
#[derive(Debug)]
pub struct Ended {
    /// The exit code; none after a signal.
    pub code: Option<i32>,
    /// What it wrote to standard output and standard error.
    pub text: String,
}

/// The exit code and the message are as they should be.
pub fn assert_ended(ended: &Ended, code: i32, words: &[&str]) {
    assert_eq!(ended.code, Some(code), "{}", ended.text);
    for word in words {
        assert!(ended.text.contains(word), "the message lacks «{word}»: {}", ended.text);
    }
}

/// The `nodes` section for a pair: both servers through the role made for watchers.
pub fn nodes_section(nodes: [&Node; 2]) -> String {
    let line = |node: &Node| {
        format!(
            "  {}: {{conninfo: \"host={} port={} dbname={KEEPER_DATABASE} user=keeper_watch\", address: \"{}\"}}\n",
            node.name(),
            node.host(),
            node.port(),
            node.address()
        )
    };
    format!("nodes:\n{}", nodes.map(line).concat())
}

/// The same as superuser to database postgres, for servers without pg_state.
pub fn plain_nodes_section(nodes: [&Node; 2]) -> String {
    nodes_section(nodes).replace("dbname=pg_state user=keeper_watch", "dbname=postgres user=postgres")
}

/// A target that tells an application the active server's address, the usual one.
pub fn target_section(file: &Path, restart: &str) -> String {
    format!(
        "targets:\n  - name: shop\n    file: {}\n    set:\n      db_master[0].address: \"{{address}}\"\n      \
         db_slave[0].address: \"{{address}}\"\n    restart: {restart}\n",
        file.display()
    )
}

/// A `restart` entry that runs a command.
pub fn restart_by(argv: &[String]) -> String {
    let quoted: Vec<String> = argv.iter().map(|word| format!("{word:?}")).collect();
    format!("{{command: [{}]}}", quoted.join(", "))
}

impl Watcher {
    /// Starts the daemon in a folder of its own, with the given configuration.
    pub fn start(folder: &Path, configuration: &str) -> Result<Self> {
        Self::start_with_fault(folder, configuration, "")
    }

    /// As [`Self::start`], with what is to happen at one of the watcher's fault points.
    pub fn start_with_fault(folder: &Path, configuration: &str, fault: &str) -> Result<Self> {
        let mut command = command(folder, configuration)?;
        command.env(FAULT, fault);
        command.arg("run").process_group(0).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut process = command.spawn().context("start the watcher")?;
        let output = process.stderr.take().context("the watcher's standard error")?;
        let lines = Arc::new(Mutex::new(Vec::new()));
        let mut copy = fs::File::create(folder.join("log"))?;
        let collected = Arc::clone(&lines);
        thread::spawn(move || {
            for text in BufReader::new(output).lines().map_while(Result::ok) {
                let at = clock::now();
                let _ = writeln!(copy, "{text}");
                collected.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).push(Line { at, text });
            }
        });
        Ok(Self { process: Mutex::new(process), lines })
    }

    /// Everything it has said.
    pub fn lines(&self) -> Vec<Line> {
        self.lines.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clone()
    }

    /// Everything it has said, as text.
    pub fn log(&self) -> String {
        self.lines().into_iter().map(|line| line.text + "\n").collect()
    }

    /// How often the words have been said.
    pub fn count(&self, words: &str) -> usize {
        self.lines().iter().filter(|line| line.text.contains(words)).count()
    }

    /// When it first said the words, not before the given instant.
    pub fn said(&self, words: &str, since: Micros) -> Option<Micros> {
        self.lines().into_iter().find(|line| line.at >= since && line.text.contains(words)).map(|line| line.at)
    }

    /// Waits until it says the words.
    pub fn wait_said(&self, words: &str, since: Micros) -> Result<Micros> {
        let what = format!("the watcher to say «{words}»");
        wait::value(
            &what,
            PATIENCE,
            || format!("--- watcher log:\n{}", self.log()),
            || {
                let said = self.said(words, since);
                if said.is_none() && self.has_ended()? {
                    return Err(Hopeless("the watcher has ended").into());
                }
                Ok(said)
            },
        )
    }

    /// Whether it has ended by itself. Its last words may still be on their way: what it started may hold its output open.
    pub fn has_ended(&self) -> Result<bool> {
        Ok(self.process().try_wait()?.is_some())
    }

    /// Any signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        Ok(kill(self.pid(), signal)?)
    }

    /// Its process.
    pub fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.process().id()).unwrap_or(i32::MAX))
    }

    /// SIGKILL, as the out-of-memory killer does it.
    pub fn kill(&self) -> Result<()> {
        self.process().kill()?;
        self.process().wait()?;
        Ok(())
    }

    fn process(&self) -> MutexGuard<'_, Child> {
        self.process.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        let mut process = self.process();
        if let Ok(pid) = i32::try_from(process.id())
            && matches!(process.try_wait(), Ok(None))
        {
            let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
            // One that was stopped would never get it.
            let _ = kill(Pid::from_raw(pid), Signal::SIGCONT);
        }
        let _ = process.wait();
    }
}

/// Runs one command of the watcher to its end.
pub fn run_once(folder: &Path, configuration: &str, arguments: &[&str]) -> Result<Ended> {
    run_once_with(folder, configuration, arguments, &[])
}

/// As [`run_once`], with what is to happen at one of the watcher's fault points.
pub fn run_once_with_fault(folder: &Path, configuration: &str, arguments: &[&str], fault: &str) -> Result<Ended> {
    run_once_with(folder, configuration, arguments, &[(FAULT, Path::new(fault))])
}

/// As [`run_once`], with environment variables of its own.
pub fn run_once_with(
    folder: &Path,
    configuration: &str,
    arguments: &[&str],
    environment: &[(&str, &Path)],
) -> Result<Ended> {
    let mut command = command(folder, configuration)?;
    let output = command.args(arguments).envs(environment.iter().copied()).stdin(Stdio::null()).output()?;
    let text = [output.stdout, output.stderr].concat();
    Ok(Ended { code: output.status.code(), text: String::from_utf8_lossy(&text).into_owned() })
}

/// The program with a configuration and a state folder of its own. Not as root, to whom no file is unreadable and no folder
/// read-only.
pub fn command(folder: &Path, configuration: &str) -> Result<Command> {
    let state: PathBuf = folder.join("state");
    make(folder)?;
    make(&state)?;
    let file = folder.join("watcher.yaml");
    // Written anew, it would be another edition.
    if fs::read_to_string(&file).ok().as_deref() != Some(configuration) {
        fs::write(&file, configuration).with_context(|| format!("write {}", file.display()))?;
    }
    let mut command = install()?.as_server_account(&shared_program("pg-keeper-watcher")?);
    command.arg("-c").arg(file).env("STATE_DIRECTORY", &state).current_dir(folder);
    // Whoever runs the tests may be a service himself.
    for variable in ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "JOURNAL_STREAM"] {
        command.env_remove(variable);
    }
    Ok(command)
}
