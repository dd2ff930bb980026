//! A systemd of the test's own: PID 1 of its own namespaces, on this machine's root file system, with a D-Bus and a journal.
//!
//! Needs root, a cgroup2 file system that may be written to, and the packages systemd and dbus. It shares the network with
//! the machine, so that servers of the test are reached at the usual addresses.

pub mod host;

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::folder::{self, ClusterFolder, run_folder, run_mark, shared_program};
use crate::install;
use crate::node::PATIENCE;
use crate::process;
use crate::wait::{self, Hopeless};
use crate::watcher::Ended;

/// The targets that units belong to by default, empty.
const TARGETS: [&str; 5] = ["sysinit.target", "basic.target", "sockets.target", "shutdown.target", "multi-user.target"];

/// What comes from the machine's own units.
const LINKED: [&str; 4] =
    ["dbus.service", "systemd-journald.service", "systemd-journald.socket", "systemd-journald-dev-log.socket"];

/// Where the machine's own units lie.
const UNITS: &str = "/lib/systemd/system";

const FIRST_TARGET: &str = "[Unit]\nDefaultDependencies=no\nRequires=dbus.socket systemd-journald.socket\nAfter=dbus.socket systemd-journald.socket\n";

/// Without the dependencies that a socket has by default, as it is started before everything.
const DBUS_SOCKET: &str = "[Unit]\nDefaultDependencies=no\n[Socket]\nListenStream=/run/dbus/system_bus_socket\n";

/// A running systemd; all that it started ends when this is dropped.
#[derive(Debug)]
pub struct Systemd {
    folder: ClusterFolder,
    cgroup: PathBuf,
    /// The process outside whose end is the end of everything inside.
    parent: Child,
    /// PID 1 inside, as its number is outside.
    init: Pid,
}

impl Systemd {
    /// Boots one.
    pub fn boot(name: &str) -> Result<Self> {
        require()?;
        let folder = ClusterFolder::create(name)?;
        let cgroup = cgroup()?;
        for part in ["units", "disk"] {
            fs::create_dir(folder.path().join(part))?;
        }
        let units = folder.path().join("units");
        fs::write(units.join("tests.target"), FIRST_TARGET)?;
        fs::write(units.join("dbus.socket"), DBUS_SOCKET)?;
        for target in TARGETS {
            fs::write(units.join(target), "[Unit]\nDefaultDependencies=no\n")?;
        }
        for unit in LINKED {
            fs::copy(Path::new(UNITS).join(unit), units.join(unit)).with_context(|| format!("copy {unit}"))?;
        }
        let script = folder.path().join("boot.sh");
        fs::write(&script, include_str!("systemd/boot.sh"))?;
        let log = File::create(folder.path().join("console"))?;
        let mut boot = Command::new("sh");
        boot.arg(&script).arg(&cgroup).arg(folder.path()).arg(run_folder()?);
        boot.current_dir(folder.path()).process_group(0);
        let parent = boot.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn().context("boot systemd")?;
        let mut systemd = Self { folder, cgroup, parent, init: Pid::from_raw(0) };
        systemd.init = systemd.wait_for_init()?;
        let console = || systemd.console();
        let is_up = || systemd.try_run(&["systemctl", "is-active", "tests.target"]);
        wait::until("systemd to be up", PATIENCE, console, is_up)?;
        Ok(systemd)
    }

    /// A folder that is the same inside and outside.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Where a file inside is seen from outside.
    pub fn outside(&self, inside: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{inside}", self.init))
    }

    /// Writes a unit file, and makes systemd read it.
    pub fn unit(&self, name: &str, text: &str) -> Result<()> {
        let file = self.folder().join("units").join(name);
        // A drop-in lies in a folder of its unit's.
        fs::create_dir_all(file.parent().unwrap_or(self.folder()))?;
        fs::write(file, text).with_context(|| format!("write {name}"))?;
        self.run(&["systemctl", "daemon-reload"]).map(drop)
    }

    /// Runs a command inside to its end; an error shows everything it printed.
    pub fn run(&self, argv: &[&str]) -> Result<String> {
        install::run(self.inside(argv[0]).args(&argv[1..]))
    }

    /// Runs a command inside that may fail.
    pub fn try_run(&self, argv: &[&str]) -> Result<bool> {
        Ok(self.inside(argv[0]).args(&argv[1..]).output()?.status.success())
    }

    /// A property of a unit.
    pub fn property(&self, unit: &str, name: &str) -> Result<String> {
        Ok(self.run(&["systemctl", "show", "--value", "--property", name, unit])?.trim().to_owned())
    }

    /// Waits until a property of a unit has this value.
    pub fn wait_property(&self, unit: &str, name: &str, value: &str) -> Result<()> {
        let what = format!("{name} of {unit} to be {value}");
        let status = || self.run(&["systemctl", "show", unit]).unwrap_or_else(|error| format!("{error:#}"));
        wait::until(&what, PATIENCE, status, || Ok(self.property(unit, name)? == value))
    }

    /// What the journal holds of a syslog identifier.
    pub fn journal(&self, identifier: &str) -> Result<String> {
        self.run(&["journalctl", "--sync"])?;
        self.run(&["journalctl", "--no-pager", "-o", "cat", "-t", identifier])
    }

    /// What the journal holds of a unit, its own lines and systemd's about it.
    pub fn journal_of_unit(&self, unit: &str) -> Result<String> {
        self.run(&["journalctl", "--sync"])?;
        self.run(&["journalctl", "--no-pager", "-o", "cat", "-u", unit])
    }

    /// One of the watcher's commands, with a configuration and a state folder of its own, as root.
    pub fn watcher(&self, configuration: &str, arguments: &[&str]) -> Result<Command> {
        let program = shared_program("pg-keeper-watcher")?;
        let mut command = self.inside(&program.display().to_string());
        self.prepare_watcher(configuration)?;
        command.arg("-c").arg(self.watcher_file()).args(arguments);
        command.env("STATE_DIRECTORY", self.folder().join("state"));
        Ok(command)
    }

    /// The same, as another user than root.
    pub fn watcher_as_server_account(&self, configuration: &str, arguments: &[&str]) -> Result<Command> {
        self.prepare_watcher(configuration)?;
        let state = self.folder().join("state");
        folder::make(&state)?;
        let mut other = self.inside("setpriv");
        other.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]);
        other
            .arg(shared_program("pg-keeper-watcher")?)
            .arg("-c")
            .arg(self.watcher_file())
            .args(arguments)
            .env("STATE_DIRECTORY", state);
        Ok(other)
    }

    /// Runs one of the watcher's commands to its end.
    pub fn run_watcher(&self, configuration: &str, arguments: &[&str]) -> Result<Ended> {
        ended(&mut self.watcher(configuration, arguments)?)
    }

    /// Writes the watcher's configuration.
    pub fn prepare_watcher(&self, configuration: &str) -> Result<()> {
        fs::create_dir_all(self.folder().join("state"))?;
        fs::write(self.watcher_file(), configuration).context("write the watcher's configuration")
    }

    /// Where the watcher's configuration lies.
    pub fn watcher_file(&self) -> PathBuf {
        self.folder().join("watcher.yaml")
    }

    /// A program inside. Its working directory is our folder.
    pub fn inside(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--target={}", self.init));
        command.args(["--mount", "--pid", "--cgroup", "--uts", "--ipc"]);
        command.arg(format!("--wdns={}", self.folder().display())).arg("--").arg(program);
        command.stdin(Stdio::null()).env_remove("JOURNAL_STREAM").env_remove("NOTIFY_SOCKET");
        command
    }

    /// What systemd and the script that boots it said.
    pub fn console(&self) -> String {
        let text = fs::read_to_string(self.folder().join("console")).unwrap_or_default();
        format!("--- the console of systemd:\n{text}")
    }

    fn wait_for_init(&mut self) -> Result<Pid> {
        let console = self.folder().join("console");
        let evidence = || fs::read_to_string(&console).unwrap_or_default();
        let parent = &mut self.parent;
        wait::value("the start of systemd", PATIENCE, evidence, || {
            if parent.try_wait()?.is_some() {
                return Err(Hopeless("systemd cannot be booted here; see the header of tests/src/systemd.rs").into());
            }
            let children = process::children_of(&[Pid::from_raw(i32::try_from(parent.id())?)]);
            Ok(children.into_iter().find(|child| process::title(*child).starts_with("/lib/systemd/systemd")))
        })
    }
}

impl Drop for Systemd {
    fn drop(&mut self) {
        if self.init.as_raw() > 1 {
            let _ = kill(self.init, Signal::SIGKILL);
        }
        let _ = self.parent.kill();
        let _ = self.parent.wait();
        remove_cgroup(&self.cgroup);
    }
}

/// Runs a command to its end, whatever that is.
pub fn ended(command: &mut Command) -> Result<Ended> {
    let output = command.output().with_context(|| format!("start {command:?}"))?;
    let text = [output.stdout, output.stderr].concat();
    Ok(Ended { code: output.status.code(), text: String::from_utf8_lossy(&text).into_owned() })
}

/// Fails, saying what to do, where it cannot work.
fn require() -> Result<()> {
    ensure!(
        nix::unistd::Uid::effective().is_root(),
        "this test boots a systemd of its own and needs root: run it as root"
    );
    for (file, package) in [
        ("/lib/systemd/systemd", "systemd"),
        ("/usr/bin/dbus-daemon", "dbus"),
        ("/lib/systemd/system/dbus.service", "dbus"),
    ] {
        ensure!(Path::new(file).exists(), "this test boots a systemd of its own and needs {file}: install {package}");
    }
    Ok(())
}

/// A new cgroup, not made yet.
fn cgroup() -> Result<PathBuf> {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let root =
        cgroup_root().context("this test boots a systemd of its own and needs a cgroup2 file system: mount one")?;
    Ok(root.join(format!("{}{number}", prefix(run_mark()?))))
}

fn cgroup_root() -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
    mounts.lines().find_map(|line| {
        let mut words = line.split(' ').skip(1);
        let (place, kind) = (words.next()?, words.next()?);
        (kind == "cgroup2").then(|| PathBuf::from(place))
    })
}

fn prefix(mark: &str) -> String {
    format!("pgk-{mark}-")
}

/// Removes what a run left, for the reaper.
pub fn remove_all_of(run_folder: &Path) {
    let mark = run_folder.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let prefix = prefix(mark.rsplit('-').next().unwrap_or(mark));
    let Some(entries) = cgroup_root().and_then(|root| fs::read_dir(root).ok()) else { return };
    for entry in entries.flatten() {
        if entry.file_name().to_string_lossy().starts_with(&prefix) {
            remove_cgroup(&entry.path());
        }
    }
}

/// From the bottom up, once the last process is gone. The working directories of those inside tell nothing outside, so
/// that they are found here alone when the run was killed.
fn remove_cgroup(path: &Path) {
    let gone = || {
        kill_below(path);
        remove_below(path);
        Ok(!path.exists())
    };
    if let Err(error) = wait::until("a cgroup to be empty", PATIENCE, || path.display().to_string(), gone) {
        eprintln!("{error:#}");
    }
}

fn kill_below(path: &Path) {
    let processes = fs::read_to_string(path.join("cgroup.procs")).unwrap_or_default();
    // Zero stands for processes that are not seen from here.
    for pid in processes.lines().filter_map(|line| line.parse().ok()).filter(|pid| *pid > 0) {
        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
    }
    folders(path).iter().for_each(|below| kill_below(below));
}

fn remove_below(path: &Path) {
    folders(path).iter().for_each(|below| remove_below(below));
    let _ = fs::remove_dir(path);
}

fn folders(path: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|entry| entry.path()).collect()
}
