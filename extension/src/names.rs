//! PostgreSQL's own `synchronous_standby_names`: what it holds, whether commits obey it, and how it is set.

use crate::guc;
use crate::keeper::describe;
use keeper_core::SynchronousNames;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pgrx::prelude::*;
use std::ffi::{CStr, CString};

/// What the setting holds, as far as this process has read its configuration.
pub(crate) fn held() -> SynchronousNames {
    // SAFETY: a setting's text or null, which only changes when this process reads its configuration.
    let held = unsafe {
        if pg_sys::SyncRepStandbyNames.is_null() { c"" } else { CStr::from_ptr(pg_sys::SyncRepStandbyNames) }
    };
    match guc::synchronous_standby_names() {
        _ if held.is_empty() => SynchronousNames::Empty,
        Some(wished) if wished.as_c_str() == held => SynchronousNames::Wished,
        Some(_) | None => SynchronousNames::Other,
    }
}

/// Whether commits wait for a standby. They obey a word in shared memory that the checkpointer sets when it reads its configuration, which a
/// busy one does late (`SyncRepUpdateSyncStandbysDefined`, `syncrep.c`).
pub(crate) fn in_effect() -> bool {
    // SAFETY: shared memory that every process of the server has; one byte, written whole.
    let word = unsafe {
        let head = pg_sys::WalSndCtl.cast::<WalSndCtlHead>();
        if head.is_null() {
            return false;
        }
        (&raw const (*head).sync_standbys_status).read_volatile()
    };
    if holds_bits() { word & DEFINED != 0 } else { word != 0 }
}

/// The beginning of `WalSndCtlData` (`walsender_private.h`), the same in all versions. Minor releases changed the name of the last field and
/// what is in it, so the bindings of the headers that happen to be installed cannot be relied on.
#[repr(C)]
struct WalSndCtlHead {
    /// Three list heads, each of two pointers.
    queues: [[usize; 2]; 3],
    lsn: [pg_sys::XLogRecPtr; 3],
    sync_standbys_status: u8,
}

/// `SYNC_STANDBY_DEFINED` (`walsender_private.h`).
const DEFINED: u8 = 1 << 1;

/// Whether the word holds bits, as it does since the minor releases of May 2025. In those before it is true or false.
fn holds_bits() -> bool {
    // SAFETY: a preset setting's text, which never changes.
    let version = unsafe {
        let text = pg_sys::GetConfigOption(c"server_version_num".as_ptr(), true, false);
        if text.is_null() { return true } else { CStr::from_ptr(text) }
    };
    let version: u32 = version.to_str().ok().and_then(|digits| digits.parse().ok()).unwrap_or(u32::MAX);
    let first = match version / 10_000 {
        13 => 21,
        14 => 18,
        15 => 13,
        16 => 9,
        17 => 5,
        _ => 0,
    };
    version % 10_000 >= first
}

/// Sets it in postgresql.auto.conf and has the server read that. An ERROR ends only the attempt.
///
/// # Errors
/// The server's words.
pub(crate) fn set(names: SynchronousNames) -> Result<(), String> {
    let value = match names {
        SynchronousNames::Empty => CString::default(),
        SynchronousNames::Wished => guc::synchronous_standby_names().unwrap_or_default(),
        SynchronousNames::Other => return Ok(()),
    };
    let quoted = value.to_string_lossy().replace('\'', "''");
    let statement =
        CString::new(format!("ALTER SYSTEM SET synchronous_standby_names = E'{}'", quoted.replace('\\', "\\\\")))
            .map_err(|error| error.to_string())?;
    // SAFETY: outside any transaction; begun for the look-up of the role's rights.
    unsafe { pg_sys::StartTransactionCommand() };
    let outcome = PgTryBuilder::new(|| {
        // SAFETY: the parser makes a list of one RawStmt from this text, whose statement is an AlterSystemStmt; both live until the end
        // of the transaction.
        unsafe {
            let parsed = pg_sys::pg_parse_query(statement.as_ptr());
            let raw = pg_sys::list_nth(parsed, 0).cast::<pg_sys::RawStmt>();
            pg_sys::AlterSystemSetConfigFile((*raw).stmt.cast());
        }
        Ok(())
    })
    .catch_others(|caught| Err(describe(caught)))
    .execute();
    // SAFETY: ends the transaction begun above, in the way its outcome asks for; the postmaster's number is its own.
    unsafe {
        if outcome.is_ok() {
            pg_sys::CommitTransactionCommand();
        } else {
            pg_sys::AbortCurrentTransaction();
        }
    }
    outcome?;
    // SAFETY: set by the postmaster before any worker starts.
    let postmaster = Pid::from_raw(unsafe { pg_sys::PostmasterPid });
    kill(postmaster, Signal::SIGHUP).map_err(|error| error.to_string())
}
