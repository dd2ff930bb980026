//! Whether this server takes writes, and what it does when it starts.

use super::{Facts, Finding};
use crate::gate::GateKind;
use crate::report::Role;
use alloc::format;
use alloc::string::ToString;

pub(super) fn fence(facts: &Facts) -> Finding {
    const NAME: &str = "fence";
    let guard = &facts.guard;
    if facts.role == Role::Standby {
        return Finding::ok(NAME, "of no consequence on a standby");
    }
    let reason = guard.fence.as_str();
    match guard.gate {
        GateKind::Fenced => Finding::error(
            NAME,
            format!("this server takes no writes, {reason}"),
            format!(
                "In a shell on this machine: psql -d {} -XAtc 'SELECT pg_keeper.rejoin_plan()' > rejoin.sh writes down the commands that make \
                 it a standby. Read them, then: sh rejoin.sh",
                facts.recorder.database
            ),
        ),
        GateKind::Closed => Finding::warning(
            NAME,
            format!("this server takes no writes yet: {}", reason.strip_prefix("closed: ").unwrap_or(reason)),
            "It opens by itself when it knows what its partner is; see the row \"partner\". If it is certain that no other server is active: \
             SELECT pg_keeper.lift_fence();",
        ),
        GateKind::Open if reason == "none" => Finding::ok(NAME, "none: this server takes writes"),
        GateKind::Open if reason.starts_with("lifted") => Finding::warning(
            NAME,
            reason,
            "Stop the other server, and make it a standby of this one with pg_rewind or pg_basebackup.",
        ),
        GateKind::Open => Finding::warning(
            NAME,
            reason,
            "Look again in a moment: SELECT reason FROM pg_keeper.status says what it waits for, and what ends it.",
        ),
    }
}

pub(super) fn return_guard(facts: &Facts) -> Finding {
    const NAME: &str = "return guard";
    let own = &facts.settings;
    if own.keepalive_count == 1 {
        return Finding::warning(
            NAME,
            "pg_keeper.keepalive_count is 1: a single lost packet makes a standby promote itself, and lets a former primary take writes",
            "On both servers: ALTER SYSTEM SET pg_keeper.keepalive_count = 4; SELECT pg_reload_conf();",
        );
    }
    let silence = own.keepalive_time.saturating_mul(own.keepalive_count);
    let alone = if facts.guard.waits_for_administrator {
        "waits for an administrator while the partner does not answer".to_string()
    } else {
        format!("takes writes alone after {silence:?} of silence")
    };
    Finding::ok(NAME, format!("started as primary, this server asks its partner first, and {alone}"))
}
