//! Whom commits wait for, and for how long.

use super::{Commits, Facts, Finding, Held, SEE_PARTNER};
use crate::report::{Report, Role};
use crate::settings::{OnStandbyLoss, Settings};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::time::Duration;

/// What status says of synchronous replication while the setting does not hold what the keeper wants.
const NOT_HELD: &str = "synchronous_standby_names does not hold what it should";
/// The name that every standby answers to.
const EVERYBODY: &str = "*";

pub(super) fn replication(facts: &Facts) -> Finding {
    const NAME: &str = "synchronous replication";
    let commits = &facts.commits;
    let partner = facts.partner.report.as_ref();
    if commits.wished.trim().is_empty() {
        return match partner.and_then(|partner| partner.on_standby_loss) {
            None => Finding::ok(NAME, "not managed: pg_keeper.synchronous_standby_names is empty"),
            Some(_) => Finding::warning(
                NAME,
                "pg_keeper.synchronous_standby_names is set on the partner and not here, so this server would be asynchronous as primary",
                "Set it here as it is there: ALTER SYSTEM SET pg_keeper.synchronous_standby_names = '*'; SELECT pg_reload_conf();",
            ),
        };
    }
    let fault = not_settable(NAME, facts)
        .or_else(|| not_confirmed(NAME, facts))
        .or_else(|| disagreement(NAME, commits, partner));
    fault.unwrap_or_else(|| Finding::ok(NAME, commits.status.clone()))
}

/// Where PostgreSQL's own setting does not follow the keeper.
fn not_settable(name: &'static str, facts: &Facts) -> Option<Finding> {
    let commits = &facts.commits;
    let names = facts.server.synchronous_standby_names.trim();
    match &commits.held {
        _ if !commits.alter_system_allowed => Some(Finding::error(
            name,
            "pg_keeper cannot set synchronous_standby_names: allow_alter_system is off",
            "Set allow_alter_system = on in postgresql.conf, then: SELECT pg_reload_conf();",
        )),
        Held::CommandLine => Some(Finding::error(
            name,
            format!(
                "pg_keeper cannot set synchronous_standby_names: the server's command line holds it at \"{names}\""
            ),
            "Take synchronous_standby_names from the command line (pg_ctl -o, or the options of the service or the container), then restart \
             the server.",
        )),
        // On a standby the row "synchronous_standby_names" says it.
        Held::File(place) if facts.role == Role::Primary && !names.is_empty() && names != commits.wished.trim() => {
            Some(Finding::error(
                name,
                format!(
                    "synchronous_standby_names is \"{names}\" ({place}), and pg_keeper is to hold it at \"{}\"",
                    commits.wished
                ),
                "Remove that line, then: SELECT pg_reload_conf(); pg_keeper sets it by itself.",
            ))
        }
        Held::File(_) | Held::Otherwise if commits.status.contains(NOT_HELD) => Some(Finding::error(
            name,
            commits.status.clone(),
            "Mend what the row \"configuration files\" names, or what the reason says, then: SELECT pg_reload_conf();",
        )),
        Held::File(_) | Held::Otherwise => None,
    }
}

/// Where the wish asks for standbys that are not there.
fn not_confirmed(name: &'static str, facts: &Facts) -> Option<Finding> {
    let commits = &facts.commits;
    let (needed, names) = wish(&commits.wished);
    let is_named =
        |standby: &&String| names.iter().any(|name| name == EVERYBODY || name.eq_ignore_ascii_case(standby.as_str()));
    let named = commits.standbys.iter().filter(is_named).count();
    if named == 0 && !commits.standbys.is_empty() {
        let who = match facts.role {
            Role::Primary => "no standby that streams from here is",
            Role::Standby => "this standby is not",
        };
        return Some(Finding::error(
            name,
            format!("{who} among the names \"{}\": {}", commits.wished, commits.standbys.join(", ")),
            format!(
                "Put application_name={} into primary_conninfo {}, or on both servers: ALTER SYSTEM SET \
                 pg_keeper.synchronous_standby_names = '*'; each time with SELECT pg_reload_conf();",
                names.first().map_or("NAME", String::as_str),
                match facts.role {
                    Role::Primary => "on the standby",
                    Role::Standby => "here",
                }
            ),
        ));
    }
    if facts.role == Role::Primary && needed > 1 && named < needed {
        return Some(Finding::error(
            name,
            format!(
                "\"{}\" asks for {needed} standbys, and {named} that it names stream from here: commits wait for more",
                commits.wished
            ),
            "A pair has one standby. On both servers: ALTER SYSTEM SET pg_keeper.synchronous_standby_names = '*'; SELECT pg_reload_conf();",
        ));
    }
    None
}

/// Where the partner does not do as we do.
fn disagreement(name: &'static str, commits: &Commits, partner: Option<&Report>) -> Option<Finding> {
    let ours = commits.on_standby_loss;
    match partner.map(|partner| partner.on_standby_loss) {
        Some(Some(theirs)) if theirs == ours => None,
        Some(Some(theirs)) => Some(Finding::warning(
            name,
            format!("pg_keeper.on_standby_loss is {} here and {} on the partner", ours.as_str(), theirs.as_str()),
            format!(
                "Set it alike, on the partner with: ALTER SYSTEM SET pg_keeper.on_standby_loss = '{}'; SELECT pg_reload_conf();",
                ours.as_str()
            ),
        )),
        Some(None) => Some(Finding::warning(
            name,
            "pg_keeper.synchronous_standby_names is set here and not on the partner, which would be asynchronous as primary",
            format!(
                "On the partner: ALTER SYSTEM SET pg_keeper.synchronous_standby_names = '{}'; ALTER SYSTEM SET pg_keeper.on_standby_loss = \
                 '{}'; SELECT pg_reload_conf();",
                commits.wished.replace('\'', "''"),
                ours.as_str()
            ),
        )),
        None => Some(Finding::warning(
            name,
            "whether the partner is set up alike is not known: it has not answered since the keeper started",
            SEE_PARTNER,
        )),
    }
}

/// The price of `async`.
pub(super) fn wait_for_silent_standby(facts: &Facts) -> Finding {
    const NAME: &str = "wait for a silent standby";
    let commits = &facts.commits;
    if commits.wished.trim().is_empty() {
        return Finding::ok(NAME, "none: pg_keeper.synchronous_standby_names is empty");
    }
    if commits.on_standby_loss == OnStandbyLoss::Wait {
        return Finding::ok(
            NAME,
            "without end: pg_keeper.on_standby_loss is wait, so commits wait until the standby is back",
        );
    }
    let Some(report) = &facts.partner.report else {
        return Finding::warning(
            NAME,
            "not known: it depends on the partner's settings, and the partner has not answered since the keeper started",
            SEE_PARTNER,
        );
    };
    let own = &facts.settings;
    let ours = (own.keepalive_time, own.keepalive_count, commits.before_command_limit);
    let theirs = (report.keepalive_time, report.keepalive_count, report.before_command_limit);
    let limit = |(time, count, before_command): (Duration, u32, Duration)| {
        Settings::promotion_limit_of(time, count, before_command)
    };
    // As the primary reckons: what the standby waits for, and no less than its own settings say.
    let longer = if limit(theirs) >= limit(ours) { theirs } else { ours };
    let (time, count, before_command) = longer;
    let command = match before_command {
        Duration::ZERO => String::new(),
        _ => format!(", and {before_command:?} that pg_keeper.before_command may take"),
    };
    Finding::ok(
        NAME,
        format!(
            "{:?}, then commits go on without it: {} keepalives of {time:?}{command}; one that is killed or stopped is dropped at once",
            limit(longer),
            count.saturating_add(1)
        ),
    )
}

/// How many standbys must confirm a commit, and the names of those that may: `*`, `a, "B c"`, `2 (a, b)`, `FIRST 1 (a, b)`, `ANY 1 (*)`.
fn wish(text: &str) -> (usize, Vec<String>) {
    let words = words(text);
    let is_bracket = |word: &(String, bool)| word.0 == "(" && !word.1;
    let bracket = words.iter().position(is_bracket);
    let needed = bracket.and_then(|at| words.get(at.checked_sub(1)?)).and_then(|(digits, _)| digits.parse().ok());
    let list = words.get(bracket.map_or(0, |at| at + 1)..).unwrap_or_default();
    let names = list.iter().filter(|(word, quoted)| *quoted || !matches!(word.as_str(), "," | ")"));
    (needed.unwrap_or(1), names.map(|(word, _)| word.clone()).collect())
}

/// The words of a list, each with whether it was quoted. The server has accepted it, so that nothing is looked for that could be wrong.
fn words(text: &str) -> Vec<(String, bool)> {
    let mut words = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let (word, after, quoted) = match first {
            '"' => {
                let (word, after) = quoted(&rest[1..]);
                (word, after, true)
            }
            '(' | ')' | ',' => (first.to_string(), &rest[1..], false),
            _ => {
                let end = rest.find(|c: char| c.is_whitespace() || "(),\"".contains(c)).unwrap_or(rest.len());
                (rest[..end].to_string(), &rest[end..], false)
            }
        };
        words.push((word, quoted));
        rest = after.trim_start();
    }
    words
}

/// What stands before the closing quote, and what comes after it. A doubled quote is one of the name's.
fn quoted(text: &str) -> (String, &str) {
    let mut name = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('"') {
        name.push_str(before);
        match after.strip_prefix('"') {
            Some(more) => {
                name.push('"');
                rest = more;
            }
            None => return (name, after),
        }
    }
    (name + rest, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_the_list_is_read() {
        let read = |text| {
            let (needed, names) = wish(text);
            (needed, names.join("|"))
        };
        assert_eq!(read("*"), (1, "*".to_string()));
        assert_eq!(read(" db01 ,\"db 02\""), (1, "db01|db 02".to_string()));
        assert_eq!(read("2 (db01, \"a\"\"(b\")"), (2, "db01|a\"(b".to_string()));
        assert_eq!(read("FIRST 1(db01,db02)"), (1, "db01|db02".to_string()));
        assert_eq!(read("any 3 ( * )"), (3, "*".to_string()));
    }

    #[test]
    fn status_says_so_in_these_words() {
        assert!(include_str!("../../tests/golden/synchronous_not_set.txt").contains(&format!("({NOT_HELD}: ")));
    }
}
