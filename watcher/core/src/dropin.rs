//! What systemd's units need, as drop-in files.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::{Path, PathBuf};

use crate::config::{RestartHow, Target};

/// The name of the watcher's own unit.
pub const OWN_UNIT: &str = "pg-keeper-watcher.service";

/// For the watcher's own unit, whose system is read-only but for the folders of the targets' files. `real`: where paths lead, as
/// far as that is known; what is renamed into place is renamed there.
pub fn for_watcher(targets: &[Target], real: &BTreeMap<PathBuf, PathBuf>) -> String {
    let place = |target: &Target| real.get(&target.file).unwrap_or(&target.file).clone();
    let folders: BTreeSet<PathBuf> =
        targets.iter().filter_map(|target| place(target).parent().map(Path::to_path_buf)).collect();
    let mut text = format!(
        "# /etc/systemd/system/{OWN_UNIT}.d/targets.conf\n\
         # The unit may write to no other folders; whenever targets change, write this anew. Then:\n\
         # systemctl daemon-reload && systemctl restart {OWN_UNIT}\n\
         [Service]\n"
    );
    for folder in folders {
        // With the minus a folder that is missing does not keep the unit from starting.
        let _ = writeln!(text, "ReadWritePaths={}", word(&format!("-{}", folder.display())));
    }
    for target in targets {
        if place(target) != target.file {
            let _ = writeln!(
                text,
                "# {} is reached over a link. If that is switched to another folder, name here the folder that all of them are in.",
                target.file.display()
            );
        }
        if let RestartHow::Command(argv) = &target.restart.how {
            let _ = writeln!(
                text,
                "# {} runs under the restrictions of this unit. If it needs more, give it that here, for example\n\
                 # ReadWritePaths=-/where/it/writes, PrivateTmp=no, MemoryDenyWriteExecute=no.",
                argv.first().map_or("A command", String::as_str)
            );
        }
    }
    text
}

/// How the watcher is run.
#[derive(Debug, Clone, Copy)]
pub struct Watcher<'a> {
    /// Its program.
    pub program: &'a Path,
    /// Its configuration file.
    pub config: &'a Path,
    /// Its state folder.
    pub state: &'a Path,
    /// The user it runs as, if that is not root.
    pub user: Option<&'a str>,
}

/// For an application's unit: its file is brought up to date before it starts.
pub fn for_application(unit: &str, watcher: &Watcher<'_>, targets: &[Target]) -> String {
    let restarts = |target: &&Target| match &target.restart.how {
        RestartHow::SystemdUnit(name) => name == unit,
        RestartHow::Command(_) | RestartHow::Signal { .. } => false,
    };
    // No other target's: a file that is rewritten here is right afterwards, and nobody would restart its application.
    let own: String =
        targets.iter().filter(restarts).map(|target| format!(" --target {}", argument(&target.name))).collect();
    let note = if !own.is_empty() {
        String::new()
    } else {
        format!("# Mind: {unit} is the systemd_unit of no target; all files are brought up to date before it starts.\n")
    };
    let (who, user) = match watcher.user {
        Some(user) => ("as the watcher's user", format!("/usr/sbin/runuser -u {} -- ", argument(user))),
        None => ("as root", String::new()),
    };
    format!(
        "# /etc/systemd/system/{unit}.d/pg-keeper-watcher.conf\n\
         # Then: systemctl daemon-reload\n\
         {note}\
         [Unit]\n\
         Wants=network-online.target\n\
         After=network-online.target\n\
         \n\
         [Service]\n\
         # -: without an active node it starts with the file as it is; without the minus it would not start then.\n\
         # +: {who} and without this unit's restrictions, as the watcher's state is not the application's.\n\
         # env: a StateDirectory= of this unit is not the watcher's.\n\
         ExecStartPre=-+{user}/usr/bin/env {} {} -c {} once --no-restart{own}\n",
        argument(&format!("STATE_DIRECTORY={}", watcher.state.display())),
        argument(&watcher.program.display().to_string()),
        argument(&watcher.config.display().to_string()),
    )
}

/// A value among others that are divided by blanks.
fn word(text: &str) -> String {
    let text = text.replace('%', "%%");
    if text.chars().any(|c| c.is_whitespace() || "\"'\\".contains(c)) {
        format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
    } else {
        text
    }
}

/// A word of a command line, where variables would be expanded.
fn argument(text: &str) -> String {
    word(&text.replace('$', "$$"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn targets(restart: &str) -> Vec<Target> {
        let text = format!(
            "nodes: {{db01: {{conninfo: host=a}}, db02: {{conninfo: host=b}}}}\n\
             targets: [{{file: /f, set: {{a: \"{{host}}\"}}, restart: {restart}}}]\n"
        );
        Config::parse(&text).unwrap().targets
    }

    #[test]
    fn the_watchers_unit_may_write_to_the_folders() {
        let places = ["/srv/shop/f", "/srv/50% off\"/f", "/etc/batch/f"];
        for (place, setting) in places.into_iter().zip([
            "ReadWritePaths=-/srv/shop",
            "ReadWritePaths=\"-/srv/50%% off\\\"\"",
            "ReadWritePaths=-/etc/batch",
        ]) {
            let real = BTreeMap::from([("/f".into(), place.into())]);
            let text = for_watcher(&targets("{systemd_unit: shop.service}"), &real);
            let settings: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
            assert_eq!(settings, ["[Service]", setting]);
            assert!(text.contains("# /f is reached over a link."), "{text}");
        }
        let text = for_watcher(&targets("{command: [/bin/x]}"), &BTreeMap::new());
        assert!(text.contains("# /bin/x runs under") && !text.contains("link"), "{text}");
    }

    #[test]
    fn an_applications_unit_brings_the_file_up_to_date_first() {
        let watcher = Watcher {
            program: Path::new("/usr/bin/pg-keeper-watcher"),
            config: Path::new("/etc/a $b.yaml"),
            state: Path::new("/var/lib/w"),
            user: None,
        };
        let shop = targets("{systemd_unit: shop.service}");
        let text = for_application("shop.service", &watcher, &shop);
        assert!(text.starts_with("# /etc/systemd/system/shop.service.d/pg-keeper-watcher.conf\n"), "{text}");
        let command = "/usr/bin/env STATE_DIRECTORY=/var/lib/w /usr/bin/pg-keeper-watcher -c \"/etc/a $$b.yaml\" once \
                       --no-restart --target /f\n";
        assert!(text.ends_with(&format!("\nExecStartPre=-+{command}")), "{text}");
        // What root leaves in the state folder another user could not write to.
        let text = for_application("shop.service", &Watcher { user: Some("keeper"), ..watcher }, &shop);
        assert!(text.ends_with(&format!("\nExecStartPre=-+/usr/sbin/runuser -u keeper -- {command}")), "{text}");
        assert!(!text.contains("Mind:"));
        assert!(for_application("other.service", &watcher, &shop).contains("Mind: other.service is"));
    }
}
