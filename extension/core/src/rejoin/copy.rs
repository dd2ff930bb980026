//! The way over pg_basebackup, which fetches everything. The copy is made beside the data directory while the server, fenced, still stands. Only a
//! complete one takes its place.

use super::quote::{comment, word};
use super::{
    Facts, Server, afterwards, comments, control, folders, head, kept_names, partner, partner_name, paths_in, slot,
    standby_settings,
};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

/// The whole plan.
pub(super) fn plan(facts: &Facts) -> Vec<String> {
    if facts.files.is_mount_point {
        return cannot_be_moved(facts);
    }
    let mut lines = vec!["(".to_string()];
    lines.extend(introduction(facts));
    lines.extend(head(facts));
    lines.push(String::new());
    lines.extend(partner::ask(facts));
    lines.push(String::new());
    lines.extend(copy(facts));
    lines.push(String::new());
    lines.extend(own_configuration(facts));
    lines.extend(standby_settings(facts, "\"$copy\""));
    lines.push(String::new());
    lines.extend(control::stop(facts));
    lines.push("mv \"$data\" \"$data.old.$now\"".to_string());
    lines.push("mv \"$copy\" \"$data\"".to_string());
    lines.push(String::new());
    lines.extend(control::start(facts));
    lines.push(format!(
        "echo \"The old state is in $data.old.$now{}. Delete it when nothing in it is needed any more.\"",
        old_places(facts)
    ));
    lines.push(")".to_string());
    lines.extend(afterwards(facts));
    lines
}

fn introduction(facts: &Facts) -> Vec<String> {
    let (node, partner) = (&facts.node_name, partner_name(facts));
    comments(&[
        &format!("Makes {node} a standby of {partner} with pg_basebackup. Why: {}.", facts.fence),
        &why_not_rewind(facts),
        &format!("For a shell of the user {}. The first command that fails ends it.", facts.server.account),
        "What only this server has stays in its old data directory, which is moved aside. There must be room for both.",
    ])
}

fn why_not_rewind(facts: &Facts) -> String {
    let Server { data_checksums, wal_log_hints, full_page_writes, .. } = facts.server;
    match (data_checksums || wal_log_hints, full_page_writes) {
        (false, _) => {
            "pg_rewind cannot be used: there are no data checksums here, and wal_log_hints is off.".to_string()
        }
        (true, false) => "pg_rewind cannot be used: full_page_writes is off.".to_string(),
        (true, true) => "pg_rewind was not wanted: everything is copied.".to_string(),
    }
}

fn copy(facts: &Facts) -> Vec<String> {
    let mut lines = Vec::new();
    let mut command = "pg_basebackup -w -d \"$partner\" -D \"$copy\" -X stream -c fast -P".to_string();
    if let Some(slot) = slot(facts) {
        lines.push(comment("The slot on the partner that this server will use."));
        lines.push(format!("pg_receivewal -w -d \"$partner\" -S {slot} --create-slot --if-not-exists"));
        command.push_str(&format!(" -S {slot}"));
    }
    let wal_directory = &facts.files.wal_directory;
    if !wal_directory.is_empty() {
        lines.push(comment("pg_wal lies elsewhere, and so does the new one: in a new folder there."));
        command.push_str(&format!(" --waldir={}/\"wal.$now\"", word(wal_directory)));
    }
    for (index, place) in outer_tablespaces(facts).enumerate() {
        if index == 0 {
            lines.push(comment("Tablespaces lie elsewhere, and their copies do: each in a new folder of the old place. The partner must have them in"));
            lines.push(comment("the same places; what it has elsewhere goes where it is there."));
        }
        let escaped = word(&place.replace('=', "\\="));
        command.push_str(&format!(" -T {escaped}={escaped}/\"copy.$now\""));
    }
    lines.push(comment("The copy. Until it is complete nothing changes here."));
    lines.push("copy=$data.new.$now".to_string());
    lines.push(command);
    lines
}

/// Where else than in the old data directory the old state lies.
fn old_places(facts: &Facts) -> &'static str {
    match (facts.files.wal_directory.is_empty(), outer_tablespaces(facts).next().is_none()) {
        (true, true) => "",
        (false, true) => " and beside wal.$now, where its pg_wal led",
        (true, false) => " and beside copy.$now in its tablespaces",
        (false, false) => ", beside copy.$now in its tablespaces and beside wal.$now, where its pg_wal led",
    }
}

/// The tablespaces that a copy of the data directory does not hold.
fn outer_tablespaces(facts: &Facts) -> impl Iterator<Item = &String> {
    let inside = format!("{}/", facts.files.data_directory);
    facts.files.tablespaces.iter().filter(move |place| place.starts_with('/') && !place.starts_with(&inside))
}

fn own_configuration(facts: &Facts) -> Vec<String> {
    let names = kept_names(facts);
    let mut lines = vec![comment("The partner's configuration files came along: this server's own take their place.")];
    let folders = folders(&names);
    if !folders.is_empty() {
        lines.push(format!("rm -rf {}", paths_in("\"$copy\"", folders)));
    }
    lines.push(format!("cp -pRP {} \"$copy\"", paths_in("\"$data\"", &names)));
    lines
}

/// Where a file system is mounted no folder can be moved, and what would take its place has none.
fn cannot_be_moved(facts: &Facts) -> Vec<String> {
    let data_directory = &facts.files.data_directory;
    let slot = slot(facts).map(|slot| format!(" -C -S {slot}")).unwrap_or_default();
    comments(&[
        &format!("{} must become a standby of {}. Why: {}.", facts.node_name, partner_name(facts), facts.fence),
        &why_not_rewind(facts),
        &format!(
            "A file system is mounted on the data directory {data_directory}, so no command here can move it aside."
        ),
        "By hand: stop the server, mount another, empty file system there and keep the old one. Then, as the server's user:",
        &format!(
            "  pg_basebackup -d {} -D {} -X stream -c fast -R{slot}",
            word(&partner::primary_conninfo(facts)),
            word(data_directory)
        ),
        "Put this server's own configuration files back from the old file system, postgresql.auto.conf excepted, and start the server.",
    ])
}
