//! What the server asks before it takes a value. Each hook answers with true or false, and leaves the reason where the server looks for it.

use super::conninfo::{self, Refusal};
use keeper_core::Settings;
use pgrx::pg_sys;
use pgrx::prelude::*;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::sync::atomic::{AtomicBool, Ordering};

/// The longest name of a database: NAMEDATALEN less the terminating zero.
const DATABASE_NAME_BYTES: usize = 63;
/// The longest name of a host.
const NODE_NAME_BYTES: usize = 255;

/// Set while values are only tried out: then nothing is told to anybody.
static TRYING: AtomicBool = AtomicBool::new(false);

/// Runs `test`, during which the hooks judge values and are silent otherwise.
pub(super) fn try_out<R>(test: impl FnOnce() -> R) -> R {
    struct Reset;
    impl Drop for Reset {
        fn drop(&mut self) {
            TRYING.store(false, Ordering::Relaxed);
        }
    }
    TRYING.store(true, Ordering::Relaxed);
    let _reset = Reset;
    test()
}

#[pg_guard]
pub(super) unsafe extern "C-unwind" fn check_partner_conninfo(
    new: *mut *mut c_char,
    _extra: *mut *mut c_void,
    _source: pg_sys::GucSource::Type,
) -> bool {
    // SAFETY: the server hands in a string.
    judge_conninfo("pg_keeper.partner_conninfo", unsafe { text_of(new) })
}

#[pg_guard]
pub(super) unsafe extern "C-unwind" fn check_my_conninfo(
    new: *mut *mut c_char,
    _extra: *mut *mut c_void,
    _source: pg_sys::GucSource::Type,
) -> bool {
    // SAFETY: the server hands in a string.
    judge_conninfo("pg_keeper.my_conninfo", unsafe { text_of(new) })
}

#[pg_guard]
pub(super) unsafe extern "C-unwind" fn check_node_name(
    new: *mut *mut c_char,
    _extra: *mut *mut c_void,
    _source: pg_sys::GucSource::Type,
) -> bool {
    // SAFETY: the server hands in a string.
    let name = unsafe { text_of(new) }.to_bytes();
    if name.len() <= NODE_NAME_BYTES && name.iter().all(u8::is_ascii_graphic) {
        return true;
    }
    refuse(
        "pg_keeper.node_name is not a name that can be recorded",
        "Up to 255 printable ASCII characters without spaces are allowed, or nothing: then it is the host's name.",
        "For example: 'db01'.",
    )
}

#[pg_guard]
pub(super) unsafe extern "C-unwind" fn check_database(
    new: *mut *mut c_char,
    _extra: *mut *mut c_void,
    _source: pg_sys::GucSource::Type,
) -> bool {
    // SAFETY: the server hands in a string.
    let name = unsafe { text_of(new) };
    if (1..=DATABASE_NAME_BYTES).contains(&name.count_bytes()) && name.to_str().is_ok() {
        return true;
    }
    refuse(
        "pg_keeper.database is not the name of a database",
        "A name of 1 to 63 bytes in UTF-8 is allowed.",
        "For example: 'pg_state', the default.",
    )
}

#[pg_guard]
pub(super) unsafe extern "C-unwind" fn check_keepalives_time(
    new: *mut f64,
    _extra: *mut *mut c_void,
    _source: pg_sys::GucSource::Type,
) -> bool {
    // SAFETY: the server hands in a number.
    let seconds = unsafe { *new };
    let (least, most) = Settings::KEEPALIVE_TIME_SECONDS;
    if seconds == 0.0 {
        return true;
    }
    if seconds < least - super::ROUNDING {
        let allowed = format!("{least} to {most} seconds are allowed.");
        return refuse("pg_keeper.keepalives_time is too short", &allowed, "Set pg_keeper.keepalive_time instead.");
    }
    warn_of_spelling("pg_keeper.keepalives_time", "pg_keeper.keepalive_time");
    true
}

#[pg_guard]
pub(super) unsafe extern "C-unwind" fn check_keepalives_count(
    new: *mut c_int,
    _extra: *mut *mut c_void,
    _source: pg_sys::GucSource::Type,
) -> bool {
    // SAFETY: the server hands in a number.
    if unsafe { *new } != 0 {
        warn_of_spelling("pg_keeper.keepalives_count", "pg_keeper.keepalive_count");
    }
    true
}

#[pg_guard]
pub(super) unsafe extern "C-unwind" fn check_before_command(
    new: *mut *mut c_char,
    _extra: *mut *mut c_void,
    _source: pg_sys::GucSource::Type,
) -> bool {
    // SAFETY: the server hands in a string.
    judge_command("pg_keeper.before_command", unsafe { text_of(new) })
}

#[pg_guard]
pub(super) unsafe extern "C-unwind" fn check_after_command(
    new: *mut *mut c_char,
    _extra: *mut *mut c_void,
    _source: pg_sys::GucSource::Type,
) -> bool {
    // SAFETY: the server hands in a string.
    judge_command("pg_keeper.after_command", unsafe { text_of(new) })
}

#[pg_guard]
pub(super) unsafe extern "C-unwind" fn check_synchronous_standby_names(
    new: *mut *mut c_char,
    _extra: *mut *mut c_void,
    _source: pg_sys::GucSource::Type,
) -> bool {
    // SAFETY: the server hands in a string.
    let names = unsafe { text_of(new) };
    // SAFETY: both are C strings, and with changeVal = false nothing is changed. At a debugging level a refusal raises no ERROR.
    let accepted = unsafe {
        pg_sys::set_config_option(
            c"synchronous_standby_names".as_ptr(),
            names.as_ptr(),
            pg_sys::GucContext::PGC_SIGHUP,
            pg_sys::GucSource::PGC_S_FILE,
            pg_sys::GucAction::GUC_ACTION_SET,
            false,
            pg_sys::DEBUG5 as _,
            false,
        )
    };
    // What ALTER SYSTEM could not write back must not be wished for.
    let writable = names.to_str().is_ok_and(|names| !names.contains(['\n', '\r']));
    (accepted != 0 && writable) || {
        let allowed = "What PostgreSQL's own synchronous_standby_names may hold is allowed, or nothing.";
        refuse(
            "pg_keeper.synchronous_standby_names is not a list of standbys",
            allowed,
            "For example: '*' or 'db01, db02'.",
        )
    }
}

/// The string that a hook is to judge.
///
/// # Safety
/// `new` points to a string, or to null.
unsafe fn text_of<'a>(new: *mut *mut c_char) -> &'a CStr {
    // SAFETY: the caller vouches for it.
    unsafe { if (*new).is_null() { c"" } else { CStr::from_ptr(*new) } }
}

fn judge_conninfo(name: &str, text: &CStr) -> bool {
    let Some(Refusal { what, allowed, hint, secret }) = conninfo::refusal(text) else {
        return true;
    };
    if secret && !TRYING.load(Ordering::Relaxed) {
        forget_statement();
    }
    refuse(&format!("{name} {what}"), allowed, hint)
}

fn judge_command(name: &str, text: &CStr) -> bool {
    text.to_str().is_ok() || {
        let message = format!("{name} is not valid UTF-8");
        refuse(&message, "Any shell command in UTF-8 is allowed.", "Put the command into a script and name the script.")
    }
}

/// Keeps the statement that brought a secret out of the log and out of pg_stat_activity.
fn forget_statement() {
    // SAFETY: outside a statement the pointer is null already. The server reads it only to add the statement to a message, and sets it
    // anew for each one. Reporting activity copies the text.
    unsafe {
        if pg_sys::IsUnderPostmaster && pg_sys::IsTransactionState() {
            pg_sys::debug_query_string = std::ptr::null();
            let shown = c"<a statement with a connection string that may hold a secret>";
            pg_sys::pgstat_report_activity(pg_sys::BackendState::STATE_RUNNING, shown.as_ptr());
        }
    }
}

/// Answers false, with the message, detail and hint that the server reports. Without a message of ours the server would write one that
/// repeats the value.
fn refuse(message: &str, detail: &str, hint: &str) -> bool {
    let keep = |text: &str| {
        let text = CString::new(text).unwrap_or_default();
        // SAFETY: a copy in the context where the server's own macros put such texts; it empties that context after reporting.
        unsafe { pg_sys::MemoryContextStrdup(pg_sys::ErrorContext, text.as_ptr()) }
    };
    // SAFETY: the server resets these before it calls a hook and reads them after it returned false; it runs in one thread.
    unsafe {
        pg_sys::GUC_check_errmsg_string = keep(message);
        pg_sys::GUC_check_errdetail_string = keep(detail);
        pg_sys::GUC_check_errhint_string = keep(hint);
    }
    false
}

/// Tells an administrator of the right name: in the log once for each time the files are read, and to who runs ALTER SYSTEM.
fn warn_of_spelling(old: &str, right: &str) {
    // SAFETY: plain reads of the process's own state.
    let is_reader = unsafe { !pg_sys::IsUnderPostmaster || pg_sys::IsTransactionState() };
    if is_reader && !TRYING.load(Ordering::Relaxed) {
        ereport!(
            WARNING,
            PgSqlErrorCode::ERRCODE_WARNING_DEPRECATED_FEATURE,
            format!("{old} is an old spelling of {right}"),
            format!("It counts while {right} is at its default. Set {right} instead.")
        );
    }
}
