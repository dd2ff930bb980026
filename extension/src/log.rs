//! Messages of the keeper in the server's log.

use keeper_core::{Level, Notice};
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

/// Writes one. A pending interrupt may end the process in here, so the caller holds no lock and no half-done work.
pub(crate) fn write(notice: &Notice) {
    let level = match notice.level {
        Level::Log => PgLogLevel::LOG,
        Level::Warning => PgLogLevel::WARNING,
    };
    let mut report = ErrorReport::new(
        PgSqlErrorCode::ERRCODE_SUCCESSFUL_COMPLETION,
        format!("pg_keeper: {}", notice.message),
        "pg_keeper",
    );
    if !notice.detail.is_empty() {
        report = report.set_detail(notice.detail.clone());
    }
    if !notice.hint.is_empty() {
        report = report.set_hint(notice.hint.clone());
    }
    report.report(level);
}
