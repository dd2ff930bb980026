//! The watcher as something that is run: by systemd, by cron, under monitoring, in a pipe.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use keeper_tests::folder::ClusterFolder;
use keeper_tests::host::Host;
use keeper_tests::node::PATIENCE;
use keeper_tests::pair::Pair;
use keeper_tests::ports::Port;
use keeper_tests::wait;
use keeper_tests::watcher::{Ended, Watcher, command, plain_nodes_section, restart_by, run_once};
use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// An application host on which the watcher is configured.
struct Site {
    host: Host,
    configuration: String,
}

impl Site {
    fn new(cluster: &Path, nodes: &str, restart: &str) -> Result<Self> {
        let host = Host::create(cluster, "host")?;
        let configuration = host.configuration_with(nodes, restart);
        Ok(Self { host, configuration })
    }

    fn folder(&self) -> &Path {
        self.host.folder()
    }

    fn run(&self, arguments: &[&str]) -> Result<Ended> {
        run_once(self.folder(), &self.configuration, arguments)
    }

    fn ends_with(&self, arguments: &[&str], code: i32) -> Result<String> {
        let ended = self.run(arguments)?;
        ensure!(ended.code == Some(code), "{arguments:?} ended with {:?}: {}", ended.code, ended.text);
        ensure!(!ended.text.contains("panicked"), "{}", ended.text);
        Ok(ended.text)
    }

    fn command(&self) -> Result<Command> {
        command(self.folder(), &self.configuration)
    }
}

fn by_true() -> String {
    restart_by(&["/bin/true".to_owned()])
}

/// Two nodes at ports where nobody listens.
struct Nobody {
    _cluster: ClusterFolder,
    _ports: [Port; 2],
    host: Site,
}

impl Nobody {
    fn new(name: &str) -> Result<Self> {
        let cluster = ClusterFolder::create(name)?;
        let ports = [Port::reserve()?, Port::reserve()?];
        let [one, two] = ports.each_ref().map(Port::number);
        let nodes = format!(
            "nodes:\n  db01: {{conninfo: \"host=127.0.0.1 port={one} user=x\"}}\n  \
             db02: {{conninfo: \"host=127.0.0.1 port={two} user=x\"}}\n"
        );
        let host = Site::new(cluster.path(), &nodes, &by_true())?;
        Ok(Self { _cluster: cluster, _ports: ports, host })
    }
}

/// A pair without the extension, asked as superuser.
fn plain_pair(name: &str, restart: &str) -> Result<(Pair, Site)> {
    let pair = Pair::describe(name).without_keeper().start()?;
    let nodes = plain_nodes_section([&pair.primary, &pair.standby]);
    let host = Site::new(pair.folder(), &nodes, restart)?;
    Ok((pair, host))
}

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
fn a_reader_that_has_seen_enough_is_no_error() -> Result<()> {
    let site = Nobody::new("head")?;
    for (arguments, code) in [
        (&["check"][..], 3),
        (&["check", "--systemd-dropin"], 0),
        (&["status"], 3),
        (&["status", "--json"], 3),
        (&["status", "--nagios"], 2),
        (&["completions", "bash"], 0),
        (&["man"], 0),
        (&["--help"], 0),
    ] {
        let mut command = site.host.command()?;
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn()?;
        drop(child.stdout.take());
        let output = child.wait_with_output()?;
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!((output.status.code(), text.contains("panicked")), (Some(code), false), "{arguments:?}: {text}");
    }
    Ok(())
}

#[test]
fn nagios_hears_unknown_when_it_cannot_be_told() -> Result<()> {
    let mut site = Nobody::new("unknown")?;
    let text = site.host.ends_with(&["status", "--nagios"], 2)?;
    assert!(text.starts_with("PG_KEEPER_WATCHER CRITICAL - no active node: "), "{text}");
    assert_eq!(text.lines().count(), 1, "{text}");
    site.host.ends_with(&["status", "--nagios", "--bogus"], 3)?;
    site.host.ends_with(&["status", "--json", "--nagios"], 3)?;
    site.host.configuration = "nodes: {}\n".to_owned();
    let text = site.host.ends_with(&["status", "--nagios"], 3)?;
    assert!(text.starts_with("PG_KEEPER_WATCHER UNKNOWN - ") && text.contains("watcher.yaml, line 1: nodes"), "{text}");
    assert_eq!(text.lines().count(), 1, "{text}");
    Ok(())
}

#[test]
fn status_tells_people_programs_and_nagios() -> Result<()> {
    let (pair, host) = plain_pair("status", &restart_by(&["/bin/false".to_owned()]))?;
    let text = host.ends_with(&["status"], 1)?;
    assert!(text.contains("active node is db01") && text.contains("env.yaml is not up to date"), "{text}");
    host.ends_with(&["once"], 5)?;
    let json: serde_json::Value = serde_json::from_str(&host.ends_with(&["status", "--json"], 5)?)?;
    assert_eq!(json["active_node"], "db01", "{json}");
    assert_eq!(json["daemon_running"], false, "{json}");
    assert_eq!(json["nodes"][0]["state"], "primary", "{json}");
    assert_eq!(json["nodes"][1]["state"], "standby", "{json}");
    assert_eq!(json["targets"][0]["file_state"], "up_to_date", "{json}");
    assert_eq!(json["targets"][0]["restart"], "pending", "{json}");
    assert_eq!(json["targets"][0]["failed_attempts"], 1, "{json}");
    let text = host.ends_with(&["status", "--nagios"], 2)?;
    assert!(text.starts_with("PG_KEEPER_WATCHER CRITICAL - shop: restart pending, 1 attempt failed; "), "{text}");

    let host = Site { configuration: host.configuration.replace("/bin/false", "/bin/true"), ..host };
    host.ends_with(&["once"], 0)?;
    assert!(host.ends_with(&["status", "--nagios"], 1)?.contains("WARNING - no watcher is running; "));
    assert!(host.ends_with(&["status", "--nagios", "--without-daemon"], 0)?.contains(" OK - active node is db01 "));
    let daemon = Watcher::start(host.folder(), &host.configuration)?;
    daemon.wait_said("active node is db01", 0)?;
    host.ends_with(&["status", "--nagios"], 0)?;
    assert!(host.ends_with(&["status"], 0)?.contains("; a watcher is running"));
    pair.standby.stop_fast()?;
    assert!(host.ends_with(&["status", "--nagios"], 1)?.contains("WARNING - db02 is unreachable; "));
    Ok(())
}

/// The status line and the body of a page.
fn get(port: u16, path: &str) -> Result<(String, String)> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    let (head, body) = text.split_once("\r\n\r\n").with_context(|| format!("no HTTP: {text:?}"))?;
    Ok((head.lines().next().unwrap_or_default().to_owned(), body.to_owned()))
}

#[test]
fn metrics_and_health_follow_a_failover() -> Result<()> {
    let (pair, mut host) = plain_pair("http", &by_true())?;
    let port = Port::reserve()?;
    host.configuration += &format!("http: {{listen: \"127.0.0.1:{}\"}}\n", port.number());
    let port = port.number();
    let daemon = Watcher::start(host.folder(), &host.configuration)?;
    daemon.wait_said("restart finished", 0)?;
    let (status, body) = get(port, "/healthz")?;
    assert_eq!((status.as_str(), body.as_str()), ("HTTP/1.1 200 OK", "active node is db01 (timeline 1)\n"));
    assert_eq!(get(port, "/")?.0, "HTTP/1.1 404 Not Found");
    let shows = |lines: &[&str]| {
        let lines: Vec<String> = lines.iter().map(|line| format!("pg_keeper_watcher_{line}")).collect();
        wait::until(
            &format!("the metrics {lines:?}"),
            PATIENCE,
            || get(port, "/metrics").map(|(_, body)| body).unwrap_or_default(),
            || {
                let (_, body) = get(port, "/metrics")?;
                Ok(lines.iter().all(|line| body.lines().any(|there| there == line)) && body.ends_with("# EOF\n"))
            },
        )
    };
    shows(&[
        "build_info{version=\"0.1.0\"} 1",
        "node_active{node=\"db01\"} 1",
        "node_active{node=\"db02\"} 0",
        "node_state{node=\"db02\",state=\"standby\"} 1",
        "node_timeline{node=\"db01\"} 1",
        "active_node_changes_total 0",
        "target_up_to_date{target=\"shop\"} 1",
        "target_rewrites_total{target=\"shop\"} 1",
        "target_restarts_total{target=\"shop\",result=\"done\"} 1",
        "target_restarts_total{target=\"shop\",result=\"failed\"} 0",
        "target_restart_duration_seconds_count{target=\"shop\"} 1",
        "target_restart_pending{target=\"shop\"} 0",
        "log_lines_lost_total 0",
    ])?;

    pair.primary.kill_all()?;
    wait::until("an unhealthy answer", PATIENCE, String::new, || {
        Ok(get(port, "/healthz")?.0 == "HTTP/1.1 503 Service Unavailable")
    })?;
    assert!(get(port, "/healthz")?.1.starts_with("no active node: "));
    pair.standby.promote()?;
    shows(&[
        "node_active{node=\"db02\"} 1",
        "node_up{node=\"db01\"} 0",
        "node_timeline{node=\"db02\"} 2",
        "active_node_changes_total 1",
        "target_rewrites_total{target=\"shop\"} 2",
        "target_restarts_total{target=\"shop\",result=\"done\"} 2",
    ])?;

    // A reload keeps what was counted, and an address that is taken stops nothing.
    let taken = Port::reserve()?;
    let listener = std::net::TcpListener::bind(("127.0.0.1", taken.number()))?;
    let moved = host.configuration.replace(&format!(":{port}\""), &format!(":{}\"", taken.number()));
    fs::write(host.folder().join("watcher.yaml"), moved)?;
    daemon.signal(Signal::SIGHUP)?;
    daemon.wait_said("cannot listen on", 0)?;
    drop(listener);
    daemon.wait_said(&format!("http://127.0.0.1:{}/metrics", taken.number()), 0)?;
    let (_, body) = get(taken.number(), "/metrics")?;
    assert!(body.contains("pg_keeper_watcher_target_rewrites_total{target=\"shop\"} 2\n"), "{body}");
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
    let host = Site { configuration: host.configuration.replace("sleep 600", "exit 0"), ..host };
    host.ends_with(&["once"], 0)?;
    host.ends_with(&["status", "--nagios", "--without-daemon"], 0)?;
    Ok(())
}

#[test]
fn the_dropins_name_folder_program_and_state() -> Result<()> {
    let site = Nobody::new("dropin")?;
    let text = site.host.ends_with(&["check", "--systemd-dropin"], 0)?;
    let folder = site.host.host.file().parent().context("a folder")?;
    assert!(text.contains(&format!("\nReadWritePaths=-{}\n", folder.display())), "{text}");
    let text = site.host.ends_with(&["check", "--systemd-dropin", "shop"], 0)?;
    let state = format!("STATE_DIRECTORY={}", site.host.folder().join("state").display());
    let last = text.lines().last().unwrap_or_default();
    assert!(text.contains("/shop.service.d/"), "{text}");
    assert!(
        last.starts_with("ExecStartPre=-+") && last.contains(&state) && last.ends_with(" once --no-restart"),
        "{text}"
    );
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

#[test]
fn the_shells_take_their_completions() -> Result<()> {
    let site = Nobody::new("shells")?;
    for shell in ["bash", "zsh", "fish"] {
        let text = site.host.ends_with(&["completions", shell], 0)?;
        assert!(text.contains("pg-keeper-watcher") && text.contains("without-daemon"), "{text}");
        assert!(!text.contains("'man'"), "a hidden command is completed: {text}");
    }
    let mut bash = Command::new("bash");
    let mut child = bash.arg("-n").stdin(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    child.stdin.take().context("stdin")?.write_all(site.host.ends_with(&["completions", "bash"], 0)?.as_bytes())?;
    let output = child.wait_with_output()?;
    if !output.status.success() {
        bail!("{}", String::from_utf8_lossy(&output.stderr));
    }
    let page = site.host.ends_with(&["man"], 0)?;
    for part in [".TH", "SH \"EXIT STATUS\"", "SS once", "\\-\\-systemd\\-dropin", "STATE_DIRECTORY"] {
        assert!(page.contains(part), "{part}: {page}");
    }
    Ok(())
}
