//! The commands that make a superseded server a standby of its new primary.
//!
//! A plan is a script for a POSIX shell, all of it one subshell. A shell reads that whole before it runs any of it, so when a command of a plan
//! that was pasted into a terminal fails, no line is left over for whatever shell lies underneath. Everything that can be found out is found
//! out before the server is stopped. A fresh copy moves the old state aside and deletes nothing.

mod control;
mod copy;
mod partner;
mod quote;
mod rewind;

pub use control::unit_in;
pub use partner::FILE_OPTIONS;

use crate::event::Parameters;
use crate::ident::{Lsn, SystemIdentifier, Timeline};
use crate::report::Role;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use quote::{comment, word};

/// Everything that a plan is made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// What this server is.
    pub role: Role,
    /// What the keeper says of its fence: a text that begins with "fenced" when it is, and goes on with why.
    pub fence: String,
    /// Where the partner's history left this server's timeline, as the fence on disk says; `None` where it cannot be read.
    pub left_at: Option<Lsn>,
    /// `pg_keeper.node_name`
    pub node_name: String,
    /// `pg_keeper.database`
    pub database: String,
    /// A copy of the whole partner is asked for, even where pg_rewind would do.
    pub fresh_copy: bool,
    /// This server.
    pub server: Server,
    /// What lies where.
    pub files: Files,
    /// The partner.
    pub partner: Partner,
}

/// This server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// PostgreSQL's major version.
    pub major: u32,
    /// The cluster, which both servers share.
    pub system_identifier: SystemIdentifier,
    /// The timeline that this server is primary on.
    pub timeline: Timeline,
    /// This machine's name, as `uname -n` tells it.
    pub host: String,
    /// The operating system user that runs the server.
    pub account: String,
    /// `port`
    pub port: u32,
    /// The first of `unix_socket_directories`; empty when there is none.
    pub socket_directory: String,
    /// The systemd unit that runs the server; empty when none does.
    pub unit: String,
    /// The server is process 1, as in a container that runs nothing else.
    pub is_process_one: bool,
    /// The cluster has data checksums.
    pub data_checksums: bool,
    /// `wal_log_hints`
    pub wal_log_hints: bool,
    /// `full_page_writes`
    pub full_page_writes: bool,
    /// `restore_command` is set.
    pub restores_wal: bool,
    /// `primary_slot_name`
    pub primary_slot_name: String,
    /// There are physical replication slots here, so the pair uses them.
    pub has_slots: bool,
    /// Settings that a standby must not undercut.
    pub parameters: Parameters,
}

/// What lies where; every path is absolute.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Files {
    /// The data directory.
    pub data_directory: String,
    /// The data directory's inode.
    pub inode: u64,
    /// A file system is mounted on the data directory itself.
    pub is_mount_point: bool,
    /// The folder of the server's programs.
    pub programs: String,
    /// `config_file`
    pub config_file: String,
    /// Where the server writes what it says before its own logging starts; empty when that is no file.
    pub log_file: String,
    /// Files that belong to this node, wherever they lie: its configuration, what that includes, keys and certificates.
    pub own: Vec<String>,
    /// Where `pg_wal` lies when it is a symbolic link; else empty.
    pub wal_directory: String,
    /// Where tablespaces lie.
    pub tablespaces: Vec<String>,
}

/// The partner.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Partner {
    /// Its node name; empty when it has not told it.
    pub node_name: String,
    /// The options of `pg_keeper.partner_conninfo`, in their order; empty when it is not set.
    pub options: Vec<(String, String)>,
    /// As whom this server asks the partner.
    pub user: String,
    /// A superuser there: [`Partner::user`] if that is one.
    pub superuser: String,
    /// Its settings that a standby must not undercut.
    pub parameters: Option<Parameters>,
}

/// What to do, line by line: commands, and comments that say why. Where there is nothing to do, comments alone.
pub fn plan(facts: &Facts) -> Vec<String> {
    let mut lines = if let Some(why) = nothing_to_do(facts) {
        why
    } else if facts.fresh_copy || !can_rewind(facts) {
        copy::plan(facts)
    } else {
        rewind::plan(facts)
    };
    // What does not fit on a line of its own could be taken for a command.
    if lines.iter().any(|line| line.contains(char::is_control)) {
        lines = comments(&[
            "A path or a setting of this server holds a control character, which no plan here can be trusted with.",
        ]);
    }
    lines
}

/// Why this is no server to make a standby of, if it is not.
fn nothing_to_do(facts: &Facts) -> Option<Vec<String>> {
    let Facts { role, fence, partner, .. } = facts;
    let status = format!("{} -x -c 'SELECT * FROM pg_keeper.status'", psql(facts));
    if *role == Role::Standby {
        return Some(comments(&[
            "Nothing to do: this server is a standby already.",
            "If it does not follow its primary, the reason is in its log and in:",
            &format!("  {status}"),
        ]));
    }
    if !fence.starts_with("fenced") {
        return Some(comments(&[
            "Nothing to do: this server is a primary and is not fenced, so no newer primary is known here.",
            "Made a standby, it would lose what only it has. If its partner was promoted all the same, look at both servers:",
            &format!("  {status}"),
        ]));
    }
    if partner.options.is_empty() {
        return Some(comments(&[
            &format!("This server is {fence}."),
            "Where to find the new primary is not known: pg_keeper.partner_conninfo is not set. Set it, then ask again:",
            "  ALTER SYSTEM SET pg_keeper.partner_conninfo = 'host=PARTNER port=5432 user=USER'; SELECT pg_reload_conf();",
        ]));
    }
    None
}

/// Whether pg_rewind can tell which blocks of this server differ.
fn can_rewind(facts: &Facts) -> bool {
    let Server { data_checksums, wal_log_hints, full_page_writes, .. } = facts.server;
    (data_checksums || wal_log_hints) && full_page_writes
}

/// What both ways begin with: who may run it, and the names that the commands use.
fn head(facts: &Facts) -> Vec<String> {
    let Facts { server, files, .. } = facts;
    let mut lines = vec![
        "set -eu".to_string(),
        "umask 077".to_string(),
        "trap '[ $? = 0 ] || echo \"Stopped here: the last command failed, and none after it was run.\" >&2' EXIT"
            .to_string(),
        "fail() { printf '%s\\n' \"$1\" >&2; exit 1; }".to_string(),
        format!("PATH={}:$PATH", word(&files.programs)),
        "export PGCONNECT_TIMEOUT=10".to_string(),
        format!("data={}", word(&files.data_directory)),
        "now=$(date +%Y%m%d%H%M%S)".to_string(),
        String::new(),
        comment("In another place, the new primary above all, these commands would do harm."),
        format!(
            "[ \"$(id -un)\" = {} ] || fail {}",
            word(&server.account),
            word(&format!("This is for the user {}.", server.account))
        ),
    ];
    // A container's name changes with the container, its volume does not.
    if !server.is_process_one {
        let refusal = format!("This is for the host {}.", server.host);
        lines.push(format!("[ \"$(uname -n)\" = {} ] || fail {}", word(&server.host), word(&refusal)));
    }
    lines.push(format!(
        "[ \"$(stat -c %i \"$data\")\" = {} ] || fail 'The data directory is not the one that this was made for.'",
        files.inode
    ));
    lines
}

/// What this server's `postgresql.auto.conf` must say last of all, in `directory`, a word of the shell.
fn standby_settings(facts: &Facts, directory: &str) -> Vec<String> {
    let mut settings = vec![format!("primary_conninfo = {}", quote::setting(&partner::primary_conninfo(facts)))];
    settings.extend(slot(facts).map(|slot| format!("primary_slot_name = {}", quote::setting(&slot))));
    let smaller = smaller_parameters(facts);
    settings.extend(smaller.iter().map(|(name, value)| format!("{name} = {value}")));
    let settings = settings.iter().map(|setting| word(setting)).collect::<Vec<_>>().join(" ");
    let mut lines = vec![comment("A standby of the partner. The last line for a setting is the one that counts.")];
    if !smaller.is_empty() {
        lines.push(comment(
            "Parameters that are smaller here than on the partner are raised: a standby does not start with them.",
        ));
    }
    lines.push(format!("touch {directory}/standby.signal"));
    lines.push(format!("printf '%s\\n' '' {settings} >> {directory}/postgresql.auto.conf"));
    lines
}

/// The settings that would keep this server from starting as a standby, with the partner's values.
fn smaller_parameters(facts: &Facts) -> Vec<(&'static str, u32)> {
    let Some(theirs) = &facts.partner.parameters else { return Vec::new() };
    let ours = &facts.server.parameters;
    let all = [
        ("max_connections", ours.max_connections, theirs.max_connections),
        ("max_worker_processes", ours.max_worker_processes, theirs.max_worker_processes),
        ("max_wal_senders", ours.max_wal_senders, theirs.max_wal_senders),
        ("max_prepared_transactions", ours.max_prepared_transactions, theirs.max_prepared_transactions),
        ("max_locks_per_transaction", ours.max_locks_per_transaction, theirs.max_locks_per_transaction),
    ];
    all.into_iter().filter(|(_, ours, theirs)| ours < theirs).map(|(name, _, theirs)| (name, theirs)).collect()
}

/// The slot on the partner that this server will use, if the pair uses slots: the one it had as a standby, or one of its node's name.
/// Nothing but lower-case letters, digits and underscores, as a slot's name may hold.
fn slot(facts: &Facts) -> Option<String> {
    const LONGEST: usize = 63;
    let Server { primary_slot_name, has_slots, .. } = &facts.server;
    let name = match (primary_slot_name.as_str(), has_slots) {
        ("", false) => return None,
        ("", true) => &facts.node_name,
        (name, _) => name,
    };
    let letter = |letter: char| match letter.to_ascii_lowercase() {
        letter @ ('a'..='z' | '0'..='9') => letter,
        _ => '_',
    };
    Some(name.chars().map(letter).take(LONGEST).collect())
}

/// What this node keeps of its own, where the partner's or nothing would take its place: names in the data directory, folders with a slash.
fn kept_names(facts: &Facts) -> Vec<String> {
    let files = &facts.files;
    let prefix = format!("{}/", files.data_directory);
    // A folder of configuration counts as a whole, or files of the partner's would be included beside this node's.
    let name = |path: &String| {
        let inside = path.strip_prefix(&prefix)?;
        let name = inside.split_once('/').map_or_else(|| inside.to_string(), |(folder, _)| format!("{folder}/"));
        let is_the_servers = name.ends_with('/') && (name.starts_with("pg_") || name == "base/" || name == "global/");
        (!is_the_servers).then_some(name)
    };
    let mut names: Vec<String> = files.own.iter().filter_map(name).collect();
    names.push("postgresql.auto.conf".to_string());
    if control::keeps_command_line(facts) {
        names.push("postmaster.opts".to_string());
    }
    names.sort();
    names.dedup();
    names
}

/// `names` in `directory`, a word of the shell, as words.
fn paths_in<'a>(directory: &str, names: impl IntoIterator<Item = &'a String>) -> String {
    let path = |name: &String| format!("{directory}/{}", word(name.trim_end_matches('/')));
    names.into_iter().map(path).collect::<Vec<_>>().join(" ")
}

/// The folders among `names`.
fn folders(names: &[String]) -> Vec<&String> {
    names.iter().filter(|name| name.ends_with('/')).collect()
}

/// How the partner is called in comments.
fn partner_name(facts: &Facts) -> &str {
    if facts.partner.node_name.is_empty() { "its partner" } else { &facts.partner.node_name }
}

/// How a shell on this machine asks this server. A fence lets a superuser in through a Unix socket alone; where there is none, it is the role
/// that may look.
fn psql(facts: &Facts) -> String {
    let Server { socket_directory, port, .. } = &facts.server;
    let host = match socket_directory.as_str() {
        "" => format!("localhost -U {}", word(&facts.partner.user)),
        directory => word(directory),
    };
    format!("psql -h {host} -p {port} -d {}", word(&facts.database))
}

/// What to look at when the server runs again.
fn afterwards(facts: &Facts) -> Vec<String> {
    let psql = psql(facts);
    comments(&[
        &format!("When it runs, look at {} and {}:", facts.node_name, partner_name(facts)),
        &format!("  {psql} -x -c 'SELECT * FROM pg_keeper.status'"),
        &format!("  {psql} -c 'SELECT * FROM pg_keeper.check()'"),
    ])
}

fn comments(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| comment(text)).collect()
}

#[cfg(test)]
mod tests;
