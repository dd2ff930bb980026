//! The way over pg_rewind, which fetches only what differs.

use super::quote::{comment, word};
use super::{
    Facts, afterwards, comments, control, copy, folders, head, kept_names, partner, partner_name, paths_in, slot,
    standby_settings,
};
use crate::ident::Lsn;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

/// Ends the commands of the copy, as no line of them does.
const END_OF_COPY: &str = "END OF THE COPY";

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
    lines.extend(ask_for_wal(facts));
    lines.extend(set_aside(facts));
    lines.push(String::new());
    lines.extend(keep_wal(facts));
    lines.push(String::new());
    lines.extend(rewind(facts));
    lines.push(String::new());
    lines.extend(put_back(facts));
    lines.push(String::new());
    lines.extend(standby_settings(facts, "\"$data\""));
    lines.push(String::new());
    lines.extend(look_for_wal(facts));
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

/// Whether the partner still has its WAL from where the timelines parted. pg_rewind asks nobody, and the server that it leaves waits for ever.
/// `None` where that cannot be told: an archive may have it, or the fence is not on disk.
fn fork(facts: &Facts) -> Option<Lsn> {
    // The function names the segment before one that begins just there (up to PostgreSQL 16), and the byte itself is in the next one.
    facts.left_at.filter(|_| !facts.server.restores_wal).map(|left_at| Lsn(left_at.0.saturating_add(1)))
}

fn ask_for_wal(facts: &Facts) -> Vec<String> {
    let Some(fork) = fork(facts) else { return not_asked(facts) };
    let query = format!(
        "SELECT substr(pg_walfile_name('{fork}'), 9), coalesce(min(substr(name, 9)) <= substr(pg_walfile_name('{fork}'), 9), false) \
         FROM pg_ls_dir('pg_wal', true, false) name WHERE name ~ '^[0-9A-F]{{24}}$'"
    );
    let refusal = "The partner does not have all WAL since its promotion any more, and a rewound server would wait for it for ever. This server is \
                   as it was. A copy of the partner does: SELECT pg_keeper.rejoin_plan(fresh_copy => true) prints the commands.";
    vec![
        comment("pg_rewind asks nobody whether the partner still has the WAL that a rewound server begins with."),
        "ask_for_wal() {".to_string(),
        format!("  fork=$(psql -XAtqw -d \"$source\" -c {})", word(&query)),
        format!("  [ \"${{fork#*|}}\" = t ] || fail {}", word(refusal)),
        "}".to_string(),
        "ask_for_wal".to_string(),
        String::new(),
    ]
}

/// Says that nobody asks for the WAL here, why, and how the reader sees that it is missing.
fn not_asked(facts: &Facts) -> Vec<String> {
    let why = if facts.server.restores_wal {
        "restore_command is set, and what the partner no longer has may be in the archive"
    } else {
        "the fence is not on disk, so it is not known where the timelines parted"
    };
    let mut lines = comments(&[
        &format!("Nobody asks here whether the partner still has the WAL that a rewound server begins with: {why}."),
        "Without, the server's log repeats that a requested WAL segment has already been removed. Then go on with what fresh_copy.sh says, below.",
    ]);
    lines.push(String::new());
    lines
}

fn set_aside(facts: &Facts) -> Vec<String> {
    let mut lines = vec![
        comment("pg_rewind brings the partner's configuration files along: this server's own are put back afterwards."),
        "own=$data.own.$now".to_string(),
        "mkdir \"$own\"".to_string(),
        format!("cp -pRP {} \"$own\"", paths_in("\"$data\"", &kept_names(facts))),
        comment(
            "Where pg_rewind does not do, a copy of the whole partner is what is left: the commands, to have them when nobody can print them.",
        ),
        "copy=$own/fresh_copy.sh".to_string(),
        format!("cat > \"$copy\" <<'{END_OF_COPY}'"),
    ];
    lines.extend(copy::plan(&Facts { fresh_copy: true, ..facts.clone() }));
    lines.push(END_OF_COPY.to_string());
    lines
}

/// Sees to it that the partner keeps what this server will need, and has a checkpoint on its timeline. In this order: a checkpoint is what removes
/// WAL.
fn keep_wal(facts: &Facts) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(slot) = slot(facts) {
        let query = format!(
            "SELECT pg_create_physical_replication_slot('{slot}', true) WHERE NOT EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = '{slot}')"
        );
        lines.push(comment("The partner keeps from now on what this server will need."));
        lines.push(format!("psql -XAtqw -d \"$source\" -c {} >/dev/null", word(&query)));
    }
    lines.push(comment(
        "pg_rewind looks for the partner's timeline in its last checkpoint, so there must be one since its promotion.",
    ));
    lines.push("begun=$(psql -XAtqw -d \"$source\" -c 'SELECT timeline_id FROM pg_control_checkpoint()')".to_string());
    lines.push("[ \"$begun\" = \"${timeline%%|*}\" ] || psql -XAtqw -d \"$source\" -c CHECKPOINT".to_string());
    if fork(facts).is_some() {
        lines.push("ask_for_wal".to_string());
    }
    lines
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
    lines.push("[ $rewound = yes ] || fail \"pg_rewind failed. If it had not begun to copy, this server is as it was and can be started. Else go on with what this file says: $copy\"".to_string());
    lines
}

/// What was asked for may have gone meanwhile, and what comes before it, from the last common checkpoint on, may be gone on both servers. A
/// segment of a newer timeline repeats what came before it. pg_rewind notes where the server will begin; where it had nothing to do, it notes nothing.
fn look_for_wal(facts: &Facts) -> Vec<String> {
    if fork(facts).is_none() {
        return Vec::new();
    }
    let refusal =
        "is missing, with which a rewound server begins. Do not start this one. Go on with what this file says: $copy";
    vec![
        comment("Whether all WAL is there that this server begins with; without, it would wait for it for ever."),
        "if [ -e \"$data/backup_label\" ]; then".to_string(),
        "  needed=$(sed -n 's/^START WAL LOCATION: .*(file [0-9A-F]\\{8\\}\\([0-9A-F]*\\))$/\\1/p' \"$data/backup_label\")".to_string(),
        format!("  ls \"$data\"/pg_wal/????????\"$needed\" >/dev/null 2>&1 || fail \"The WAL segment $needed of the last common checkpoint {refusal}\""),
        format!("  ls \"$data\"/pg_wal/????????\"${{fork%%|*}}\" 2>/dev/null | grep -qv '/{:08X}[^/]*$' || fail \"The partner's WAL segment ${{fork%%|*}} {refusal}\"", facts.server.timeline.0),
        "fi".to_string(),
        String::new(),
    ]
}
