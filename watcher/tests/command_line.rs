//! The real binary on real files, where no server is needed.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A folder with a configuration, a target file and a state folder.
struct Site {
    folder: tempfile::TempDir,
}

impl Site {
    /// Both nodes are at ports where nobody listens.
    fn new() -> Self {
        let site = Self { folder: tempfile::tempdir().unwrap() };
        fs::write(site.path("env.yaml"), ENV).unwrap();
        let [one, two] = closed_ports();
        let file = site.path("env.yaml");
        site.configure(&format!(
            "nodes:\n\
             \x20 db01: {{conninfo: \"host=127.0.0.1 port={one} dbname=pg_state user=w\"}}\n\
             \x20 db02: {{conninfo: \"host=127.0.0.1 port={two} dbname=pg_state user=w\"}}\n\
             connection: {{timeout: 1s}}\n\
             targets:\n\
             - name: shop\n\
             \x20 file: {}\n\
             \x20 set: {{\"db_master[0].address\": \"{{address}}\"}}\n\
             \x20 restart: {{command: [/bin/true]}}\n",
            file.display()
        ));
        site
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn configure(&self, text: &str) {
        fs::write(self.path("watcher.yaml"), text).unwrap();
    }

    fn reconfigure(&self, from: &str, to: &str) {
        let text = fs::read_to_string(self.path("watcher.yaml")).unwrap();
        assert!(text.contains(from), "{text}");
        self.configure(&text.replace(from, to));
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pg-keeper-watcher"));
        command.arg("-c").arg(self.path("watcher.yaml")).args(arguments);
        command.env("STATE_DIRECTORY", self.path("state")).env_remove("NOTIFY_SOCKET").env_remove("JOURNAL_STREAM");
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Runs, expects an exit code, returns what was said.
    fn ends_with(&self, arguments: &[&str], code: i32) -> String {
        let output = self.run(arguments);
        let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
        said
    }

    fn env_is_untouched(&self) {
        assert_eq!(fs::read_to_string(self.path("env.yaml")).unwrap(), ENV);
        assert!(!self.path("env.yaml.pg_keeper.bak").exists());
    }
}

const ENV: &str = "# 本番\ndb_master:\n- address: db01:5432 # 主\n";

fn closed_ports() -> [u16; 2] {
    let listeners = [TcpListener::bind("127.0.0.1:0").unwrap(), TcpListener::bind("127.0.0.1:0").unwrap()];
    listeners.map(|listener| listener.local_addr().unwrap().port())
}

#[test]
fn a_configuration_that_is_not_there_or_not_right_is_78() {
    let site = Site::new();
    for command in [&["run"][..], &["once"], &["check"], &["status"], &["diff"]] {
        site.configure("nodes: {}\nbogus: 1\n");
        assert!(
            site.ends_with(command, 78)
                .contains("watcher.yaml, line 1: nodes: there are exactly two nodes, and here are 0")
        );
        site.configure("a: [\n");
        assert!(site.ends_with(command, 78).contains("not valid YAML"));
        fs::write(site.path("watcher.yaml"), b"a: \xff\n").unwrap();
        assert!(site.ends_with(command, 78).contains("watcher.yaml, line 1: not UTF-8 text"));
        fs::remove_file(site.path("watcher.yaml")).unwrap();
        assert!(site.ends_with(command, 78).contains("watcher.yaml: cannot read the configuration: No such file"));
    }
    site.env_is_untouched();
}

#[test]
fn unknown_and_duplicate_keys_are_named_with_their_line() {
    let site = Site::new();
    site.reconfigure("connection:", "polling: {intervall: 1s}\nconnection:");
    assert!(site.ends_with(&["once"], 78).contains("line 4: polling.intervall is unknown"));
    let site = Site::new();
    site.reconfigure("connection:", "targets: []\nconnection:");
    assert!(
        site.ends_with(&["once"], 78).contains("line 6: key \"targets\" stands twice in one mapping, first on line 4")
    );
    let site = Site::new();
    site.reconfigure("user=w", "user=w password=geheim");
    let said = site.ends_with(&["once"], 78);
    assert!(said.contains("passfile") && !said.contains("geheim"), "{said}");
}

#[test]
fn a_wrong_command_line_is_2() {
    let site = Site::new();
    site.ends_with(&[], 2);
    site.ends_with(&["bogus"], 2);
    site.ends_with(&["once", "--bogus"], 2);
    site.ends_with(&["--help"], 0);
}

#[test]
fn both_nodes_down_is_3_and_changes_nothing() {
    let site = Site::new();
    let said = site.ends_with(&["once"], 3);
    assert!(said.contains("no active node: neither db01 nor db02 answers; nothing is changed"), "{said}");
    let said = site.ends_with(&["check"], 3);
    assert!(said.contains("problem  db01: unreachable"), "{said}");
    assert!(said.contains("ok       shop: ") && said.contains("env.yaml: editable, and not up to date"), "{said}");
    site.ends_with(&["status"], 3);
    site.ends_with(&["diff"], 2);
    site.env_is_untouched();
}

#[test]
fn silent_nodes_are_3_within_the_time_limit() {
    let site = Site::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let text = fs::read_to_string(site.path("watcher.yaml")).unwrap();
    let port = text.split("port=").nth(1).unwrap().split(' ').next().unwrap();
    site.reconfigure(&format!("port={port}"), &format!("port={}", listener.local_addr().unwrap().port()));
    let begun = std::time::Instant::now();
    let said = site.ends_with(&["once"], 3);
    assert!(said.contains("db01: unreachable: no answer within 1000 ms"), "{said}");
    assert!(begun.elapsed() < std::time::Duration::from_secs(5));
}

#[test]
fn check_says_what_is_wrong_with_each_target() {
    for (env, part) in [
        (None, "cannot find the file; create it, or correct file in the configuration"),
        (Some(&b"db_master: [\n"[..]), "not valid YAML"),
        (
            Some(b"db_master:\n- host: x\n"),
            "env.yaml, line 2: db_master[0].address is not there: no key \"address\" here",
        ),
        (Some(b"db_master: \xff\n"), "env.yaml, line 1: not UTF-8 text"),
        (Some(b"db_master:\n- address: \"{{ db }}\"\n"), "holds the template mark {{"),
        (Some(b"a: 1\n---\ndb_master:\n- address: db01\n"), "write in the target which one is meant: document: 2"),
        (
            Some(b"x: &x {address: db01}\ndb_master:\n- <<: *x\n"),
            "env.yaml, line 3: db_master[0].address is merged in (<<) from the mapping on line 1",
        ),
    ] {
        let site = Site::new();
        match env {
            None => fs::remove_file(site.path("env.yaml")).unwrap(),
            Some(bytes) => fs::write(site.path("env.yaml"), bytes).unwrap(),
        }
        let said = site.ends_with(&["check"], 3);
        assert!(said.contains(part), "{said}");
        if let Some(bytes) = env {
            assert_eq!(fs::read(site.path("env.yaml")).unwrap(), bytes);
        }
    }
    let site = Site::new();
    site.reconfigure("/bin/true", "/nonexistent/reload");
    assert!(site.ends_with(&["check"], 3).contains("/nonexistent/reload cannot be run"));
}

#[test]
fn two_targets_with_one_file_are_refused_whatever_they_call_it() {
    for (there, names) in [(true, ["env.yaml", "link.yaml"]), (false, ["real/new.yaml", "linked/new.yaml"])] {
        let site = Site::new();
        fs::create_dir(site.path("real")).unwrap();
        std::os::unix::fs::symlink("env.yaml", site.path("link.yaml")).unwrap();
        std::os::unix::fs::symlink("real", site.path("linked")).unwrap();
        let target = |name: &str| {
            format!(
                "- file: {}\n  set: {{a: \"{{host}}\"}}\n  restart: {{command: [/bin/true]}}\n",
                site.path(name).display()
            )
        };
        let text = fs::read_to_string(site.path("watcher.yaml")).unwrap();
        let nodes = text.split_once("targets:\n").unwrap().0;
        site.configure(&format!("{nodes}targets:\n{}{}", target(names[0]), target(names[1])));
        for command in ["once", "run", "check"] {
            let said = site.ends_with(&[command], 78);
            assert!(said.contains("have the same file, ") && said.contains(names[0]), "{there}: {said}");
        }
    }
}

#[test]
fn a_held_lock_is_75() {
    let site = Site::new();
    fs::create_dir(site.path("state")).unwrap();
    let lock = fs::File::create(site.path("state/lock")).unwrap();
    lock.lock().unwrap();
    for command in ["run", "once"] {
        assert!(site.ends_with(&[command], 75).contains("another pg-keeper-watcher holds this lock"));
    }
    // Looking needs no lock.
    site.ends_with(&["check"], 3);
    // Not by closing the file: a process that another test is just starting has a copy of its descriptor for a moment.
    lock.unlock().unwrap();
    site.ends_with(&["once"], 3);
}

#[test]
fn a_state_folder_that_cannot_be_used_is_1() {
    let site = Site::new();
    fs::write(site.path("state"), "a file").unwrap();
    assert!(site.ends_with(&["once"], 1).contains("cannot create the state folder"));
    fs::remove_file(site.path("state")).unwrap();
    fs::create_dir(site.path("state")).unwrap();
    fs::write(site.path("state/state.yaml"), "nonsense").unwrap();
    assert!(site.ends_with(&["once"], 1).contains("not a state file of pg-keeper-watcher"));
}

#[test]
fn a_passfile_that_others_may_read_is_refused() {
    let site = Site::new();
    let passfile = site.path("pgpass");
    fs::write(&passfile, "*:*:*:*:geheim\n").unwrap();
    fs::set_permissions(&passfile, fs::Permissions::from_mode(0o644)).unwrap();
    site.reconfigure("timeout: 1s", &format!("timeout: 1s, passfile: {}", passfile.display()));
    let said = site.ends_with(&["once"], 3);
    assert!(said.contains("others may read the passfile; run chmod 0600 on it") && !said.contains("geheim"), "{said}");
}

#[test]
fn the_daemon_stays_up_without_nodes_and_ends_with_sigterm() {
    let site = Site::new();
    let mut child = site.command(&["run"]).stderr(std::process::Stdio::piped()).spawn().unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.stderr.take().unwrap()));
    wait_for(&mut lines, "no active node: neither db01 nor db02 answers");
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap()),
        nix::sys::signal::Signal::SIGTERM,
    )
    .unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    site.env_is_untouched();
    assert!(Path::new(&site.path("state/lock")).exists());
}

fn wait_for(lines: &mut impl Iterator<Item = std::io::Result<String>>, part: &str) {
    for line in lines {
        if line.unwrap().contains(part) {
            return;
        }
    }
    panic!("the log ended without {part:?}");
}
