//! What the watcher tells people, programs, monitoring and shells.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use keeper_tests::configured::{Configured, Nobody, by_true, plain_pair};
use keeper_tests::node::PATIENCE;
use keeper_tests::ports::Port;
use keeper_tests::wait;
use keeper_tests::watcher::{Watcher, restart_by};
use nix::sys::signal::Signal;

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

    let host = Configured { configuration: host.configuration.replace("/bin/false", "/bin/true"), ..host };
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
        concat!("build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"} 1"),
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
