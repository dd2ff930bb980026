//! What the administrator wrote.

use super::{Facts, Finding};
use alloc::format;
use alloc::vec::Vec;

pub(super) fn configuration_files(facts: &Facts) -> Finding {
    const NAME: &str = "configuration files";
    let files = &facts.files;
    if !files.faults.is_empty() {
        return Finding::error(
            NAME,
            format!("the server does not take what is written: {}", files.faults.join("; ")),
            "Correct these lines, then: SELECT pg_reload_conf(); until then a reload changes nothing, or only a part.",
        );
    }
    if !files.unknown.is_empty() {
        return Finding::error(
            NAME,
            format!("not settings of pg_keeper: {}", files.unknown.join("; ")),
            "Correct the names; SELECT name FROM pg_settings WHERE name LIKE 'pg_keeper.%' lists them all. Then: SELECT pg_reload_conf();",
        );
    }
    if !files.pending_restart.is_empty() {
        return Finding::warning(
            NAME,
            format!("these settings wait for a restart: {}", files.pending_restart.join(", ")),
            "Restart the server when it suits you: pg_ctl restart, or systemctl restart.",
        );
    }
    Finding::ok(NAME, "they can be read, and every setting of pg_keeper in them is known")
}

pub(super) fn settings(facts: &Facts) -> Finding {
    const NAME: &str = "settings";
    let own = &facts.settings;
    if !own.problems.is_empty() {
        return Finding::error(
            NAME,
            format!(
                "pg_keeper decides nothing, because values were not accepted at start: {}",
                own.problems.join("; ")
            ),
            "Correct them, then: SELECT pg_reload_conf(); a value on the server's command line needs a restart.",
        );
    }
    if !own.partner_set {
        return Finding::error(
            NAME,
            "pg_keeper decides nothing, because pg_keeper.partner_conninfo is not set",
            "ALTER SYSTEM SET pg_keeper.partner_conninfo = 'host=PARTNER port=5432 user=USER'; SELECT pg_reload_conf();",
        );
    }
    if !own.enabled {
        return Finding::warning(
            NAME,
            "pg_keeper.enabled is off: neither server promotes itself",
            "When maintenance is over: ALTER SYSTEM SET pg_keeper.enabled = on; SELECT pg_reload_conf();",
        );
    }
    if facts.partner.report.as_ref().is_some_and(|partner| !partner.enabled) {
        return Finding::warning(
            NAME,
            "pg_keeper.enabled is off on the partner: neither server promotes itself",
            "When maintenance is over, on the partner: ALTER SYSTEM SET pg_keeper.enabled = on; SELECT pg_reload_conf();",
        );
    }
    if !own.old_spellings.is_empty() {
        let old: Vec<_> = own.old_spellings.iter().map(|(old, right)| format!("{old} is now {right}")).collect();
        return Finding::warning(
            NAME,
            format!("old spellings: {}", old.join("; ")),
            "Set the right names in their place.",
        );
    }
    Finding::ok(NAME, "all values were accepted")
}
