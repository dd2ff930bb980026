//! The watcher: it follows a failover, and where it cannot do its work it says so and leaves the file as it was.

use std::fs;
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use anyhow::Result;
use keeper_tests::application::Application;
use keeper_tests::clock::now;
use keeper_tests::folder::ClusterFolder;
use keeper_tests::host::{Host, shell};
use keeper_tests::node::Node;
use keeper_tests::pair::Pair;
use keeper_tests::ports::Port;
use keeper_tests::state::is_in_recovery;
use keeper_tests::template::template;
use keeper_tests::watcher::{
    Ended, Watcher, assert_ended, nodes_section, plain_nodes_section, restart_by, run_once, target_section,
};

const FILE: &str = "# 設定\ndb_master:\n  - address: \"old:1\"   # 主\ndb_slave:\n  - address: 'old:2'\nother: 1\n";

fn host_in(cluster: &Path) -> Result<Host> {
    Host::with_file(cluster, "host", FILE)
}

fn once(host: &Host, nodes: &str) -> Result<Ended> {
    run_once(host.folder(), &host.configuration(nodes), &["once"])
}

/// The file is as it was, nothing was restarted, and the exit code and the message are as they should be.
fn assert_untouched(host: &Host, ended: &Ended, code: i32, words: &[&str]) {
    assert_ended(ended, code, words);
    assert_eq!((host.content().as_str(), host.restarts()), (FILE, 0));
}

fn plain_pair(name: &str) -> Result<(Pair, Host, String)> {
    let pair = Pair::describe(name).without_keeper().start()?;
    let host = host_in(pair.folder())?;
    let nodes = plain_nodes_section([&pair.primary, &pair.standby]);
    Ok((pair, host, nodes))
}

#[test]
fn once_rewrites_exactly_the_addresses_and_restarts() -> Result<()> {
    let (pair, host, nodes) = plain_pair("once")?;
    let ended = once(&host, &nodes)?;
    assert_ended(&ended, 0, &[]);
    let address = pair.primary.address();
    assert_eq!(host.content(), FILE.replace("old:1", &address).replace("old:2", &address));
    assert_eq!(host.restarts(), 1);

    // A second look finds nothing to do, and says nothing.
    let ended = once(&host, &nodes)?;
    assert_ended(&ended, 0, &[]);
    assert_eq!(host.restarts(), 1, "restarted without need: {}", ended.text);
    Ok(())
}

#[test]
fn it_follows_a_promotion_by_hand() -> Result<()> {
    let (pair, host, nodes) = plain_pair("follow")?;
    once(&host, &nodes)?;
    pair.primary.kill_all()?;
    pair.standby.promote()?;
    let ended = once(&host, &nodes)?;
    assert_ended(&ended, 0, &[]);
    let address = pair.standby.address();
    assert_eq!(host.content(), FILE.replace("old:1", &address).replace("old:2", &address));

    // The old primary comes back as it was: it is on a lower timeline, whoever else is gone.
    pair.primary.start()?;
    pair.standby.stop_fast()?;
    let before = host.content();
    let ended = once(&host, &nodes)?;
    assert_ended(&ended, 3, &["timeline"]);
    assert_eq!(host.content(), before);
    Ok(())
}

/// Two primaries on different timelines: the one that was promoted is active, whoever else still thinks it is.
#[test]
fn the_old_primary_wakes_up() -> Result<()> {
    let (pair, host, nodes) = plain_pair("thaw")?;
    pair.primary.freeze()?;
    pair.standby.promote()?;
    assert_ended(&once(&host, &nodes)?, 0, &[]);
    let address = pair.standby.address();
    let expected = FILE.replace("old:1", &address).replace("old:2", &address);
    assert_eq!(host.content(), expected);
    pair.primary.thaw();
    pair.wait_until("an answer of the old primary", || Ok(!is_in_recovery(&pair.primary)?))?;
    assert_ended(&once(&host, &nodes)?, 0, &[]);
    assert_eq!(host.content(), expected);
    Ok(())
}

#[test]
fn check_finds_what_is_wrong() -> Result<()> {
    let (_pair, host, nodes) = plain_pair("check")?;
    let check = || {
        let configuration = host.configuration_with(&nodes, &restart_by(&shell("true")));
        run_once(host.folder(), &configuration, &["check"])
    };
    assert_ended(&check()?, 0, &[]);
    let other = "db_master: []\n";
    fs::write(host.file(), other)?;
    assert_ended(&check()?, 1, &["db_master[0].address"]);
    assert_eq!(host.content(), other);
    Ok(())
}

#[test]
fn both_nodes_down() -> Result<()> {
    let cluster = ClusterFolder::create("down")?;
    let host = host_in(cluster.path())?;
    let (one, two) = (Node::create(cluster.path(), "db01", None)?, Node::create(cluster.path(), "db02", None)?);
    let ended = once(&host, &plain_nodes_section([&one, &two]))?;
    assert_untouched(&host, &ended, 3, &["db01", "db02"]);
    Ok(())
}

#[test]
fn neither_is_primary() -> Result<()> {
    let (pair, host, nodes) = plain_pair("nobody")?;
    pair.primary.stop_fast()?;
    let ended = once(&host, &nodes)?;
    assert_untouched(&host, &ended, 3, &["primary"]);
    Ok(())
}

#[test]
fn both_are_primary() -> Result<()> {
    let cluster = ClusterFolder::create("both")?;
    let host = host_in(cluster.path())?;
    let mut nodes = Vec::new();
    for name in ["db01", "db02"] {
        let node = Node::create(cluster.path(), name, None)?;
        node.copy_from(&template()?)?;
        node.configure(&["fsync = off".to_owned()])?;
        node.start()?;
        nodes.push(node);
    }
    let ended = once(&host, &plain_nodes_section([&nodes[0], &nodes[1]]))?;
    assert_untouched(&host, &ended, 4, &["db01", "db02", "two primaries"]);
    Ok(())
}

#[test]
fn the_file_is_missing() -> Result<()> {
    let (_pair, host, nodes) = plain_pair("missing")?;
    fs::remove_file(host.file())?;
    let ended = once(&host, &nodes)?;
    assert_ended(&ended, 1, &["env.yaml"]);
    assert!(!host.file().exists() && host.restarts() == 0);
    Ok(())
}

#[test]
fn the_file_cannot_be_read() -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let (_pair, host, nodes) = plain_pair("unreadable")?;
    fs::set_permissions(host.file(), fs::Permissions::from_mode(0o000))?;
    let ended = once(&host, &nodes)?;
    fs::set_permissions(host.file(), fs::Permissions::from_mode(0o644))?;
    assert_untouched(&host, &ended, 1, &["env.yaml", "ermission denied"]);
    Ok(())
}

#[test]
fn the_file_is_no_yaml() -> Result<()> {
    let (_pair, host, nodes) = plain_pair("noyaml")?;
    let broken = "db_master: [\n  - :::\n\t}";
    fs::write(host.file(), broken)?;
    let ended = once(&host, &nodes)?;
    assert_ended(&ended, 1, &["env.yaml"]);
    assert_eq!(host.content(), broken);
    assert!(host.restarts() == 0);
    Ok(())
}

#[test]
fn the_path_is_not_in_the_file() -> Result<()> {
    let (_pair, host, nodes) = plain_pair("nopath")?;
    let other = "db_master:\n  - host: somewhere\n";
    fs::write(host.file(), other)?;
    let ended = once(&host, &nodes)?;
    assert_ended(&ended, 1, &["env.yaml", "db_master[0].address"]);
    assert_eq!(host.content(), other);
    assert!(host.restarts() == 0);
    Ok(())
}

#[test]
fn the_folder_is_read_only() -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let (_pair, host, nodes) = plain_pair("rofolder")?;
    let folder = host.file().parent().expect("the file lies in a folder");
    fs::set_permissions(folder, fs::Permissions::from_mode(0o555))?;
    let ended = once(&host, &nodes)?;
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755))?;
    assert_untouched(&host, &ended, 1, &["ermission denied"]);
    Ok(())
}

#[test]
fn a_failed_restart_is_pending_until_it_succeeds() -> Result<()> {
    let (_pair, host, nodes) = plain_pair("pending")?;
    let ended = run_once(host.folder(), &host.configuration_with(&nodes, &restart_by(&shell("false"))), &["once"])?;
    assert_ended(&ended, 5, &[]);
    assert!(!host.content().contains("old:1"), "the file was not rewritten: {}", ended.text);
    let ended = once(&host, &nodes)?;
    assert_ended(&ended, 0, &[]);
    assert!(host.restarts() == 1, "the pending restart was forgotten: {}", ended.text);
    Ok(())
}

/// What stands around an address, and what a command is told, may be a password.
#[test]
fn passwords_do_not_go_to_the_log() -> Result<()> {
    let (pair, host, nodes) = plain_pair("passwords")?;
    let text = "db_master: [{address: \"postgres://shop:geheim@old:1/shop\"}]\ndb_slave: [{address: old:2}]\n";
    fs::write(host.file(), text)?;
    let configuration =
        host.configuration_with(&nodes, &restart_by(&shell("exit 3 # --password=verschlossen"))).replace(
            "db_master[0].address: \"{address}\"",
            "db_master[0].address: \"postgres://shop:geheim@{address}/shop\"",
        );
    let ended = run_once(host.folder(), &configuration, &["once"])?;
    let address = pair.primary.address();
    assert_ended(
        &ended,
        5,
        &["db_master[0].address -> db01", &format!("db_slave[0].address old:2 -> {address}"), "/bin/sh"],
    );
    assert!(!ended.text.contains("geheim") && !ended.text.contains("verschlossen"), "{}", ended.text);
    assert!(host.content().contains(&format!("postgres://shop:geheim@{address}/shop")), "{}", host.content());
    Ok(())
}

/// Nobody would restart the applications of the others.
#[test]
fn before_an_application_starts_only_its_own_file_is_rewritten() -> Result<()> {
    let (_pair, host, nodes) = plain_pair("onetarget")?;
    let other = host.file().with_file_name("other.yaml");
    fs::copy(host.file(), &other)?;
    keeper_tests::install::install()?.give_to_server_account(&other)?;
    let second = target_section(&other, &restart_by(&shell("true"))).replace("targets:\n", "").replace("shop", "other");
    let configuration = host.configuration(&nodes) + &second;
    let once = |arguments: &[&str]| run_once(host.folder(), &configuration, &[&["once"], arguments].concat());
    assert_ended(&once(&["--no-restart", "--target", "other"])?, 0, &["other: rewrote"]);
    assert_eq!((host.content().as_str(), host.restarts()), (FILE, 0));
    assert_ne!(fs::read_to_string(&other)?, FILE);
    assert_ended(&once(&["--no-restart", "--target", "nobody"])?, 1, &["there is no target \"nobody\""]);
    assert_ended(&once(&["--target", "other"])?, 2, &["--no-restart"]);
    Ok(())
}

#[test]
fn a_restart_by_signal() -> Result<()> {
    let (pair, host, nodes) = plain_pair("signal")?;
    let application = Application::start(&pair)?;
    let file = application.configuration();
    let process = || fs::read_to_string(file.with_file_name("application.child"));
    let before = process()?;
    let pid_file = file.with_file_name("application.pid");
    let restart = format!("{{signal: {{pid_file: {:?}, signal: HUP}}}}", pid_file.display().to_string());
    // The standby's address gives way to the active node's.
    let ended = run_once(host.folder(), &(nodes + &target_section(&file, &restart)), &["once"])?;
    assert_ended(&ended, 0, &[]);
    pair.wait_until("another process of the application", || Ok(process()? != before))?;
    application.wait_for_rows(5)
}

#[test]
fn a_bad_configuration_names_key_and_line() -> Result<()> {
    let cluster = ClusterFolder::create("badconfig")?;
    let host = host_in(cluster.path())?;
    let (one, two) = (Port::reserve()?.number(), Port::reserve()?.number());
    let nodes = format!(
        "nodes:\n  a: {{conninfo: \"host=127.0.0.1 port={one} user=x\"}}\n  b: {{conninfo: \"host=127.0.0.1 port={two} user=x\", colour: red}}\n"
    );
    let ended = once(&host, &nodes)?;
    assert_untouched(&host, &ended, 78, &["colour", "3"]);
    let ended = once(&host, "nodes: {}\n")?;
    assert_untouched(&host, &ended, 78, &["nodes"]);
    Ok(())
}

#[test]
fn only_one_instance_works() -> Result<()> {
    let (_pair, host, nodes) = plain_pair("lock")?;
    let configuration = host.configuration_with(&nodes, &restart_by(&shell("true")));
    let daemon = Watcher::start(host.folder(), &configuration)?;
    daemon.wait_said("active node is db01", 0)?;
    let ended = run_once(host.folder(), &configuration, &["once"])?;
    assert_ended(&ended, 75, &[]);
    Ok(())
}

#[test]
fn the_daemon_stays_up_while_there_is_no_evidence() -> Result<()> {
    let (pair, host, nodes) = plain_pair("stays")?;
    let configuration = host.configuration_with(&nodes, &restart_by(&shell("true")));
    let daemon = Watcher::start(host.folder(), &configuration)?;
    daemon.wait_said("rewrote", 0)?;
    let before = host.content();
    pair.primary.kill_all()?;
    pair.standby.kill_all()?;
    daemon.wait_said("no active node", 0)?;
    assert!(!daemon.has_ended()?);
    assert_eq!(host.content(), before);
    // Whoever points the application elsewhere meanwhile knows more. The daemon looks at the file every second.
    let by_hand = before.replace(&pair.primary.address(), &pair.standby.address());
    assert_ne!(by_hand, before);
    fs::write(host.file(), &by_hand)?;
    sleep(Duration::from_secs(3));
    assert_eq!(host.content(), by_hand, "{}", daemon.log());
    assert_eq!(daemon.count("rewrote"), 1, "{}", daemon.log());
    let since = now();
    pair.primary.start()?;
    daemon.wait_said("active node is db01", since)?;
    daemon.wait_said("rewrote", since)?;
    assert_eq!(host.content(), before);
    Ok(())
}

/// The whole path: a dead primary, a promoted standby, an application that goes on by itself, restarted exactly once.
#[test]
fn the_application_goes_on() -> Result<()> {
    let pair = Pair::describe("whole").start()?;
    let application = Application::start(&pair)?;
    let configuration = nodes_section([&pair.primary, &pair.standby])
        + &target_section(&application.configuration(), &restart_by(&application.restart_command()?));
    let watcher = Watcher::start(&pair.folder().join("watcher"), &configuration)?;
    watcher.wait_said("active node is db01", 0)?;
    application.wait_for_rows(20)?;
    let struck = now();
    pair.primary.kill_all()?;
    watcher.wait_said("restart finished", struck)?;
    application.wait_for_rows(20)?;
    let last = application.ledger()?.pop().expect("rows were written");
    assert_eq!(last.server, pair.standby.address());
    let restarts =
        watcher.lines().iter().filter(|line| line.at > struck && line.text.contains("restart issued")).count();
    assert_eq!(restarts, 1, "{}", watcher.log());
    Ok(())
}

/// What is wanted is on disk before the rewrite, so a watcher that dies in between still restarts the application.
#[test]
fn a_restart_survives_the_watchers_death() -> Result<()> {
    let (_pair, host, nodes) = plain_pair("death")?;
    let slow = "{command: [/bin/sh, -c, \"sleep 600\"], timeout: 600s}";
    let daemon = Watcher::start(host.folder(), &host.configuration_with(&nodes, slow))?;
    daemon.wait_said("restart issued", 0)?;
    daemon.kill()?;
    let ended = once(&host, &nodes)?;
    assert_ended(&ended, 0, &[]);
    assert_eq!(host.restarts(), 1, "the restart was lost: {}", ended.text);
    Ok(())
}
