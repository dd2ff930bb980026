//! The SQL function under the view pg_keeper.status.

use crate::shared::{self, now};
use crate::{gate, guc};
use keeper_core::{Gate, Lsn};
use pgrx::datum::Interval;
use pgrx::prelude::*;

/// One look at this server's keeper.
#[pg_schema]
mod pg_keeper {
    use super::*;

    /// The columns of the view, with LSNs as text, which the view casts.
    #[pg_extern(strict, volatile, parallel_restricted, security_definer)]
    #[search_path(pg_catalog, pg_temp)]
    #[allow(clippy::type_complexity)]
    fn status() -> TableIterator<
        'static,
        (
            name!(node_name, String),
            name!(role, Option<String>),
            name!(state, String),
            name!(reason, String),
            name!(partner, Option<String>),
            name!(partner_state, Option<String>),
            name!(keepalives_missed, i32),
            name!(last_answer_age, Option<Interval>),
            name!(timeline, Option<i32>),
            name!(lsn, Option<String>),
            name!(partner_timeline, Option<i32>),
            name!(partner_lsn, Option<String>),
            name!(lag_bytes, Option<i64>),
            name!(sync, String),
            name!(armed, bool),
            name!(fence, String),
        ),
    > {
        let published = shared::published();
        let known = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        let lsn = |lsn: u64| (lsn != 0).then(|| Lsn(lsn).to_string());
        let timeline = |timeline: u32| (timeline != 0).then_some(timeline.cast_signed());
        let age = published.last_answer.and_then(|answered| Interval::try_from(now().since(answered)).ok());
        let stale = published.is_stale();
        let (state, reason) = match published.keeper_pid {
            0 => (
                "not running".to_owned(),
                "the keeper has not started: look for pg_keeper in the server's log".to_owned(),
            ),
            pid if stale => (
                "not running".to_owned(),
                format!(
                    "the keeper (process {pid}) has not been heard for some seconds: it was killed and starts again, or it hangs; \
                     its last word was: {}",
                    published.reason.as_str()
                ),
            ),
            _ => (published.state.as_str().to_owned(), published.reason.as_str().to_owned()),
        };
        // The server's own word, not the keeper's last: a keeper that hangs must not show an old role.
        // SAFETY: reads shared memory that every backend is attached to.
        let role = if unsafe { pg_sys::RecoveryInProgress() } { "standby" } else { "primary" };
        TableIterator::once((
            guc::node_name(),
            known(role),
            state,
            reason,
            published.partner().map(|partner| partner.node_name),
            known(published.partner_state.as_str()),
            published.keepalives_missed.cast_signed(),
            age,
            timeline(published.timeline),
            lsn(published.lsn),
            timeline(published.partner_timeline),
            lsn(published.partner_lsn),
            published.lag.and_then(|lag| i64::try_from(lag).ok()),
            text_or(published.synchronous.as_str(), "not managed"),
            published.armed && !stale,
            text_or(published.fence.as_str(), "none"),
        ))
    }

    /// Opens a server that its return guard or its fence keeps from taking writes. The keeper does it within moments.
    #[pg_extern(strict, volatile, parallel_restricted)]
    fn lift_fence() {
        // SAFETY: reads shared memory that every backend is attached to, and the role of this session.
        let (in_recovery, superuser) = unsafe { (pg_sys::RecoveryInProgress(), pg_sys::superuser()) };
        if !superuser {
            ereport!(
                ERROR,
                PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE,
                "must be superuser to open a server that pg_keeper keeps from taking writes"
            );
        }
        if in_recovery || matches!(gate::gate(), Gate::Open { .. }) {
            ereport!(
                ERROR,
                PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
                "there is nothing to lift: pg_keeper does not keep this server from taking writes"
            );
        }
        gate::request_lift();
    }
}

fn text_or(text: &str, otherwise: &str) -> String {
    if text.is_empty() { otherwise } else { text }.to_owned()
}
