//! The way over pg_rewind, which fetches only what differs.

use super::quote::{comment, word};
use super::{
    Facts, afterwards, comments, control, folders, head, kept_names, partner, partner_name, paths_in, psql, slot,
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
    lines.extend(look_for_wal(facts));
    lines.extend(make_slot(facts));
    lines.extend(set_aside(facts));
    lines.push(String::new());
    lines.extend(rewind(facts));
    lines.push(String::new());
    lines.extend(put_back(facts));
    lines.extend(look_for_wal_here(facts));
    lines.push(String::new());
    lines.extend(standby_settings(facts, "\"$data\""));
    lines.push(String::new());
    lines.extend(control::start(facts));
    lines.push(")".to_string());
    lines.extend(afterwards(facts));
    lines
}

fn introduction(facts: &Facts) -> Vec<String> {
    let (node, partner) = (&facts.node_name, partner_name(facts));
    comments(&[
        &format!("Makes {node} a standby of {partner} with pg_rewind. Why: {}.", facts.fence),
        &format!("For a shell of the user {}. The first command that fails ends it.", facts.server.account),
        "What only this server has is undone. If it may be needed, stop the server and copy the data directory first.",
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
        String::new(),
        comment(
            "Where pg_rewind does not do, a copy of the whole partner is what is left. Only a server that runs can print that plan.",
        ),
        "copy=$own/fresh_copy.sh".to_string(),
        "if pg_ctl -D \"$data\" status >/dev/null; then".to_string(),
        format!("  {} -XAtqw -c 'SELECT pg_keeper.rejoin_plan(fresh_copy => true)' > \"$copy\"", psql(facts)),
        "else".to_string(),
        "  echo 'This server does not run: no plan for a copy is kept.' >&2".to_string(),
        "fi".to_string(),
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
    lines.push("[ $rewound = yes ] || fail \"pg_rewind failed. If it had not begun to copy, this server is as it was and can be started; else go on with: sh '$copy'\"".to_string());
    lines
}

/// What the partner must still have of its own WAL, all of it from where the timelines parted: pg_rewind succeeds without. What an archive may
/// have cannot be told.
fn look_for_wal(facts: &Facts) -> Vec<String> {
    let Some(left_at) = facts.left_at.filter(|_| !facts.server.restores_wal) else { return Vec::new() };
    let query = format!(
        "SELECT coalesce(min(substr(name, 9)) <= substr(pg_walfile_name('{left_at}'), 9), false) \
         FROM pg_ls_dir('pg_wal', true, false) name WHERE name ~ '^[0-9A-F]{{24}}$'"
    );
    let refusal = "The partner no longer has all WAL since its promotion, and a rewound server would wait for it for ever. Nothing has been \
                   changed. A copy of the partner does: SELECT pg_keeper.rejoin_plan(fresh_copy => true) prints the commands.";
    vec![
        comment("pg_rewind asks nobody whether the partner still has the WAL that a rewound server begins with."),
        format!("[ \"$(psql -XAtqw -d \"$source\" -c {})\" = t ] || fail {}", word(&query), word(refusal)),
        String::new(),
    ]
}

/// The same of the WAL before that, from the last common checkpoint on, which either server may have kept. A segment of a newer timeline
/// repeats what came before it.
fn look_for_wal_here(facts: &Facts) -> Vec<String> {
    if facts.server.restores_wal {
        return Vec::new();
    }
    vec![
        String::new(),
        comment("The last common checkpoint, as pg_rewind has noted it; nothing is noted where nothing was rewound."),
        "needed=$(sed -n 's/^START WAL LOCATION: .*(file [0-9A-F]\\{8\\}\\([0-9A-F]*\\))$/\\1/p' \"$data/backup_label\" 2>/dev/null) || needed="
            .to_string(),
        "[ -z \"$needed\" ] || ls \"$data\"/pg_wal/????????\"$needed\" >/dev/null 2>&1 || fail \"Neither server has the WAL segment $needed any more, with which a rewound server begins. Go on with: sh '$copy'\"".to_string(),
    ]
}
