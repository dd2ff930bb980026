//! The watcher as its Debian package installs it: the unit with all its restrictions, under a real systemd, the drop-ins that
//! it prints, and the way without root.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::PathBuf;

use anyhow::{Context, Result};
use keeper_tests::folder::shared_program;
use keeper_tests::node::PATIENCE;
use keeper_tests::systemd::host::{FILE, Host, RUN, unit};
use keeper_tests::wait;
use keeper_tests::watcher::{restart_by, target_section};

const UNIT: &str = include_str!("../../watcher/packaging/pg-keeper-watcher.service");
const UNPRIVILEGED: &str = include_str!("../../watcher/packaging/UNPRIVILEGED.md");
const UNPRIVILEGED_DROPIN: &str = include_str!("../../watcher/packaging/examples/unprivileged.conf");
const POLKIT_RULE: &str = include_str!("../../watcher/packaging/examples/50-pg-keeper-watcher.rules");

const WATCHER: &str = "pg-keeper-watcher.service";
const PROGRAM: &str = "/usr/bin/pg-keeper-watcher";
const CONFIGURATION: &str = "/etc/pg-keeper-watcher/watcher.yaml";

/// What CAP_CHOWN, CAP_DAC_OVERRIDE, CAP_FOWNER and CAP_KILL are together.
const FOUR_CAPABILITIES: &str = "000000000000002b";

/// Somebody who is neither root nor the watcher, as the owner of the application's file.
const OWNER: u32 = 65534;

/// A host on which the package was installed and configured.
struct Site {
    host: Host,
    /// The folder of the application's file, as it is seen inside.
    folder: &'static str,
}

impl Site {
    /// Installs what the package holds; the drop-in and the start are the administrator's.
    fn install(name: &str) -> Result<Self> {
        let site = Self { host: Host::boot(name)?, folder: "/srv/shop" };
        let program = shared_program("pg-keeper-watcher")?.display().to_string();
        site.run(&["install", "-m", "755", &program, PROGRAM])?;
        site.run(&["mkdir", "-p", "/etc/pg-keeper-watcher", site.folder])?;
        site.host.systemd.unit(WATCHER, UNIT)?;
        site.put_file()?;
        site.configure(&site.host.nodes())?;
        Ok(site)
    }

    fn run(&self, argv: &[&str]) -> Result<String> {
        self.host.systemd.run(argv)
    }

    /// The application's file, as it is seen inside.
    fn file(&self) -> PathBuf {
        PathBuf::from(self.folder).join("env.yaml")
    }

    /// The same, as it is seen outside.
    fn file_outside(&self) -> PathBuf {
        self.host.systemd.outside(&self.file().display().to_string())
    }

    /// The file as it was in the beginning, of an owner of its own.
    fn put_file(&self) -> Result<()> {
        let file = self.file_outside();
        fs::write(&file, FILE)?;
        chown(&file, Some(OWNER), Some(OWNER))?;
        Ok(fs::set_permissions(&file, fs::Permissions::from_mode(0o640))?)
    }

    fn configure(&self, nodes: &str) -> Result<()> {
        self.configure_restart(nodes, &unit("shop.service", ", settle: 100ms, kill_after: 1s"))
    }

    fn configure_restart(&self, nodes: &str, restart: &str) -> Result<()> {
        let text = nodes.to_owned() + &target_section(&self.file(), restart);
        Ok(fs::write(self.host.systemd.outside(CONFIGURATION), text)?)
    }

    /// As README tells administrators to do it, for the watcher's own unit or the application's.
    fn drop_in(&self, unit: &str) -> Result<()> {
        let own = unit == WATCHER;
        let mut argv = vec![PROGRAM, "check", "--systemd-dropin"];
        argv.extend((!own).then_some(unit));
        let text = self.run(&argv)?;
        let name = if own { "targets.conf" } else { "pg-keeper-watcher.conf" };
        self.host.systemd.unit(&format!("{unit}.d/{name}"), &text)
    }

    fn start(&self) -> Result<()> {
        let started = self.run(&["systemctl", "start", WATCHER]);
        started.with_context(|| self.journal())?;
        Ok(())
    }

    fn property(&self, name: &str) -> Result<String> {
        self.host.systemd.property(WATCHER, name)
    }

    /// What the watcher and systemd said of it.
    fn journal(&self) -> String {
        self.host.systemd.journal_of_unit(WATCHER).unwrap_or_else(|error| format!("{error:#}"))
    }

    fn wait_said(&self, words: &str) -> Result<()> {
        let said = || Ok(self.journal().contains(words));
        wait::until(&format!("the watcher to say «{words}»"), PATIENCE, || self.journal(), said)
    }

    fn content(&self) -> String {
        fs::read_to_string(self.file_outside()).unwrap_or_default()
    }

    /// What the file is to become.
    fn rewritten(&self) -> String {
        let address = self.host.primary.address();
        FILE.replace("old:1", &address).replace("old:2", &address)
    }

    /// A line of the watcher's /proc/PID/status.
    fn process_status(&self, key: &str) -> Result<String> {
        let status = self.run(&["cat", &format!("/proc/{}/status", self.property("MainPID")?)])?;
        let line = status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
        Ok(line.with_context(|| status.clone())?.trim().to_owned())
    }

    /// Whether anybody, root among them, can write there as the watcher sees the file system.
    fn is_writable_to_it(&self, folder: &str) -> Result<bool> {
        let pid = self.property("MainPID")?;
        let file = format!("{folder}/written");
        self.host.systemd.try_run(&["nsenter", "--target", &pid, "--mount", "touch", &file])
    }
}

#[test]
fn it_rewrites_and_restarts_under_all_its_restrictions() -> Result<()> {
    let site = Site::install("packaged")?;
    let host = &site.host;
    site.drop_in(WATCHER)?;
    host.shop("", RUN)?;
    host.start_shop()?;
    site.start()?;
    // It is up once it says so itself.
    assert_eq!((site.property("Type")?, site.property("ActiveState")?), ("notify".to_owned(), "active".to_owned()));
    site.wait_said("restart finished")?;
    host.assert_starts(2)?;
    host.assert_active()?;
    assert_eq!(site.content(), site.rewritten(), "{}", site.journal());
    let file = fs::metadata(site.file_outside())?;
    assert_eq!((file.uid(), file.gid(), file.mode() & 0o7777), (OWNER, OWNER, 0o640));
    host.systemd.wait_property(WATCHER, "StatusText", "active node is db01 (timeline 1)")?;
    assert!(host.systemd.outside("/var/lib/pg-keeper-watcher/state.yaml").exists());

    // The restrictions are there.
    for set in ["CapPrm", "CapEff", "CapBnd"] {
        assert_eq!(site.process_status(set)?, FOUR_CAPABILITIES, "{set}");
    }
    assert_eq!((site.process_status("NoNewPrivs")?, site.process_status("Seccomp")?), ("1".to_owned(), "2".to_owned()));
    for (folder, writable) in
        [(site.folder, true), ("/var/lib/pg-keeper-watcher", true), ("/srv", false), ("/etc", false), ("/usr", false)]
    {
        assert_eq!(site.is_writable_to_it(folder)?, writable, "{folder}");
    }
    assert_eq!(site.property("NRestarts")?, "0");
    Ok(())
}

/// Without the drop-in it says at its start what would fail, leaves the file as it is, and stays up.
#[test]
fn without_its_dropin_it_says_what_is_missing() -> Result<()> {
    let site = Site::install("nodropin")?;
    site.start()?;
    site.wait_said("/srv/shop: the folder is not writable")?;
    site.wait_said("Read-only file system")?;
    assert_eq!((site.content().as_str(), site.property("ActiveState")?.as_str()), (FILE, "active"));
    site.drop_in(WATCHER)?;
    site.run(&["systemctl", "restart", WATCHER])?;
    site.wait_said("rewrote")?;
    assert_eq!(site.content(), site.rewritten());
    Ok(())
}

#[test]
fn a_reload_takes_a_good_configuration_and_keeps_the_old_one_from_a_bad_one() -> Result<()> {
    let site = Site::install("unitreload")?;
    site.drop_in(WATCHER)?;
    site.start()?;
    let pid = site.property("MainPID")?;
    site.configure("nodes: {}\n")?;
    site.run(&["systemctl", "reload", WATCHER])?;
    site.wait_said("the old configuration stays")?;
    site.host.systemd.wait_property(WATCHER, "ActiveState", "active")?;
    site.configure(&site.host.nodes().replace("db02", "other"))?;
    site.run(&["systemctl", "reload", WATCHER])?;
    site.wait_said("watching db01 and other for 1 targets")?;
    site.host.systemd.wait_property(WATCHER, "ActiveState", "active")?;
    assert_eq!((site.property("MainPID")?, site.property("NRestarts")?), (pid, "0".to_owned()));
    Ok(())
}

/// One that hangs is found by systemd's watchdog, and one that dies is started again.
#[test]
fn it_is_started_again_when_it_hangs_and_when_it_dies() -> Result<()> {
    let site = Site::install("watchdog")?;
    let host = &site.host;
    site.drop_in(WATCHER)?;
    host.systemd.unit(&format!("{WATCHER}.d/watchdog.conf"), "[Service]\nWatchdogSec=2\n")?;
    site.start()?;
    site.wait_said("rewrote")?;
    // It is fed: an idle one outlives it.
    std::thread::sleep(std::time::Duration::from_secs(5));
    assert_eq!(site.property("NRestarts")?, "0", "{}", site.journal());
    // Nothing but the watchdog ends a process that has been stopped.
    site.run(&["systemctl", "kill", "--signal=STOP", WATCHER])?;
    host.systemd.wait_property(WATCHER, "NRestarts", "1")?;
    host.systemd.wait_property(WATCHER, "ActiveState", "active")?;
    site.run(&["systemctl", "kill", "--signal=KILL", WATCHER])?;
    host.systemd.wait_property(WATCHER, "NRestarts", "2")?;
    host.systemd.wait_property(WATCHER, "ActiveState", "active")?;
    Ok(())
}

/// It ends soon and with success, and what a restart is running goes on without it.
#[test]
fn a_stop_ends_it_alone() -> Result<()> {
    let site = Site::install("unitstop")?;
    let host = &site.host;
    let done = host.path("done");
    let script = format!("while test ! -e {}; do sleep 0.1; done; touch {}", host.path("go").display(), done.display());
    let command = restart_by(&["/bin/sh", "-c", &script].map(str::to_owned));
    site.configure_restart(&host.nodes(), &command)?;
    site.drop_in(WATCHER)?;
    // Where the command writes is its own affair, as the drop-in says.
    let folder = format!("[Service]\nReadWritePaths={}\n", host.systemd.folder().display());
    host.systemd.unit(&format!("{WATCHER}.d/command.conf"), &folder)?;
    site.start()?;
    site.wait_said("restart issued")?;
    site.run(&["systemctl", "stop", WATCHER])?;
    assert_eq!(
        (
            site.property("ActiveState")?.as_str(),
            site.property("Result")?.as_str(),
            site.property("ExecMainStatus")?.as_str()
        ),
        ("inactive", "success", "0"),
        "{}",
        site.journal()
    );
    fs::write(host.path("go"), "")?;
    host.wait_for("done")?;
    Ok(())
}

/// Not configured yet is no failure; a configuration that is refused is one, and is not tried again and again.
#[test]
fn one_that_cannot_start() -> Result<()> {
    let site = Site::install("unitconfig")?;
    let configuration = site.host.systemd.outside(CONFIGURATION);
    let text = fs::read_to_string(&configuration)?;
    fs::remove_file(&configuration)?;
    site.start()?;
    assert_eq!(
        (site.property("ActiveState")?.as_str(), site.property("ConditionResult")?.as_str()),
        ("inactive", "no")
    );
    fs::write(&configuration, "nodes: {}\n")?;
    assert!(!site.host.systemd.try_run(&["systemctl", "start", WATCHER])?);
    assert_eq!(
        (
            site.property("ActiveState")?.as_str(),
            site.property("ExecMainStatus")?.as_str(),
            site.property("NRestarts")?.as_str()
        ),
        ("failed", "78", "0"),
        "{}",
        site.journal()
    );
    fs::write(&configuration, text)?;
    site.start()
}

/// The application's own drop-in: it starts with its file up to date, whatever its own unit's restrictions are, and starts
/// with the file as it is where no active node is known.
#[test]
fn an_application_starts_on_the_active_node() -> Result<()> {
    let site = Site::install("prestart")?;
    let host = &site.host;
    site.drop_in(WATCHER)?;
    let script = format!("cat {} > seen.new\nmv seen.new seen\n{RUN}", site.file().display());
    let seen = || fs::read_to_string(host.path("seen")).unwrap_or_default();
    // What the application reads when it starts, the first time; a daemon would have it started once more.
    let reads = || -> Result<String> {
        let _ = fs::remove_file(host.path("seen"));
        host.start_shop()?;
        wait::until("the application to read its file", PATIENCE, seen, || Ok(seen().ends_with('\n')))?;
        Ok(seen())
    };
    let restrictions = "User=nobody\nStateDirectory=shop\nProtectSystem=strict\nNoNewPrivileges=yes\n";
    let own = format!("{restrictions}ReadWritePaths={}\n", host.systemd.folder().display());
    fs::set_permissions(host.systemd.folder(), fs::Permissions::from_mode(0o777))?;
    host.shop(&own, &script)?;
    site.drop_in("shop.service")?;

    // Without the daemon.
    assert_eq!(reads()?, site.rewritten());
    host.systemd.run(&["systemctl", "stop", "shop.service"])?;

    // Beside a daemon, which is not to come first.
    site.configure(&(host.nodes() + "polling: {interval: 1h}\n"))?;
    site.start()?;
    site.wait_said("active node is db01")?;
    site.put_file()?;
    assert_eq!(reads()?, site.rewritten());
    host.systemd.run(&["systemctl", "stop", "shop.service"])?;

    // Nobody is active.
    host.primary.stop_fast()?;
    site.run(&["systemctl", "restart", WATCHER])?;
    site.wait_said("no active node")?;
    site.put_file()?;
    assert_eq!(reads()?, FILE);
    let said = host.systemd.journal_of_unit("shop.service")?;
    assert!(said.contains("no active node"), "{said}");
    Ok(())
}

/// Follows the steps of UNPRIVILEGED.md, the very commands that stand there.
#[test]
fn it_works_without_root() -> Result<()> {
    let mut site = Site::install("unprivileged")?;
    let commands: Vec<&str> = UNPRIVILEGED
        .lines()
        .filter_map(|line| line.strip_prefix("       "))
        .filter(|line| !line.starts_with(' '))
        .collect();
    let (run_as_user, steps) = commands.split_last().context("commands in UNPRIVILEGED.md")?;
    // The application as the page has it.
    site.folder = "/srv/shop/config";
    site.run(&["mkdir", "-p", site.folder])?;
    site.run(&["addgroup", "--system", "shop"])?;
    site.put_file()?;
    site.configure(&site.host.nodes())?;
    site.run(&["touch", "/etc/pg-keeper-watcher/pgpass"])?;
    site.host.shop("", RUN)?;
    site.host.start_shop()?;
    let polkit = fs::read_to_string("/lib/systemd/system/polkit.service").context("install polkitd")?;
    site.host.systemd.unit("polkit.service", &polkit)?;
    // The daemon may have run as root before.
    site.drop_in(WATCHER)?;
    site.start()?;
    site.wait_said("restart finished")?;
    site.host.assert_starts(2)?;
    site.put_file()?;

    fs::write(site.host.systemd.outside("/etc/polkit-1/rules.d/50-pg-keeper-watcher.rules"), POLKIT_RULE)?;
    site.host.systemd.unit(&format!("{WATCHER}.d/unprivileged.conf"), UNPRIVILEGED_DROPIN)?;
    for step in steps {
        site.run(&["sh", "-ec", step]).with_context(|| format!("{step}\n{}", site.journal()))?;
    }
    let rewritten = || Ok(site.content() == site.rewritten());
    wait::until("the file to be rewritten", PATIENCE, || site.journal(), rewritten)?;
    site.host.assert_starts(3).with_context(|| site.journal())?;
    assert_eq!(site.property("User")?, "pg-keeper-watcher");
    for set in ["CapPrm", "CapEff", "CapBnd"] {
        assert_eq!(site.process_status(set)?, "0000000000000000", "{set}");
    }
    let group = site.run(&["stat", "-c", "%U:%G %a", &site.file().display().to_string()])?;
    assert_eq!(group.trim(), "pg-keeper-watcher:shop 640");

    // Also one that has failed, in its start limit, and one that does not stop.
    site.host.shop(
        "[Unit]\nStartLimitIntervalSec=1h\nStartLimitBurst=1\n",
        "trap '' TERM\ntouch ready\nwhile :; do sleep 1; done",
    )?;
    site.run(&["systemctl", "kill", "--signal=KILL", "shop.service"])?;
    site.host.systemd.wait_property("shop.service", "ActiveState", "failed")?;
    fs::write(site.file_outside(), FILE)?;
    site.host.assert_starts(4).with_context(|| site.journal())?;
    site.host.wait_for("ready")?;
    fs::write(site.file_outside(), FILE)?;
    site.wait_said("has not stopped within 1s and is killed")?;
    site.host.assert_starts(5).with_context(|| site.journal())?;

    let checked = site.run(&["sh", "-c", &format!("{run_as_user}; true")])?;
    assert!(!checked.contains("problem  shop") && checked.contains("ok       shop: "), "{checked}");
    // And no other unit.
    let refused = site.run(&[
        "sh",
        "-c",
        "runuser -u pg-keeper-watcher -- systemctl --no-ask-password restart tests.target 2>&1; true",
    ])?;
    assert!(refused.contains("authentication required") || refused.contains("Access denied"), "{refused}");

    // An application's drop-in knows whose the state is, also without the daemon.
    site.drop_in("shop.service")?;
    site.run(&["systemctl", "stop", WATCHER])?;
    site.run(&["systemctl", "kill", "--signal=KILL", "shop.service"])?;
    site.host.systemd.wait_property("shop.service", "ActiveState", "failed")?;
    site.host.shop("", RUN)?;
    fs::write(site.file_outside(), FILE)?;
    site.host.start_shop()?;
    assert_eq!(site.content(), site.rewritten());
    Ok(())
}
