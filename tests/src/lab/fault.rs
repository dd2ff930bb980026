//! How a fault is prepared, struck, healed and undone.
//!
//! Everything here can be done again: a host that is not paused is not unpaused, what is not mounted is not unmounted. So [`calm`] can
//! take away whatever a run left that was broken off.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::case::{Case, Fault, Surroundings};
use super::health::sql;
use super::host::{Host, docker};
use super::{Lab, disk, hung};
use crate::node::PATIENCE;
use crate::wait;

/// How long a fault lasts that nobody waits for anything in: well beyond the window, and beyond the time in which a standby is dropped.
const LASTING: Duration = Duration::from_secs(8);
/// The same for a disk that hangs.
const HANGING: Duration = Duration::from_secs(20);
/// The same for hosts that have no CPU to spare.
const SATURATED: Duration = Duration::from_secs(300);

/// The table of ours in the packet filter of a host.
const FILTER: &str = "pg_keeper_matrix";

/// Who is what, when a round begins.
#[derive(Debug, Clone, Copy)]
pub struct Scene<'a> {
    /// The laboratory.
    pub lab: &'a Lab,
    /// The place of the primary.
    pub active: usize,
}

/// Which packets pass no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Barrier {
    Incoming,
    Outgoing,
    Both,
    Reject,
}

impl<'a> Scene<'a> {
    /// The server that is primary.
    pub fn primary(&self) -> &'a Host {
        &self.lab.databases[self.active]
    }

    /// The server that is standby.
    pub fn standby(&self) -> &'a Host {
        &self.lab.databases[1 - self.active]
    }

    fn first_application(&self) -> &'a Host {
        &self.lab.applications[0]
    }

    /// Makes the surroundings; done once, before the first round.
    pub fn prepare(&self, surroundings: Surroundings) -> Result<()> {
        let (lab, application) = (self.lab, self.first_application());
        match surroundings {
            Surroundings::Usual | Surroundings::ConfigurationManagement => Ok(()),
            Surroundings::SmallWal => disk::shrink_wal(lab, self.active),
            Surroundings::FullLog => disk::shrink_log(lab, self.active),
            Surroundings::FullWatcher => disk::shrink_watcher(application, disk::WATCHER),
            Surroundings::FullConfiguration => disk::shrink_watcher(application, disk::CONFIGURATION),
            Surroundings::ClockAhead => self.set_clock_ahead(),
            Surroundings::StartLimit => exhaust_starts(application),
            // As good as ignored: it stands for «nothing» in a process that does not ask for it.
            Surroundings::IgnoresTerminate => override_shop(application, "[Service]\nKillSignal=SIGURG\n"),
            Surroundings::HostDown => lab.applications[1].kill(),
            Surroundings::OwnDisk => hung::prepare(lab, self.active),
        }
    }

    /// Lets it befall.
    pub fn strike(&self, case: &Case) -> Result<()> {
        let (lab, primary, standby) = (self.lab, self.primary(), self.standby());
        match case.surroundings {
            Surroundings::FullLog => disk::fill(standby, &disk::log_folder(lab, standby)?)?,
            Surroundings::FullWatcher => disk::fill(self.first_application(), disk::WATCHER)?,
            Surroundings::FullConfiguration => disk::fill(self.first_application(), disk::CONFIGURATION)?,
            Surroundings::ConfigurationManagement => self.first_application().in_background(PUT_BACK)?,
            Surroundings::Usual
            | Surroundings::SmallWal
            | Surroundings::ClockAhead
            | Surroundings::StartLimit
            | Surroundings::IgnoresTerminate
            | Surroundings::HostDown
            | Surroundings::OwnDisk => (),
        }
        match case.fault {
            Fault::KillPostmaster => self.kill_postmaster(primary),
            Fault::KillHost => primary.kill(),
            Fault::Pause => primary.pause(),
            Fault::CutDatabases => bar(primary, Barrier::Both, &standby.addresses()?),
            Fault::CutApplications => {
                let addresses = lab.applications.iter().map(Host::addresses).collect::<Result<Vec<_>>>()?;
                bar(primary, Barrier::Both, &addresses.concat())
            }
            Fault::CutEverything => bar(primary, Barrier::Both, &[]),
            Fault::DropOutgoing => bar(primary, Barrier::Outgoing, &standby.addresses()?),
            Fault::DropIncoming => bar(primary, Barrier::Incoming, &standby.addresses()?),
            Fault::Reject => bar(primary, Barrier::Reject, &standby.addresses()?),
            Fault::WalDiskFull => disk::fill_wal(lab, primary),
            Fault::Restart(down) => {
                // How long it is down is the fault itself. One command, as reaching a host takes a while.
                let unit = lab.unit();
                primary
                    .sh(&format!("systemctl stop {unit}; sleep {}; systemctl start {unit}", down.as_secs()))
                    .map(drop)
            }
            Fault::KillStandbyPostmaster => self.kill_postmaster(standby),
            Fault::KillStandbyHost => standby.kill(),
            Fault::KillBoth => on_both("kill", lab),
            Fault::NamesGone => self.take_names_away(),
            Fault::SlowDisk => self.slow_down(primary),
            Fault::Saturated => {
                let busy = format!(
                    "for n in 1 2 3 4; do timeout {} sh -c 'while :; do :; done' & done; wait",
                    SATURATED.as_secs()
                );
                lab.databases.iter().try_for_each(|host| host.in_background(&busy))
            }
            Fault::HungDisk => hung::freeze(lab, self.active),
        }
    }

    /// Takes the fault away, and starts what it ended. A server that was replaced meanwhile is not rejoined yet.
    pub fn heal(&self, case: &Case) -> Result<()> {
        let (lab, primary, standby) = (self.lab, self.primary(), self.standby());
        match case.surroundings {
            Surroundings::FullLog => disk::free(standby, &disk::log_folder(lab, standby)?)?,
            Surroundings::FullWatcher => disk::free(self.first_application(), disk::WATCHER)?,
            Surroundings::FullConfiguration => disk::free(self.first_application(), disk::CONFIGURATION)?,
            // The server is down, for want of room.
            Surroundings::SmallWal => disk::grow_wal(lab, primary)?,
            Surroundings::HostDown => lab.applications[1].start()?,
            Surroundings::Usual
            | Surroundings::ClockAhead
            | Surroundings::StartLimit
            | Surroundings::IgnoresTerminate
            | Surroundings::ConfigurationManagement
            | Surroundings::OwnDisk => (),
        }
        match case.fault {
            Fault::KillPostmaster | Fault::WalDiskFull => self.start_server(primary),
            Fault::KillHost => primary.start(),
            Fault::Pause => primary.unpause(),
            Fault::CutDatabases
            | Fault::CutApplications
            | Fault::CutEverything
            | Fault::DropOutgoing
            | Fault::DropIncoming
            | Fault::Reject => open(primary),
            Fault::Restart(_) | Fault::Saturated => Ok(()),
            Fault::KillStandbyPostmaster => self.start_server(standby),
            Fault::KillStandbyHost => standby.start(),
            Fault::KillBoth => on_both("start", lab),
            Fault::NamesGone => lab.hosts().try_for_each(open),
            Fault::SlowDisk => speed_up(primary),
            Fault::HungDisk => hung::thaw(lab, self.active),
        }
    }

    /// Makes the surroundings usual again; done once, when the pair is healthy. The scene is that of the first round.
    pub fn undo(&self, surroundings: Surroundings) -> Result<()> {
        let application = self.first_application();
        match surroundings {
            Surroundings::Usual | Surroundings::SmallWal | Surroundings::HostDown => Ok(()),
            Surroundings::FullLog => disk::grow_log(self.lab, 1 - self.active),
            Surroundings::FullWatcher => disk::grow_watcher(application, disk::WATCHER),
            Surroundings::FullConfiguration => disk::grow_watcher(application, disk::CONFIGURATION),
            Surroundings::ClockAhead => self.set_clock_right(),
            Surroundings::StartLimit | Surroundings::IgnoresTerminate => override_shop(application, ""),
            Surroundings::ConfigurationManagement => {
                application.sh(&format!("sed -i '/{MANAGED}/d' /srv/shop/env.yaml")).map(drop)
            }
            Surroundings::OwnDisk => hung::undo(self.lab, self.active),
        }
    }

    fn take_names_away(&self) -> Result<()> {
        let lab = self.lab;
        for host in lab.hosts() {
            host.sh(&format!("nft '{}'", names_barrier()))?;
        }
        let end = "select pg_terminate_backend(pid) from pg_stat_activity where backend_type = 'walsender'";
        lab.databases.iter().try_for_each(|host| sql(host, "postgres", end).map(drop))
    }

    fn kill_postmaster(&self, host: &Host) -> Result<()> {
        host.sh(&format!("kill -KILL $(head -n 1 {}/postmaster.pid)", self.lab.data())).map(drop)
    }

    /// Starts the server, if it does not run.
    fn start_server(&self, host: &Host) -> Result<()> {
        let unit = self.lab.unit();
        host.sh(&format!("systemctl reset-failed {unit} 2>/dev/null; systemctl start {unit}")).map(drop)
    }

    fn set_clock_ahead(&self) -> Result<()> {
        let (lab, host) = (self.lab, self.standby());
        let file = format!("/etc/postgresql/{}/main/environment", lab.major);
        host.sh(&format!(
            "library=$(ls /usr/lib/*/faketime/libfaketime.so.1) && printf '%s\\n' \"LD_PRELOAD = '$library'\" \"FAKETIME = '+3600'\" \
             \"FAKETIME_DONT_FAKE_MONOTONIC = '1'\" >> {file} && systemctl restart {}",
            lab.unit()
        ))?;
        // Its own answer, as a library that was not preloaded would change nothing.
        let real = host.sh("date +%s")?.parse::<i64>()?;
        wait::until("the server's clock to be ahead", PATIENCE, String::new, || {
            Ok(sql(host, "postgres", "select extract(epoch from clock_timestamp())::bigint")?.parse::<i64>()?
                > real + 3500)
        })
    }

    fn set_clock_right(&self) -> Result<()> {
        let lab = self.lab;
        let file = format!("/etc/postgresql/{}/main/environment", lab.major);
        self.standby()
            .sh(&format!("sed -i '/^LD_PRELOAD/d; /^FAKETIME/d' {file} && systemctl restart {}", lab.unit()))
            .map(drop)
    }

    fn slow_down(&self, host: &Host) -> Result<()> {
        let script = format!(
            "postmaster=$(head -n 1 {}/postmaster.pid); \
             for process in $postmaster $(pgrep -P $postmaster); do set -- \"$@\" -p $process; done; \
             echo $$ > /tmp/strace.pid; \
             exec strace -qq -f -o /dev/null -e trace=fsync,fdatasync -e inject=fsync,fdatasync:delay_enter=200000 \"$@\"",
            self.lab.data()
        );
        host.in_background(&script)?;
        // Somebody traces the postmaster.
        let traced =
            format!("grep -q 'TracerPid:.*[1-9]' /proc/$(head -n 1 {}/postmaster.pid)/status", self.lab.data());
        wait::until("strace to be attached", PATIENCE, String::new, || host.sh(&traced).map(|_| true))
    }
}

/// Kills the application until systemd does not start it any more.
fn exhaust_starts(host: &Host) -> Result<()> {
    override_shop(
        host,
        "[Unit]\nStartLimitIntervalSec=1h\nStartLimitBurst=2\n[Service]\nRestart=always\nRestartSec=100ms\n",
    )?;
    // One that is to be restarted in a moment is "activating" until then.
    let kill = "systemctl kill --signal=KILL shop.service 2>/dev/null; sleep 0.3; systemctl show --value -p ActiveState shop.service";
    wait::until("the application to be in its start limit", PATIENCE, String::new, || Ok(host.sh(kill)? == "failed"))
}

/// How long the fault lasts where no failover ends the waiting.
pub fn lasts(fault: Fault) -> Duration {
    if fault == Fault::Saturated {
        SATURATED
    } else if fault == Fault::HungDisk {
        HANGING
    } else if matches!(fault, Fault::Restart(_)) {
        // It has come back when the strike is over.
        Duration::ZERO
    } else {
        LASTING
    }
}

/// The applications that write before the fault.
pub fn served_before(surroundings: Surroundings) -> &'static [usize] {
    if surroundings == Surroundings::StartLimit {
        &[1]
    } else if surroundings == Surroundings::HostDown {
        &[0]
    } else {
        &[0, 1]
    }
}

/// The applications that are served again before the fault is healed.
pub fn served_after(surroundings: Surroundings) -> &'static [usize] {
    if matches!(surroundings, Surroundings::FullWatcher | Surroundings::FullConfiguration) {
        &[1]
    } else if surroundings == Surroundings::HostDown {
        &[0]
    } else {
        &[0, 1]
    }
}

/// One command of docker's for both database hosts, as the time between two is enough for a failover.
fn on_both(verb: &str, lab: &Lab) -> Result<()> {
    let [one, other] = &lab.databases;
    docker(&[verb, one.container(), other.container()]).map(drop)
}

fn speed_up(host: &Host) -> Result<()> {
    host.sh("[ ! -e /tmp/strace.pid ] || kill -INT $(cat /tmp/strace.pid) 2>/dev/null; rm -f /tmp/strace.pid").map(drop)
}

/// Waits for the watcher's rewrite and then puts the file back that was there before, with a line of its own, as a run of configuration
/// management does that began before the failover.
const PUT_BACK: &str = "cd /srv/shop && cp -p env.yaml /tmp/before && while cmp -s env.yaml /tmp/before; do sleep 0.02; done; \
     cp -p /tmp/before env.yaml.managed && echo '# by configuration management' >> env.yaml.managed && mv env.yaml.managed env.yaml";
/// What its line says.
pub const MANAGED: &str = "by configuration management";

/// No packets but to oneself, or none from and to these addresses.
fn bar(host: &Host, barrier: Barrier, addresses: &[String]) -> Result<()> {
    let list = addresses.join(", ");
    let (from, to) = if addresses.is_empty() {
        ("iif != lo".to_owned(), "oif != lo".to_owned())
    } else {
        (format!("ip saddr {{ {list} }}"), format!("ip daddr {{ {list} }}"))
    };
    let rule = |chain: &str, rest: &str| format!("add rule inet {FILTER} {chain} {rest}; ");
    let mut rules = chains();
    match barrier {
        Barrier::Incoming => rules += &rule("incoming", &format!("{from} drop")),
        Barrier::Outgoing => rules += &rule("outgoing", &format!("{to} drop")),
        Barrier::Both => {
            rules += &rule("incoming", &format!("{from} drop"));
            rules += &rule("outgoing", &format!("{to} drop"));
        }
        Barrier::Reject => {
            rules += &rule("incoming", &format!("{from} meta l4proto tcp reject with tcp reset"));
            rules += &rule("outgoing", &format!("{to} meta l4proto tcp reject with tcp reset"));
        }
    }
    host.sh(&format!("nft '{rules}'")).map(drop)
}

fn chains() -> String {
    let chain = |name: &str, hook: &str| {
        format!("add chain inet {FILTER} {name} {{ type filter hook {hook} priority 0; policy accept; }}; ")
    };
    format!("add table inet {FILTER}; {}{}", chain("incoming", "input"), chain("outgoing", "output"))
}

/// Docker's own name server, whatever port it is really at.
fn names_barrier() -> String {
    format!("{}add rule inet {FILTER} outgoing ip daddr 127.0.0.11 drop", chains())
}

/// Takes away all barriers.
fn open(host: &Host) -> Result<()> {
    host.sh(&format!("nft delete table inet {FILTER} 2>/dev/null || [ -z \"$(nft list tables | grep {FILTER})\" ]"))
        .map(drop)
}

/// Another unit file part for the application; none for an empty one.
fn override_shop(host: &Host, text: &str) -> Result<()> {
    let folder = "/etc/systemd/system/shop.service.d";
    let script = if text.is_empty() {
        format!(
            "rm -f {folder}/matrix.conf; systemctl daemon-reload; systemctl reset-failed shop.service 2>/dev/null; systemctl start shop.service"
        )
    } else {
        format!("printf '%s' '{text}' > {folder}/matrix.conf && systemctl daemon-reload")
    };
    host.sh(&script).map(drop)
}

/// Whether the file says what configuration management put there, as it must be kept.
pub fn management_is_kept(lab: &Lab) -> Result<()> {
    let file = lab.applications[0].sh("cat /srv/shop/env.yaml")?;
    ensure!(file.contains(MANAGED), "the line of configuration management is gone from env.yaml:\n{file}");
    Ok(())
}

/// Takes away whatever a run has left that was broken off, and starts what does not run.
pub fn calm(lab: &Lab) -> Result<()> {
    for host in lab.hosts() {
        host.unpause()?;
        if !host.is_running()? {
            host.start()?;
        }
        open(host).with_context(|| format!("open {}", host.name()))?;
    }
    for place in 0..2 {
        hung::thaw(lab, place)?;
        let scene = Scene { lab, active: place };
        speed_up(scene.primary())?;
        disk::grow_all(lab, place)?;
        hung::undo(lab, place)?;
        let file = format!("/etc/postgresql/{}/main/environment", lab.major);
        scene.primary().sh(&format!("sed -i '/^LD_PRELOAD/d; /^FAKETIME/d' {file} 2>/dev/null || true"))?;
        // A host that boots starts it itself.
        let _ = scene.start_server(scene.primary());
    }
    let first = &lab.applications[0];
    for folder in [disk::WATCHER, disk::CONFIGURATION] {
        disk::grow_watcher(first, folder)?;
    }
    override_shop(first, "")
}
