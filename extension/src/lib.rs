//! pg_keeper inside the server: the shell around the decisions of `keeper-core`.
//!
//! Loaded through `shared_preload_libraries`. Two background workers do everything: the keeper watches the partner and promotes, the recorder
//! writes the row in failover_log. The SQL functions only read what the keeper published.

mod check;
mod command;
mod conf;
mod connection;
mod fence;
mod fork;
mod gate;
mod guc;
mod hooks;
mod keeper;
mod libpq;
mod log;
mod names;
mod observe;
mod recorder;
mod rejoin;
mod resolve;
mod shared;
mod status;
mod wait;
mod walsender;

use pgrx::bgworkers::{BackgroundWorkerBuilder, BgWorkerStartTime};
use pgrx::prelude::*;
use std::time::Duration;

pgrx::pg_module_magic!();

// The server keeps names with this prefix for schemas of its own, unless it is asked not to. The contract's first statement ends that.
extension_sql!("SET LOCAL allow_system_table_mods TO on;", name = "reserved_schema_name", bootstrap);
extension_sql_file!("../../sql/contract.sql", name = "contract", finalize);

/// Entered by the server when it loads the library.
#[pg_guard]
pub extern "C-unwind" fn _PG_init() {
    refuse_late_loading();
    shared::request();
    guc::define(Some(shared::show_report));
    // pg_upgrade starts both servers to move data: no decision belongs there.
    // SAFETY: set before any library is loaded, and only read.
    if unsafe { pg_sys::IsBinaryUpgrade } {
        return;
    }
    hooks::install();
    warn_without_hot_standby();
    register("pg_keeper", "pg_keeper_main", BgWorkerStartTime::ConsistentState, Duration::from_secs(1));
    register(
        "pg_keeper recorder",
        "pg_keeper_recorder_main",
        BgWorkerStartTime::RecoveryFinished,
        Duration::from_secs(5),
    );
    fork::forget_handlers();
}

fn register(name: &str, function: &str, start: BgWorkerStartTime, restart: Duration) {
    BackgroundWorkerBuilder::new(name)
        .set_library("pg_keeper")
        .set_function(function)
        .enable_spi_access()
        .set_start_time(start)
        .set_restart_time(Some(restart))
        .load();
}

fn refuse_late_loading() {
    // SAFETY: set by the postmaster around the loading of libraries, and only read.
    if unsafe { pg_sys::process_shared_preload_libraries_in_progress } {
        return;
    }
    ereport!(
        ERROR,
        PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
        "pg_keeper must be loaded through shared_preload_libraries",
        "Add pg_keeper to shared_preload_libraries in postgresql.conf and restart the server."
    );
}

fn warn_without_hot_standby() {
    // SAFETY: configuration files are read before libraries are loaded; the value is only read.
    if !unsafe { pg_sys::EnableHotStandby } {
        ereport!(
            WARNING,
            PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
            "pg_keeper cannot watch from a standby while hot_standby is off",
            "The server starts no background worker on such a standby. Set hot_standby to on and restart."
        );
    }
}
