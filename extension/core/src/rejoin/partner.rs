//! The connections to the partner: as a superuser, which pg_rewind needs, and as the keeper asks, which is how a standby streams.

use super::quote::{comment, option, word};
use super::{Facts, Partner};
use crate::conninfo::SECRETS;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

/// Options that every connection of a plan decides anew.
const REPLACED: &[&str] = &[
    "user",
    "dbname",
    "replication",
    "application_name",
    "fallback_application_name",
    "client_encoding",
    // A standby must find its primary whatever that says of itself.
    "target_session_attrs",
];
/// Options whose value is a file. A server reads a relative one from its data directory, a shell stands elsewhere.
pub const FILE_OPTIONS: &[&str] =
    &["passfile", "sslcert", "sslkey", "sslrootcert", "sslcrl", "sslcrldir", "servicefile", "sslkeylogfile"];

/// The options that say where the partner is and how to get there, with `more` behind them.
fn connection(facts: &Facts, more: &[(&str, &str)]) -> String {
    let Partner { options, .. } = &facts.partner;
    let kept = options.iter().filter(|(keyword, value)| {
        let keyword = keyword.as_str();
        !value.is_empty() && !SECRETS.contains(&keyword) && !REPLACED.contains(&keyword)
    });
    let data_directory = &facts.files.data_directory;
    let kept = kept.map(|(keyword, value)| {
        // The one name that stands for no file.
        let is_relative = FILE_OPTIONS.contains(&keyword.as_str()) && !value.starts_with('/') && value != "system";
        let value = if is_relative { format!("{data_directory}/{value}") } else { value.clone() };
        format!("{keyword}={}", option(&value))
    });
    let more = more.iter().map(|(keyword, value)| format!("{keyword}={}", option(value)));
    kept.chain(more).collect::<Vec<_>>().join(" ")
}

/// As whom the keeper asks. A service may name the user, and then nobody else has to.
fn user(facts: &Facts) -> Vec<(&'static str, &str)> {
    let Partner { options, user, .. } = &facts.partner;
    let has = |keyword: &str| options.iter().any(|(name, value)| name == keyword && !value.is_empty());
    if has("service") && !has("user") || user.is_empty() { Vec::new() } else { Vec::from([("user", user.as_str())]) }
}

/// What the standby streams with. The name lets `synchronous_standby_names` name it.
pub(super) fn primary_conninfo(facts: &Facts) -> String {
    let mut more = user(facts);
    more.push(("application_name", &facts.node_name));
    connection(facts, &more)
}

/// Names the connection for replication, and makes sure that a primary of this cluster answers, newer than this server.
pub(super) fn ask(facts: &Facts) -> Vec<String> {
    const ASK: &str = "psql -XAtqw -d \"$partner dbname=replication replication=true\" -c";
    let server = &facts.server;
    // What a role that may only replicate can read on such a connection.
    let role = if server.major >= 14 { "in_hot_standby" } else { "transaction_read_only" };
    Vec::from([
        comment(
            "As the standby will stream. The partner must let it in without asking for a password, and be a newer primary of this cluster.",
        ),
        format!("partner={}", word(&connection(facts, &user(facts)))),
        format!("identity=$({ASK} IDENTIFY_SYSTEM)"),
        format!(
            "[ \"${{identity%%|*}}\" = {} ] || fail 'The partner belongs to another cluster.'",
            server.system_identifier
        ),
        "timeline=${identity#*|}".to_string(),
        format!("[ \"${{timeline%%|*}}\" -gt {} ] || fail 'The partner is not on a newer timeline.'", server.timeline),
        format!("[ \"$({ASK} 'SHOW {role}')\" = off ] || fail 'The partner is not a primary.'"),
    ])
}

/// Names the superuser's connection and makes sure that it may do what pg_rewind does.
pub(super) fn ask_as_superuser(facts: &Facts) -> Vec<String> {
    let superuser = &facts.partner.superuser;
    let source = connection(facts, &[("user", superuser), ("dbname", "postgres")]);
    Vec::from([
        comment(
            "As pg_rewind reads. It needs a superuser, or a role that may CHECKPOINT and has EXECUTE on pg_ls_dir(text, boolean, boolean),",
        ),
        comment(
            "pg_stat_file(text, boolean), pg_read_binary_file(text) and pg_read_binary_file(text, bigint, bigint, boolean).",
        ),
        comment(
            "Should the partner refuse it: a line \"host postgres USER ADDRESS-OF-THIS-SERVER/32 scram-sha-256\" in pg_hba.conf there lets it in,",
        ),
        comment("and its password belongs into the passfile or into the environment variable PGPASSWORD."),
        format!("source={}", word(&source)),
        "psql -XAtqw -d \"$source\" -c \"SELECT pg_read_binary_file('PG_VERSION')\" >/dev/null".to_string(),
    ])
}
