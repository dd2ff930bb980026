//! The fence on disk, and the end of the sessions that it keeps out.

use crate::hooks;
use keeper_core::{Binding, FENCE_FILE, Fence, Kept, SystemIdentifier};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pgrx::prelude::*;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Whether there is a file at all; the working directory of every server process is the data directory.
pub(crate) fn is_there() -> bool {
    Path::new(FENCE_FILE).symlink_metadata().is_ok()
}

/// What lies on disk.
pub(crate) fn read() -> Kept {
    match fs::read(FENCE_FILE) {
        Ok(bytes) => match binding() {
            Ok(binding) => Kept::judge(&bytes, &binding),
            Err(error) => Kept::Damaged(format!("this server's own data directory cannot be looked at: {error}")),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => Kept::Nothing,
        Err(error) => Kept::Damaged(error.to_string()),
    }
}

/// Writes the fence durably: a new file, flushed, renamed over the old one, and the folder flushed.
pub(crate) fn keep(fence: &Fence) -> io::Result<()> {
    let text = fence.to_file(&binding()?);
    let fresh = format!("{FENCE_FILE}.new");
    let mut file = File::options().write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&fresh, FENCE_FILE)?;
    File::open(".")?.sync_all()
}

/// Gives a file that cannot be believed another name. Returns it.
pub(crate) fn set_aside() -> io::Result<PathBuf> {
    let aside = (0..)
        .map(|number| PathBuf::from(format!("{FENCE_FILE}.damaged{number}")))
        .find(|path| path.symlink_metadata().is_err())
        .unwrap_or_default();
    fs::rename(FENCE_FILE, &aside)?;
    File::open(".")?.sync_all()?;
    Ok(aside)
}

/// This server, told from every copy of it.
fn binding() -> io::Result<Binding> {
    // SAFETY: reads the control file's copy in memory, which every process of the server has.
    let system_identifier = SystemIdentifier(unsafe { pg_sys::GetSystemIdentifier() });
    Ok(Binding { system_identifier, inode: fs::metadata(".")?.ino() })
}

/// Ends the sessions of all clients but those that get past the fence. Physical replication goes on, and so do the server's own processes.
///
/// Who gets past is in a catalog, and a client that is to be ended may hold that locked: then nobody is told apart, and all are ended. The
/// keeper waits no longer than its `lock_timeout`.
pub(crate) fn end_clients() {
    // SAFETY: outside any transaction; begun for the look-up of roles, which are in catalogs that need no database.
    unsafe { pg_sys::StartTransactionCommand() };
    // SAFETY: inside the transaction.
    let told_apart = PgTryBuilder::new(|| unsafe {
        end_those_who(|role, family| !hooks::role_may_pass(role, family));
        true
    })
    .catch_others(|_| false)
    .execute();
    // SAFETY: ends the transaction begun above, in the way its outcome asks for; the second look needs none.
    unsafe {
        if told_apart {
            pg_sys::CommitTransactionCommand();
        } else {
            pg_sys::AbortCurrentTransaction();
            end_those_who(|_, _| true);
        }
    }
}

/// Ends the sessions of clients by the number of their role and the family of their address.
///
/// # Safety
/// In a process that is attached to shared memory, and inside a transaction where the choice needs one.
unsafe fn end_those_who(chosen: impl Fn(pg_sys::Oid, u16) -> bool) {
    // SAFETY: statuses are copied by the server into memory of this process, valid until the snapshot is cleared.
    unsafe {
        pg_sys::pgstat_clear_snapshot();
        for index in 1..=pg_sys::pgstat_fetch_stat_numbackends() {
            #[cfg(any(feature = "pg13", feature = "pg14", feature = "pg15"))]
            let local = pg_sys::pgstat_fetch_stat_local_beentry(index);
            #[cfg(not(any(feature = "pg13", feature = "pg14", feature = "pg15")))]
            let local = pg_sys::pgstat_get_local_beentry_by_index(index);
            let Some(status) = local.as_ref().map(|local| &local.backendStatus) else { continue };
            let is_client = match status.st_backendType {
                pg_sys::BackendType::B_BACKEND => true,
                // A WAL sender with a database takes SQL.
                pg_sys::BackendType::B_WAL_SENDER => status.st_databaseid != pg_sys::InvalidOid,
                _ => false,
            };
            let family = status.st_clientaddr.addr.ss_family;
            // One that is still authenticating meets the hook.
            let is_known = status.st_userid != pg_sys::InvalidOid;
            if is_client && is_known && chosen(status.st_userid, family) {
                // One that has ended meanwhile is none the worse for it.
                let _ = kill(Pid::from_raw(status.st_procpid), Signal::SIGTERM);
            }
        }
        pg_sys::pgstat_clear_snapshot();
    }
}
