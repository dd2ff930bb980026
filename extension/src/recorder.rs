//! The recorder: the background worker that gives the timeline which this server is primary on its row in failover_log.
//!
//! The postmaster starts it the moment recovery ends and at every start as a primary, so promotions by hand are recorded too. It leaves
//! with exit code 0 once the row is there, and with 1 otherwise, to be started again: without the database it cannot even begin.

use crate::shared::{self, SharedStory};
use crate::{gate, guc, log, observe};
use keeper_core::{Gate, Level, Notice, Timeline};
use pgrx::bgworkers::{BackgroundWorker, SignalWakeFlags};
use pgrx::datum::{DatumWithOid, TimestampWithTimeZone};
use pgrx::pg_sys::panic::ErrorReportable;
use pgrx::prelude::*;
use std::ffi::CStr;
use std::time::Duration;

/// How often the recorder looks for a table that was not there, or for the outcome of after_command.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// The worker's entry, named in its registration.
#[pg_guard]
#[unsafe(no_mangle)]
pub extern "C-unwind" fn pg_keeper_recorder_main(_argument: pg_sys::Datum) {
    end_when_told();
    BackgroundWorker::attach_signal_handlers(SignalWakeFlags::SIGHUP);
    BackgroundWorker::connect_worker_to_spi(Some(&database()), None);
    settle_session();
    await_gate();
    let row = Row::new();
    let mut told = false;
    while !BackgroundWorker::transaction(table_exists) {
        if !std::mem::replace(&mut told, true) {
            tell_missing_table(&row);
        }
        wait();
    }
    BackgroundWorker::transaction(std::panic::AssertUnwindSafe(|| row.write()));
    shared::tell_recorded(row.timeline);
    if row.story.is_some_and(|story| story.outcome_follows)
        && let Some(outcome) = outcome()
    {
        BackgroundWorker::transaction(std::panic::AssertUnwindSafe(|| row.add_outcome(&outcome)));
    }
}

/// A superseded server records nothing, and one that does not know its partner yet has nothing to record. A keeper that looks seldom is told
/// that recovery has ended.
fn await_gate() {
    gate::wake_keeper();
    let mut pause = Duration::from_millis(2);
    loop {
        match gate::gate() {
            Gate::Open { until } if shared::now() < until => return,
            Gate::Open { .. } | Gate::Closed => gate::wait_for_commit(),
            Gate::Fenced => {}
        }
        wait_for(pause);
        pause = (pause * 2).min(LOOK_AGAIN);
    }
}

/// How after_command ended. It is not waited for much longer than it may run: a keeper that was restarted meanwhile has forgotten it.
fn outcome() -> Option<String> {
    let patience = guc::command_timeout() + Duration::from_secs(10);
    let give_up = shared::now() + patience;
    loop {
        let outcome = shared::outcome();
        if outcome.is_some() || shared::now() >= give_up {
            return outcome;
        }
        wait();
    }
}

fn database() -> String {
    guc::database().to_string_lossy().into_owned()
}

/// Nothing that an administrator set for sessions may hold up or forbid this row: a standby that is gone, a read-only default, a time limit.
fn settle_session() {
    let settings: [(&CStr, &CStr); 6] = [
        (c"synchronous_commit", c"local"),
        (c"default_transaction_read_only", c"off"),
        (c"statement_timeout", c"0"),
        (c"lock_timeout", c"0"),
        (c"search_path", c"pg_catalog"),
        (c"row_security", c"off"),
    ];
    for (name, value) in settings {
        // SAFETY: both are terminated texts, and the worker runs as superuser.
        unsafe {
            pg_sys::SetConfigOption(
                name.as_ptr(),
                value.as_ptr(),
                pg_sys::GucContext::PGC_SUSET,
                pg_sys::GucSource::PGC_S_SESSION,
            );
        }
    }
}

// The bindings have it only wrapped for calls from Rust, and a handler is called by the kernel.
unsafe extern "C-unwind" {
    fn die(signal: std::ffi::c_int);
}

/// SIGTERM ends the worker wherever it is, also while it waits for a lock on the table, as it ends a backend: with exit code 1.
fn end_when_told() {
    // SAFETY: the server's own handler, set before signals are let in.
    unsafe {
        #[cfg(not(feature = "pg18"))]
        pg_sys::pqsignal(pg_sys::SIGTERM.cast_signed(), Some(die));
        #[cfg(feature = "pg18")]
        pg_sys::pqsignal_be(pg_sys::SIGTERM.cast_signed(), Some(die));
    }
}

/// Waits a while. Ends the worker, to be started again, when the settings changed: the database may be another one now.
fn wait() {
    wait_for(LOOK_AGAIN);
}

fn wait_for(span: Duration) {
    let goes_on = BackgroundWorker::wait_latch(Some(span));
    if !goes_on || BackgroundWorker::sighup_received() {
        // SAFETY: the server's own way out, outside any transaction.
        unsafe { pg_sys::proc_exit(1) }
    }
}

fn table_exists() -> bool {
    Spi::connect(|client| {
        let query = "select to_regclass('public.failover_log') is not null \
                     and exists (select from pg_extension where extname = 'pg_keeper')";
        client.select(query, Some(1), &[]).and_then(|rows| rows.first().get_one::<bool>())
    })
    .ok()
    .flatten()
    .unwrap_or(false)
}

fn tell_missing_table(row: &Row) {
    log::write(&Notice {
        level: Level::Warning,
        message: format!("timeline {} cannot be recorded: database \"{}\" has no extension pg_keeper", row.timeline, database()),
        detail: "Failover works all the same; watchers of the application hosts do not depend on the row.".to_owned(),
        hint: "Run sql/setup.sql with psql as a superuser on the primary. The row is written as soon as the table is there.".to_owned(),
    });
}

/// The row of the timeline that this server is primary on.
struct Row {
    timeline: u32,
    system_identifier: i64,
    switch_lsn: Option<String>,
    story: Option<SharedStory>,
    /// When this worker began, which is when recovery had ended at the latest.
    began: i64,
}

impl Row {
    fn new() -> Self {
        // SAFETY: the server is out of recovery, or this worker would not have been started.
        let (system_identifier, began) = unsafe { (pg_sys::GetSystemIdentifier(), pg_sys::GetCurrentTimestamp()) };
        let timeline = observe::primary_timeline();
        let switch = observe::read_history(timeline).and_then(|history| history.last_switch());
        Row {
            timeline: timeline.0,
            system_identifier: system_identifier.cast_signed(),
            switch_lsn: switch.map(|switch| switch.at.to_string()),
            story: shared::story().filter(|story| Timeline(story.from_timeline) < timeline),
            began,
        }
    }

    /// Writes the row unless it is there.
    ///
    /// `unixtime` is above that of every older row even where this server's clock is behind: readers take the row with the highest.
    fn write(&self) {
        let story = self.story.as_ref();
        let reason = match story {
            Some(_) => Some("partner lost"),
            None if shared::was_standby() => Some("manual"),
            None => None,
        };
        let promoted = match story {
            Some(story) => Some(story.promoted.unwrap_or(self.began)),
            None => shared::was_standby().then_some(self.began),
        }
        .and_then(timestamp);
        let arguments: [DatumWithOid; 12] = [
            guc::node_name().into(),
            self.timeline.cast_signed().into(),
            self.system_identifier.into(),
            reason.into(),
            story.and_then(|story| story.last_answer).and_then(timestamp).into(),
            story.and_then(|story| timestamp(story.detected)).into(),
            promoted.into(),
            self.switch_lsn.clone().into(),
            story.map(|story| story.keepalives_missed.cast_signed()).into(),
            story.map(|story| story.attempts_void.cast_signed()).into(),
            story.map(|story| story.last_error.as_str().to_owned()).filter(|error| !error.is_empty()).into(),
            Option::<String>::None.into(),
        ];
        let query = "insert into public.failover_log \
              (unixtime, host, timeline, system_identifier, reason, last_answer, detected, promoted, recorded, \
               switch_lsn, keepalives_missed, attempts_void, last_error, after_command) \
            select greatest(floor(extract(epoch from clock_timestamp()))::bigint, \
                            (select max(unixtime) + 1 from public.failover_log)), \
                   $1, $2, $3, \
                   coalesce($4, case when exists (select from public.failover_log where system_identifier = $3) \
                                     then 'unknown' else 'initial' end), \
                   $5, $6, $7, clock_timestamp(), $8::pg_lsn, $9, $10, $11, $12 \
            where not exists (select from public.failover_log where system_identifier = $3 and timeline = $2)";
        Spi::connect_mut(|client| client.update(query, None, &arguments).map(|rows| rows.len())).unwrap_or_report();
    }

    fn add_outcome(&self, outcome: &str) {
        let query = "update public.failover_log set after_command = $3 where system_identifier = $1 and timeline = $2";
        let arguments: [DatumWithOid; 3] =
            [self.system_identifier.into(), self.timeline.cast_signed().into(), outcome.into()];
        Spi::connect_mut(|client| client.update(query, None, &arguments).map(|rows| rows.len())).unwrap_or_report();
    }
}

/// An instant of this server's clock; `None` for one outside the range of the type.
fn timestamp(microseconds: i64) -> Option<TimestampWithTimeZone> {
    TimestampWithTimeZone::try_from(microseconds).ok()
}
