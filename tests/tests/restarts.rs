//! Restarts by the daemon that take long: they hold up nothing but themselves.

use std::fs;
use std::path::PathBuf;

use anyhow::Result;
use keeper_tests::clock::now;
use keeper_tests::folder;
use keeper_tests::install::install;
use keeper_tests::node::PATIENCE;
use keeper_tests::pair::Pair;
use keeper_tests::wait;
use keeper_tests::watcher::{Watcher, nodes_section};
use nix::sys::signal::Signal;

/// Two nodes without pg_keeper, and a folder with the applications' files.
struct Host {
    pair: Pair,
    folder: PathBuf,
}

impl Host {
    fn new(name: &str) -> Result<Self> {
        let pair = Pair::describe(name).without_keeper().start()?;
        let folder = pair.folder().join("host");
        folder::make(&folder)?;
        Ok(Self { pair, folder })
    }

    /// A target whose restart notes its begin and its end, and waits in between until the test lets it go on.
    fn slow(&self, name: &str) -> Result<String> {
        let (marks, go) = (self.folder.join(format!("{name}.marks")), self.folder.join(format!("{name}.go")));
        let (marks, go) = (marks.display(), go.display());
        self.target(
            name,
            &format!("echo begin >> {marks}; while test ! -e {go}; do sleep 0.05; done; echo end >> {marks}"),
        )
    }

    fn target(&self, name: &str, script: &str) -> Result<String> {
        let file = self.file(name);
        if !file.exists() {
            fs::write(&file, "address: \"old:1\"\n")?;
            install()?.give_to_server_account(&file)?;
        }
        Ok(format!(
            "  - {{name: {name}, file: {:?}, set: {{address: \"{{address}}\"}}, \
             restart: {{command: [/bin/sh, -c, {script:?}], timeout: 600s}}}}\n",
            file.display().to_string()
        ))
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.yaml"))
    }

    fn configuration(&self, targets: &[String]) -> String {
        let nodes = nodes_section([&self.pair.primary, &self.pair.standby]);
        let nodes = nodes.replace("dbname=pg_state user=keeper_watch", "dbname=postgres user=postgres");
        format!("{nodes}targets:\n{}", targets.concat())
    }

    fn let_go(&self, name: &str) -> Result<()> {
        Ok(fs::write(self.folder.join(format!("{name}.go")), "")?)
    }

    fn marks(&self, name: &str) -> String {
        fs::read_to_string(self.folder.join(format!("{name}.marks"))).unwrap_or_default().replace('\n', " ")
    }

    fn wait_marks(&self, name: &str, marks: &str, daemon: &Watcher) -> Result<()> {
        let what = format!("«{marks}» of {name}");
        wait::until(&what, PATIENCE, || daemon.log(), || Ok(self.marks(name) == marks))
    }
}

#[test]
fn a_slow_restart_holds_up_neither_other_targets_nor_a_new_configuration() -> Result<()> {
    let host = Host::new("slowrestart")?;
    let (slow, quick, new) = (host.slow("slow")?, host.target("quick", "true")?, host.target("new", "true")?);
    let daemon = Watcher::start(&host.folder, &host.configuration(&[slow.clone(), quick.clone()]))?;
    host.wait_marks("slow", "begin ", &daemon)?;
    daemon.wait_said("quick: restart finished", 0)?;

    fs::write(host.folder.join("watcher.yaml"), host.configuration(&[slow, quick, new]))?;
    daemon.signal(Signal::SIGHUP)?;
    daemon.wait_said("for 3 targets", 0)?;
    daemon.wait_said("new: restart finished", 0)?;

    // The slow one goes on by itself, is done when it ends, and is not done again.
    assert_eq!(host.marks("slow"), "begin ");
    host.let_go("slow")?;
    daemon.wait_said("slow: restart finished", 0)?;
    let since = now();
    host.pair.primary.kill_all()?;
    host.pair.standby.promote()?;
    daemon.wait_said("new: restart finished", since)?;
    host.wait_marks("slow", "begin end begin end ", &daemon)
}

#[test]
fn restarts_of_one_target_follow_each_other() -> Result<()> {
    let host = Host::new("overlap")?;
    let daemon = Watcher::start(&host.folder, &host.configuration(&[host.slow("slow")?]))?;
    host.wait_marks("slow", "begin ", &daemon)?;
    // The file follows the new primary at once, whatever the restart does.
    host.pair.primary.kill_all()?;
    host.pair.standby.promote()?;
    let address = host.pair.standby.address();
    let follows = || Ok(fs::read_to_string(host.file("slow"))?.contains(&address));
    wait::until("the file to follow the new primary", PATIENCE, || daemon.log(), follows)?;
    // Told to begin anew in the middle, too.
    daemon.signal(Signal::SIGHUP)?;
    wait::until("the new configuration", PATIENCE, || daemon.log(), || Ok(daemon.count("for 1 targets") == 2))?;
    assert_eq!(host.marks("slow"), "begin ");
    host.let_go("slow")?;
    host.wait_marks("slow", "begin end begin end ", &daemon)?;
    daemon.wait_said("slow: restart finished", 0)?;
    assert_eq!(daemon.count("restart issued"), 2, "{}", daemon.log());
    Ok(())
}
