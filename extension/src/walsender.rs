//! The server's side of a partner's keepalive connection.

use crate::gate;
use pgrx::pg_sys;
use std::cell::Cell;
use std::ffi::CStr;

/// What the report's show hook does beside showing it, if this process is the WAL sender of a partner's keeper.
pub(crate) fn serve_keeper() {
    thread_local! {
        static SERVED: Cell<bool> = const { Cell::new(false) };
    }
    if !is_keepers() {
        return;
    }
    let first = !SERVED.replace(true);
    gate::tell_partner(first);
    if first {
        sleep_through_wal();
    }
}

/// Whether this is a WAL sender whose client is a keeper by its name.
fn is_keepers() -> bool {
    // SAFETY: plain reads of the process's own state; a setting's text or null, which only this process changes.
    unsafe {
        !pg_sys::MyWalSnd.is_null()
            && !pg_sys::application_name.is_null()
            && CStr::from_ptr(pg_sys::application_name) == c"pg_keeper"
    }
}

/// Lets this process sleep while WAL is written.
///
/// Up to version 15 a server that flushes WAL sets the latch of every WAL sender (`WalSndWakeup`, `walsender.c`), also of one that only waits
/// for the next question: one wake for each transaction. A WAL sender that has taken its latch out of its slot is passed over there, as
/// one is that has not begun or has ended. Questions wake it as before, through its socket. It must never stream after that; a keeper
/// does not. From version 16 on only WAL senders that stream are woken.
fn sleep_through_wal() {
    #[cfg(any(feature = "pg13", feature = "pg14", feature = "pg15"))]
    // SAFETY: the slot belongs to this process as long as it lives. The server copies the pointer under the slot's spinlock, and a pointer is
    // written whole, so it sees the latch or none. Where the field were another one than the bindings say, it would not hold our latch,
    // and is left alone.
    unsafe {
        let slot = pg_sys::MyWalSnd;
        if (*slot).latch == pg_sys::MyLatch {
            (&raw mut (*slot).latch).write_volatile(std::ptr::null_mut());
        }
    }
}
