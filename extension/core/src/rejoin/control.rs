//! Stopping and starting the server by the means with which it was started.

use super::Facts;
use super::quote::{comment, word};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

/// A standby may have to replay for long before it is ready, and a primary to write much before it is down.
const PATIENCE_SECONDS: u32 = 3600;

/// The systemd unit in `/proc/PID/cgroup`, if it is that of a server. One that was started from a cron job or by hand in a session is in a unit
/// as well, which is not its own.
pub fn unit_in(cgroups: &str) -> Option<&str> {
    let path = |line: &'_ str| line.splitn(3, ':').nth(2).map(str::len);
    let paths = cgroups.lines().filter_map(|line| path(line).map(|length| &line[line.len() - length..]));
    let units = paths.filter(|path| path.starts_with("/system.slice/")).filter_map(|path| path.rsplit('/').next());
    units.into_iter().find(|unit| unit.ends_with(".service") && unit.contains("postgres"))
}

/// Version and name of a cluster that lies as Debian lays it: `/etc/postgresql/15/main/postgresql.conf`.
fn debian_cluster(config_file: &str) -> Option<(&str, &str)> {
    let (version, rest) = config_file.strip_prefix("/etc/postgresql/")?.split_once('/')?;
    let name = rest.strip_suffix("/postgresql.conf")?;
    (!name.contains('/')).then_some((version, name))
}

/// Stops the server, and makes sure that it stays down.
pub(super) fn stop(facts: &Facts) -> Vec<String> {
    const STATUS: &str = "pg_ctl -D \"$data\" status >/dev/null";
    let unit = &facts.server.unit;
    if facts.server.is_process_one {
        return Vec::from([
            comment(
                "The server is process 1 of a container, which ends with it. Stop the container and run this in another one of the same",
            ),
            comment("image with the same volume."),
            format!("if {STATUS}; then fail 'The server runs: stop its container first.'; fi"),
        ]);
    }
    let by_hand = match debian_cluster(&facts.files.config_file) {
        Some((version, name)) => format!("pg_ctlcluster {} {} stop", word(version), word(name)),
        None => format!("pg_ctl -D \"$data\" -m fast -t {PATIENCE_SECONDS} stop"),
    };
    if unit.is_empty() {
        return Vec::from([format!("if {STATUS}; then {by_hand}; fi")]);
    }
    let refusal = word(&format!("The server runs again. As root: systemctl stop {unit}; then run this again."));
    let unit = word(unit);
    Vec::from([
        comment("systemd may ask for root's rights, or start again what it did not stop itself."),
        format!("if {STATUS}; then systemctl --no-ask-password stop {unit} || {by_hand}; sleep 2; fi"),
        format!("if {STATUS}; then fail {refusal}; fi"),
    ])
}

/// Starts the server.
pub(super) fn start(facts: &Facts) -> Vec<String> {
    let unit = &facts.server.unit;
    if facts.server.is_process_one {
        return Vec::from([comment("Now start the server's container again.")]);
    }
    if !unit.is_empty() {
        let refusal = word(&format!("All is ready. Last, as root: systemctl start {unit}"));
        return Vec::from([
            comment("What somebody else starts, systemd does not know of."),
            format!("systemctl --no-ask-password start {} || fail {refusal}", word(unit)),
        ]);
    }
    if let Some((version, name)) = debian_cluster(&facts.files.config_file) {
        return Vec::from([format!("pg_ctlcluster {} {} start", word(version), word(name))]);
    }
    Vec::from([
        comment(
            "\"restart\" takes the server's command line from postmaster.opts, as it was; it says that no server runs, and starts it.",
        ),
        format!("pg_ctl -D \"$data\" -l {} -t {PATIENCE_SECONDS} restart", log_file(facts)),
    ])
}

/// Whether the server is started with the command line that is kept in the data directory.
pub(super) fn keeps_command_line(facts: &Facts) -> bool {
    facts.server.unit.is_empty() && !facts.server.is_process_one && debian_cluster(&facts.files.config_file).is_none()
}

/// Where the server is to write before its own logging starts, as a word of the shell.
fn log_file(facts: &Facts) -> String {
    let log_file = &facts.files.log_file;
    let inside = log_file.strip_prefix(&format!("{}/", facts.files.data_directory));
    match inside {
        Some(name) if !name.contains('/') => format!("\"$data\"/{}", word(name)),
        None if !log_file.is_empty() => word(log_file),
        // A folder in the data directory is not sure to be there.
        Some(_) | None => "\"$data\"/startup.log".to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_s_own_unit_is_found() {
        for (cgroups, unit) in [
            (
                "0::/system.slice/system-postgresql.slice/postgresql@15-main.service\n",
                Some("postgresql@15-main.service"),
            ),
            ("3:cpu:/\n1:name=systemd:/system.slice/postgresql-15.service\n", Some("postgresql-15.service")),
            ("0::/system.slice/cron.service\n", None),
            ("0::/user.slice/user-109.slice/user@109.service/app.slice/postgres.service\n", None),
            ("0::/docker/5ca1ab1e\n", None),
            ("", None),
        ] {
            assert_eq!(unit_in(cgroups), unit, "{cgroups}");
        }
    }

    #[test]
    fn debian_s_layout_is_told_from_others() {
        assert_eq!(debian_cluster("/etc/postgresql/15/main/postgresql.conf"), Some(("15", "main")));
        for other in
            ["/etc/postgresql/postgresql.conf", "/srv/pg/postgresql.conf", "/etc/postgresql/15/a/b/postgresql.conf"]
        {
            assert_eq!(debian_cluster(other), None);
        }
    }
}
