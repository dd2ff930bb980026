//! The way over pg_rewind, which fetches only what differs.

use super::quote::{comment, word};
use super::{
    Facts, afterwards, comments, control, folders, head, kept_names, partner, partner_name, paths_in, slot,
    standby_settings,
};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

/// The whole plan.
pub(super) fn plan(facts: &Facts) -> Vec<String> {
    let mut lines = vec!["(".to_string()];
    lines.extend(introduction(facts));
    lines.extend(head(facts));
    lines.push(String::new());
    lines.extend(partner::ask(facts));
    lines.push(String::new());
    lines.extend(partner::ask_as_superuser(facts));
    lines.push(String::new());
    lines.extend(make_slot(facts));
    lines.extend(set_aside(facts));
    lines.push(String::new());
    lines.extend(rewind(facts));
    lines.push(String::new());
    lines.extend(put_back(facts));
    lines.extend(standby_settings(facts, "\"$data\""));
    lines.push(String::new());
    lines.extend(control::start(facts));
    lines.push(")".to_string());
    lines.extend(afterwards(facts));
    lines
}

fn introduction(facts: &Facts) -> Vec<String> {
    let (node, partner) = (&facts.node_name, partner_name(facts));
    let psql = format!("psql -p {} -d {} -XAtc", facts.server.port, word(&facts.database));
    comments(&[
        &format!("Makes {node} a standby of {partner} with pg_rewind. Why: {}.", facts.fence),
        &format!("For a shell of the user {}. The first command that fails ends it.", facts.server.account),
        "What only this server has is undone. If it may be needed, stop the server and copy the data directory first.",
        "Should pg_rewind fail half-way, a copy of the whole partner is what is left. Keep that plan before you begin:",
        &format!("  {psql} 'SELECT pg_keeper.rejoin_plan(fresh_copy => true)' > fresh_copy.sh"),
    ])
}

fn make_slot(facts: &Facts) -> Vec<String> {
    let Some(slot) = slot(facts) else { return Vec::new() };
    let query = format!(
        "SELECT pg_create_physical_replication_slot('{slot}', true) WHERE NOT EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = '{slot}')"
    );
    vec![
        comment("The partner keeps from now on what this server will need."),
        format!("psql -XAtqw -d \"$source\" -c {} >/dev/null", word(&query)),
        String::new(),
    ]
}

fn set_aside(facts: &Facts) -> Vec<String> {
    vec![
        comment("pg_rewind brings the partner's configuration files along: this server's own are put back afterwards."),
        "own=$data.own.$now".to_string(),
        "mkdir \"$own\"".to_string(),
        format!("cp -pRP {} \"$own\"", paths_in("\"$data\"", &kept_names(facts))),
    ]
}

fn rewind(facts: &Facts) -> Vec<String> {
    let config_file = &facts.files.config_file;
    let is_inside =
        config_file.strip_prefix(facts.files.data_directory.as_str()).is_some_and(|rest| rest.starts_with('/'));
    let knows_config_file = facts.server.major >= 15;
    let mut lines = control::stop(facts);
    let mut command = "pg_rewind --progress --target-pgdata=\"$data\" --source-server=\"$source\"".to_string();
    if !is_inside && knows_config_file {
        command.push_str(&format!(" --config-file={}", word(config_file)));
    }
    if facts.server.restores_wal && (is_inside || knows_config_file) {
        lines.push(comment("WAL that is no longer here comes from the archive, over restore_command."));
        command.push_str(" --restore-target-wal");
    }
    lines.push("rewound=yes".to_string());
    lines.push(format!("{command} || rewound=no"));
    lines
}

fn put_back(facts: &Facts) -> Vec<String> {
    let names = kept_names(facts);
    let folders = folders(&names);
    let mut lines = Vec::new();
    if !folders.is_empty() {
        lines.push(comment("Folders as a whole, so that nothing of the partner's stays in them."));
        lines.push(format!("rm -rf {}", paths_in("\"$data\"", folders)));
    }
    lines.push(format!("cp -pRP {} \"$data\"", paths_in("\"$own\"", &names)));
    let refusal = "pg_rewind failed: go on with fresh_copy.sh. If it had not begun to copy, this server is as it was and can be started as well.";
    lines.push(format!("[ $rewound = yes ] || fail {}", word(refusal)));
    lines
}
