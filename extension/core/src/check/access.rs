//! Whether the partners reach each other.

use super::{Facts, Finding, SEE_PARTNER};
use crate::report::Role;
use crate::status::PartnerState;
use alloc::format;
use alloc::string::{String, ToString};

/// What a row says whose answer only the partner can give.
const NOT_KNOWN: &str = "not known: the partner has not answered since the keeper started";

pub(super) fn partner(facts: &Facts) -> Finding {
    const NAME: &str = "partner";
    let partner = &facts.partner;
    if !partner.keeper_running {
        return Finding::error(
            NAME,
            "the keeper is not running, or hangs, so nobody asks it",
            "See the rows \"settings\" and \"max_worker_processes\".",
        );
    }
    if !facts.settings.partner_set || !facts.settings.problems.is_empty() {
        return Finding::error(NAME, "it is not asked", "See the row \"settings\".");
    }
    let why = match partner.last_error.as_str() {
        "" => String::new(),
        error => format!(": {error}"),
    };
    match partner.state {
        PartnerState::Unknown => Finding::warning(
            NAME,
            format!("it has not answered yet{why}"),
            "Check that its server runs and that pg_keeper.partner_conninfo leads to it, with psql and the same connection string.",
        ),
        PartnerState::NotAsked => Finding::error(
            NAME,
            format!("this server could not ask it{why}"),
            "Mend name resolution or the network of this machine, or give the partner's address as hostaddr in pg_keeper.partner_conninfo.",
        ),
        PartnerState::Unhelpful => Finding::error(
            NAME,
            format!("its server lives and does not tell{why}"),
            "See the rows \"pg_hba.conf on the partner\" and \"replication privilege\"; pg_keeper must be loaded there too.",
        ),
        PartnerState::Missed => {
            Finding::warning(NAME, format!("it missed the last keepalive{why}"), "Look again in a moment.")
        }
        PartnerState::Lost => Finding::error(
            NAME,
            format!("it is lost{why}"),
            "Start its server. A former primary comes back as a standby: use pg_rewind or pg_basebackup.",
        ),
        PartnerState::Alive => answering(facts, NAME),
    }
}

fn answering(facts: &Facts, name: &'static str) -> Finding {
    let partner = &facts.partner;
    let Some(report) = &partner.report else {
        return Finding::warning(
            name,
            "it answers without a report",
            "Install the same version of pg_keeper on both servers.",
        );
    };
    match (facts.role, report.role) {
        (Role::Primary, Role::Primary) => Finding::error(
            name,
            format!("{} is a primary as well", report.node_name),
            "Decide which of the two holds the data that counts, and make the other its standby with pg_rewind or pg_basebackup.",
        ),
        (Role::Standby, Role::Standby) => Finding::error(
            name,
            format!("{} is a standby as well, so there is no primary", report.node_name),
            "Promote the one that is further ahead: SELECT pg_promote();",
        ),
        (Role::Primary, Role::Standby) if !report.streaming => Finding::warning(
            name,
            format!("{} answers and does not stream from here", report.node_name),
            "Look into its log, and check primary_conninfo there.",
        ),
        (Role::Standby, Role::Primary) if !partner.armed => Finding::warning(
            name,
            format!("{} answers, and this standby would not promote itself: {}", report.node_name, partner.reason),
            "Do what that sentence says; SELECT armed, reason FROM pg_keeper.status shows when it is done.",
        ),
        (Role::Primary, Role::Standby) | (Role::Standby, Role::Primary) => {
            Finding::ok(name, format!("{} answers and is a {}", report.node_name, report.role.as_str()))
        }
    }
}

/// How we refuse the partner, as it tells us.
pub(super) fn hba_here(facts: &Facts) -> Finding {
    const NAME: &str = "pg_hba.conf here";
    let partner = &facts.partner;
    let Some(report) = &partner.report else {
        return Finding::warning(NAME, NOT_KNOWN, SEE_PARTNER);
    };
    let sqlstate = report.sight.sqlstate.as_str();
    if !sqlstate.starts_with("28") {
        return Finding::ok(NAME, "the partner is let in");
    }
    let detail = format!("this server refuses the partner's keepalives (SQLSTATE {sqlstate})");
    if sqlstate == "28P01" {
        return Finding::error(NAME, detail, "Correct the password in the passfile on the partner.");
    }
    let line = hba_line(&partner.user, &partner.address);
    Finding::error(
        NAME,
        detail,
        format!(
            "Add this line to pg_hba.conf here, with the user of the partner's pg_keeper.partner_conninfo, and reload it with SELECT \
             pg_reload_conf(): {line}"
        ),
    )
}

/// How the partner refuses us.
pub(super) fn hba_there(facts: &Facts) -> Finding {
    const NAME: &str = "pg_hba.conf on the partner";
    let partner = &facts.partner;
    let error = partner.last_error.as_str();
    let no_password = error.contains("no password supplied");
    if !partner.refused_with.starts_with("28") && !no_password {
        return match partner.report {
            Some(_) => Finding::ok(NAME, "this server is let in"),
            None => Finding::warning(NAME, NOT_KNOWN, SEE_PARTNER),
        };
    }
    let user = &partner.user;
    let detail = format!("the partner refuses our keepalives: {error}");
    let hint = if no_password || partner.refused_with == "28P01" {
        let host = if partner.address.is_empty() { "localhost" } else { &partner.address };
        format!(
            "Put the password of {user} into a file of mode 0600 that belongs to the server's user, one line {host}:*:*:{user}:PASSWORD, and \
             add passfile=FILE to pg_keeper.partner_conninfo."
        )
    } else if error.contains("pg_hba.conf") {
        // The message says as whom and whence the partner sees us, which nobody knows better.
        let user = quoted_after(error, "user").unwrap_or(user);
        let host = quoted_after(error, "host").unwrap_or("ADDRESS-OF-THIS-SERVER");
        let line = hba_line(user, if host == "[local]" { "" } else { host });
        format!(
            "Add this line to pg_hba.conf on the partner, above any that rejects, and reload it there with SELECT pg_reload_conf(): {line}"
        )
    } else {
        format!(
            "On the primary: CREATE ROLE {user} LOGIN REPLICATION; or ALTER ROLE {user} LOGIN REPLICATION; if there is such a role."
        )
    };
    Finding::error(NAME, detail, hint)
}

pub(super) fn replication_privilege(facts: &Facts) -> Finding {
    const NAME: &str = "replication privilege";
    const DENIED: &str = "42501";
    let partner = &facts.partner;
    let user = &partner.user;
    if partner.refused_with == DENIED {
        return Finding::error(
            NAME,
            format!("the role {user}, as which we ask the partner, lacks REPLICATION"),
            format!("On the primary: ALTER ROLE {user} REPLICATION;"),
        );
    }
    match &partner.report {
        Some(report) if report.sight.sqlstate == DENIED => Finding::error(
            NAME,
            "the role as which the partner asks here lacks REPLICATION",
            "On the primary: ALTER ROLE USER REPLICATION; with the user of the partner's pg_keeper.partner_conninfo.",
        ),
        Some(_) => Finding::ok(NAME, format!("the role {user} may ask the partner")),
        None => Finding::warning(NAME, NOT_KNOWN, SEE_PARTNER),
    }
}

/// The line of pg_hba.conf that lets `user` in from `host`.
fn hba_line(user: &str, host: &str) -> String {
    let plain = user.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
    let user = if plain { user.to_string() } else { format!("\"{user}\"") };
    let is_v4 = host.split('.').count() == 4 && host.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let mask = match host {
        _ if is_v4 => "/32",
        _ if host.contains(':') => "/128",
        _ => "",
    };
    match host {
        "" => format!("local replication {user} scram-sha-256"),
        _ => format!("host replication {user} {host}{mask} scram-sha-256"),
    }
}

/// The text in double quotes after a word, as in `host "10.0.0.11"`.
fn quoted_after<'a>(text: &'a str, word: &str) -> Option<&'a str> {
    let mut parts = text.split('"');
    while let (Some(before), Some(quoted)) = (parts.next(), parts.next()) {
        if before.trim_end().ends_with(word) {
            return Some(quoted);
        }
    }
    None
}
