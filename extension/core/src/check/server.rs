//! How PostgreSQL itself is set up.

use super::{Facts, Finding, Held, SEE_PARTNER};
use crate::report::Role;
use alloc::format;
use alloc::string::String;

/// WAL senders that a pair needs: one standby, the partner's keepalive, and a fresh one that follows a broken keepalive before the old
/// one has gone.
const WAL_SENDERS: u32 = 3;
/// Worker slots that pg_keeper needs: keeper and recorder.
const WORKERS: u32 = 2;

fn set_and_restart(name: &str, value: impl core::fmt::Display) -> String {
    format!("ALTER SYSTEM SET {name} = {value}; then restart the server.")
}

pub(super) fn hot_standby_parameters(facts: &Facts) -> Finding {
    const NAME: &str = "hot standby parameters";
    let Some(report) = &facts.partner.report else {
        return Finding::warning(NAME, "not known: the partner has not answered since the keeper started", SEE_PARTNER);
    };
    let (ours, theirs) = (&facts.server.parameters, &report.parameters);
    let (smaller, place) = match facts.role {
        Role::Standby => (ours.first_smaller(theirs), "On this server"),
        Role::Primary => (theirs.first_smaller(ours), "On the partner"),
    };
    match smaller {
        None => Finding::ok(NAME, "none is smaller on the standby than on the primary"),
        Some((setting, standby, primary)) => Finding::error(
            NAME,
            format!(
                "{setting} is {standby} on the standby and {primary} on the primary: promotion would end in a FATAL error"
            ),
            format!("{place}: {}", set_and_restart(setting, primary)),
        ),
    }
}

pub(super) fn wal_level(facts: &Facts) -> Finding {
    const NAME: &str = "wal_level";
    match facts.server.wal_level.as_str() {
        level @ ("replica" | "logical") => Finding::ok(NAME, level),
        level => Finding::error(NAME, format!("{level} does not allow a standby"), set_and_restart(NAME, "replica")),
    }
}

pub(super) fn max_wal_senders(facts: &Facts) -> Finding {
    const NAME: &str = "max_wal_senders";
    let most = facts.server.parameters.max_wal_senders;
    let used = facts.server.wal_senders;
    let detail = format!("{used} of {most} in use");
    if most < WAL_SENDERS {
        let detail = format!("{most} is too small: one is for the standby and two are for keepalives");
        return Finding::error(NAME, detail, set_and_restart(NAME, 10));
    }
    if used >= most {
        return Finding::warning(
            NAME,
            format!("{detail}: the partner cannot connect anew"),
            set_and_restart(NAME, most + WAL_SENDERS),
        );
    }
    Finding::ok(NAME, detail)
}

pub(super) fn max_worker_processes(facts: &Facts) -> Finding {
    const NAME: &str = "max_worker_processes";
    let most = facts.server.parameters.max_worker_processes;
    let needed = WORKERS + u32::from(facts.server.logical_launcher);
    if most < needed {
        let detail = format!("{most} is too small: pg_keeper needs {WORKERS}");
        return Finding::error(NAME, detail, set_and_restart(NAME, most.max(needed) + WORKERS));
    }
    if !facts.partner.keeper_running {
        return Finding::error(
            NAME,
            format!("the keeper is not running although max_worker_processes is {most}"),
            format!(
                "If the server's log says \"too many background workers\": {} If it does not, look for pg_keeper in the log.",
                set_and_restart(NAME, most + WORKERS)
            ),
        );
    }
    Finding::ok(NAME, format!("{most}"))
}

pub(super) fn hot_standby(facts: &Facts) -> Finding {
    const NAME: &str = "hot_standby";
    if facts.server.hot_standby {
        return Finding::ok(NAME, "on");
    }
    Finding::error(NAME, "off: the keeper never starts on a standby", set_and_restart(NAME, "on"))
}

pub(super) fn synchronous_standby_names(facts: &Facts) -> Finding {
    const NAME: &str = "synchronous_standby_names";
    match (facts.role, facts.server.synchronous_standby_names.trim()) {
        (_, "") => Finding::ok(NAME, "empty"),
        (Role::Primary, names) => Finding::ok(NAME, names),
        (Role::Standby, names) => Finding::error(
            NAME,
            format!(
                "\"{names}\" is set on this standby: after a promotion commits would wait for a standby that is not there"
            ),
            match &facts.commits.held {
                Held::CommandLine => {
                    "Take synchronous_standby_names from the server's command line, then restart the server."
                }
                Held::File(_) | Held::Otherwise if !facts.commits.alter_system_allowed => {
                    "Remove it from the configuration files, postgresql.auto.conf among them, then: SELECT pg_reload_conf();"
                }
                Held::File(_) | Held::Otherwise => {
                    "ALTER SYSTEM SET synchronous_standby_names = ''; SELECT pg_reload_conf();"
                }
            },
        ),
    }
}

pub(super) fn primary_conninfo(facts: &Facts) -> Finding {
    const NAME: &str = "primary_conninfo";
    match (facts.role, facts.partner.is_primary_of_ours) {
        (Role::Primary, _) => Finding::ok(NAME, "of no consequence on a primary"),
        (Role::Standby, Some(true)) => {
            Finding::ok(NAME, "leads to the same host and port as pg_keeper.partner_conninfo")
        }
        (Role::Standby, Some(false)) => Finding::warning(
            NAME,
            "does not name the same host and port as pg_keeper.partner_conninfo, so this standby may follow one server and watch another",
            "If they are two servers, correct one of the two settings. If they are two names of one server, write them alike. \
             Then: SELECT pg_reload_conf();",
        ),
        (Role::Standby, None) => Finding::warning(
            NAME,
            "cannot be compared with pg_keeper.partner_conninfo: one of the two is empty or uses a service file",
            "Name host and port in both. Then: SELECT pg_reload_conf();",
        ),
    }
}

pub(super) fn keepalive_settings(facts: &Facts) -> Finding {
    const NAME: &str = "keepalive settings";
    let own = &facts.settings;
    let (time, count) = (own.keepalive_time, own.keepalive_count);
    let detail = format!("keepalive_time {time:?}, keepalive_count {count}");
    let Some(report) = &facts.partner.report else {
        return Finding::warning(NAME, format!("{detail}; the partner's are not known"), SEE_PARTNER);
    };
    let (their_time, their_count) = (report.keepalive_time, report.keepalive_count);
    let told = !their_time.is_zero() && their_count != 0;
    if told && (their_time, their_count) != (time, count) {
        return Finding::warning(
            NAME,
            format!("{detail}; on the partner {their_time:?} and {their_count}"),
            "Set pg_keeper.keepalive_time and pg_keeper.keepalive_count alike on both servers, or a failover takes longer one way than \
             the other.",
        );
    }
    Finding::ok(NAME, format!("{detail}, as on the partner"))
}

pub(super) fn recorder(facts: &Facts) -> Finding {
    const NAME: &str = "recorder";
    let recorder = &facts.recorder;
    let database = &recorder.database;
    let on_primary = match facts.role {
        Role::Primary => "",
        Role::Standby => "on the primary, ",
    };
    if !recorder.database_exists {
        return Finding::error(
            NAME,
            format!("there is no database \"{database}\" to record a failover in"),
            format!(
                "As superuser, {on_primary}in a shell: psql -v database={database} -f setup.sql (it comes with pg_keeper)."
            ),
        );
    }
    if recorder.has_table == Some(false) {
        return Finding::error(
            NAME,
            format!("the database \"{database}\" has no failover_log of pg_keeper's"),
            format!("As superuser, {on_primary}in {database}: CREATE EXTENSION pg_keeper;"),
        );
    }
    if facts.role == Role::Primary && recorder.recorded == Some(false) {
        return Finding::error(
            NAME,
            format!(
                "failover_log has no row yet that says that this server is primary on timeline {}",
                recorder.timeline
            ),
            format!(
                "If it is missing after a minute, look for \"pg_keeper recorder\" in the log; in {database}: CREATE EXTENSION pg_keeper;"
            ),
        );
    }
    let detail = match facts.role {
        Role::Primary if recorder.recorded.is_none() => {
            format!(
                "the database \"{database}\" is there; ask in it to see whether timeline {} has its row",
                recorder.timeline
            )
        }
        Role::Primary => format!("failover_log has the row for timeline {}", recorder.timeline),
        Role::Standby => format!("the database \"{database}\" is there"),
    };
    Finding::ok(NAME, detail)
}

pub(super) fn pg_rewind(facts: &Facts) -> Finding {
    const NAME: &str = "pg_rewind";
    let server = &facts.server;
    match (server.data_checksums, server.wal_log_hints) {
        (true, _) => Finding::ok(NAME, "possible: data checksums are enabled"),
        (false, true) => Finding::ok(NAME, "possible: wal_log_hints is on"),
        (false, false) => Finding::warning(
            NAME,
            "a former primary cannot be rewound and must be copied anew",
            set_and_restart("wal_log_hints", "on"),
        ),
    }
}

pub(super) fn wal_keep_size(facts: &Facts) -> Finding {
    const NAME: &str = "wal_keep_size";
    let server = &facts.server;
    let megabytes = server.wal_keep_megabytes;
    if megabytes == 0 {
        // A slot keeps what the standby lacks. pg_rewind begins before that, at the last checkpoint that both have in common, and the old
        // primary removes that WAL with the checkpoint that it makes when it starts after a crash or stops.
        let detail = if server.has_slot {
            "pg_rewind may lack WAL: a replication slot does not keep what it needs, from the last checkpoint before a failover on"
        } else {
            "neither a replication slot nor wal_keep_size keeps WAL for a standby that was away, or for pg_rewind"
        };
        return Finding::warning(
            NAME,
            detail,
            "Set it to more than is written between two checkpoints: ALTER SYSTEM SET wal_keep_size = '1GB'; SELECT pg_reload_conf();",
        );
    }
    let slot = if server.has_slot { "a replication slot is in use" } else { "no replication slot" };
    Finding::ok(NAME, format!("{megabytes} MB; {slot}"))
}
