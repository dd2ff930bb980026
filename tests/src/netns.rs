//! Two network namespaces joined by a cable that can be cut so that packets vanish without a word.
//!
//! Needs root. The cable is a veth pair whose ends lie inside the two namespaces, so nothing is added to the machine's
//! own network and every pair of namespaces can use the same addresses.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, bail, ensure};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};

use crate::folder::run_mark;
use crate::install;

/// Where iproute2 keeps its namespaces.
const NAMESPACES: &str = "/run/netns";

/// The addresses of the two ends.
const ADDRESSES: [&str; 2] = ["10.213.0.1", "10.213.0.2"];

/// The network that both ends are in.
pub const NETWORK: &str = "10.213.0.0/24";

/// One namespace.
#[derive(Debug, Clone)]
pub struct Namespace {
    name: String,
    /// The address of its end of the cable.
    pub address: &'static str,
}

/// Two namespaces and the cable between them; removed when dropped.
#[derive(Debug)]
pub struct Link {
    /// The two ends.
    pub ends: [Namespace; 2],
}

/// Whether tests that need namespaces can run. An error when they cannot and nobody said that this is accepted: a test
/// that skips itself silently proves nothing.
pub fn available() -> Result<bool> {
    if std::env::var_os("PG_KEEPER_TESTS_WITHOUT_NETNS").is_some_and(|value| value == "1") {
        eprintln!("left out, as PG_KEEPER_TESTS_WITHOUT_NETNS=1 says: tests that need network namespaces");
        return Ok(false);
    }
    let accept = "or set PG_KEEPER_TESTS_WITHOUT_NETNS=1 to leave this test out";
    ensure!(
        nix::unistd::Uid::effective().is_root(),
        "this test makes network namespaces and needs root: run it as root, {accept}"
    );
    for tool in ["ip", "nft"] {
        let found = Command::new(tool).arg("-V").output().is_ok_and(|output| output.status.success());
        ensure!(found, "this test needs the program {tool}: install iproute2 and nftables, {accept}");
    }
    Ok(true)
}

impl Link {
    /// Makes both namespaces and the cable.
    pub fn create() -> Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let mark = run_mark()?;
        let end =
            |side: usize| Namespace { name: format!("{}{number}-{side}", prefix(mark)), address: ADDRESSES[side] };
        // Made before the commands run, so that a failure half-way removes what is there.
        let link = Self { ends: [end(0), end(1)] };
        for end in &link.ends {
            ip(&["netns", "add", &end.name])?;
            ip(&["-n", &end.name, "link", "set", "lo", "up"])?;
        }
        let [one, two] = &link.ends;
        ip(&["link", "add", "cable", "netns", &one.name, "type", "veth", "peer", "name", "cable", "netns", &two.name])?;
        for end in &link.ends {
            ip(&["-n", &end.name, "address", "add", &format!("{}/24", end.address), "dev", "cable"])?;
            ip(&["-n", &end.name, "link", "set", "cable", "up"])?;
        }
        Ok(link)
    }

    /// From now on every packet between the two vanishes.
    pub fn drop_packets(&self) -> Result<()> {
        self.ends[0].run(|| {
            let rules = "table inet cut { chain in { type filter hook input priority 0; iifname \"cable\" drop; }; \
                         chain out { type filter hook output priority 0; oifname \"cable\" drop; }; }";
            install::run(Command::new("nft").arg(rules))
        })??;
        Ok(())
    }

    /// Packets pass again.
    pub fn heal(&self) -> Result<()> {
        self.ends[0].run(|| install::run(Command::new("nft").args(["delete", "table", "inet", "cut"])))??;
        Ok(())
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        for end in &self.ends {
            let _ = Command::new("ip").args(["netns", "delete", &end.name]).output();
        }
    }
}

impl Namespace {
    /// Does something inside the namespace; a process started there stays there.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        let path = Path::new(NAMESPACES).join(&self.name);
        let namespace = fs::File::open(&path).with_context(|| format!("open {}", path.display()))?;
        in_thread(|| {
            setns(&namespace, CloneFlags::CLONE_NEWNET).context("enter the network namespace")?;
            Ok(work())
        })
    }
}

/// Does something where the file stands in the place of /etc/hosts; a process started there goes on seeing it.
pub fn with_hosts_file<T: Send>(hosts: &Path, work: impl FnOnce() -> T + Send) -> Result<T> {
    in_thread(|| {
        unshare(CloneFlags::CLONE_NEWNS).context("leave the mount namespace")?;
        let none: Option<&str> = None;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).context("make mounts private")?;
        mount(Some(hosts), "/etc/hosts", none, MsFlags::MS_BIND, none).context("put a file over /etc/hosts")?;
        Ok(work())
    })
}

/// A namespace belongs to a thread, so a thread of its own leaves everyone else where they are.
fn in_thread<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    std::thread::scope(|scope| match scope.spawn(work).join() {
        Ok(result) => result,
        Err(_) => bail!("a thread in a namespace of its own panicked"),
    })
}

/// Removes what a run left, for the reaper.
pub fn remove_all_of(run_folder: &Path) {
    let mark = run_folder.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let prefix = prefix(mark.rsplit('-').next().unwrap_or(mark));
    let Ok(entries) = fs::read_dir(NAMESPACES) else { return };
    for name in entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()) {
        if name.starts_with(&prefix) {
            let _ = Command::new("ip").args(["netns", "delete", &name]).output();
        }
    }
}

fn prefix(mark: &str) -> String {
    format!("pgk-{mark}-")
}

fn ip(arguments: &[&str]) -> Result<()> {
    install::run(Command::new("ip").args(arguments)).map(drop)
}
