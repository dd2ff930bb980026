//! The keeper's one wait: for its latch, for the postmaster's death, and for its connection's socket.
//!
//! The server's own call for this (`WaitLatchOrSocket`) tells the kernel anew each time what to wait for, six system calls for one. The keeper
//! waits for the same in nearly every wait, so it tells it once.

use pgrx::pg_sys;
use std::ffi::c_int;

/// A socket to wait for, and for what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Interest {
    pub(crate) socket: c_int,
    /// `WL_SOCKET_READABLE`, `WL_SOCKET_WRITEABLE` or both.
    pub(crate) events: u32,
    /// Different for each socket of this process, also where two bear the same number one after the other. `None` for one that is to be taken for
    /// another each time: the kernel forgets a socket that was closed, and does not watch another of its number in its place.
    pub(crate) session: Option<u64>,
}

/// What to wait for, as the kernel has been told.
pub(crate) struct Wait {
    set: Option<Set>,
}

/// The latch, the postmaster's death and the socket.
const EVENTS: u8 = 3;

struct Set {
    set: *mut pg_sys::WaitEventSet,
    interest: Option<Interest>,
}

impl Wait {
    pub(crate) fn new() -> Self {
        Wait { set: None }
    }

    /// Waits until one of these happens, or for so many milliseconds; whether the postmaster is gone. The latch is reset.
    pub(crate) fn wait(&mut self, interest: Option<Interest>, timeout: i64) -> bool {
        let lasts = interest.is_none_or(|interest| interest.session.is_some());
        self.set.take_if(|set| !lasts || set.interest != interest);
        let set = self.set.get_or_insert_with(|| Set::new(interest)).set;
        let mut occurred = [pg_sys::WaitEvent::default(); EVENTS as usize];
        // SAFETY: the set is live, the array has the length that is given, and MyLatch is this process's own.
        let count = unsafe {
            let (first, length) = (occurred.as_mut_ptr(), c_int::from(EVENTS));
            let count = pg_sys::WaitEventSetWait(set, timeout, first, length, pg_sys::PG_WAIT_EXTENSION);
            pg_sys::ResetLatch(pg_sys::MyLatch);
            count
        };
        let happened = usize::try_from(count).ok().and_then(|count| occurred.get(..count)).unwrap_or_default();
        happened.iter().any(|event| event.events & pg_sys::WL_POSTMASTER_DEATH != 0)
    }
}

impl Set {
    fn new(interest: Option<Interest>) -> Self {
        let no_socket = pg_sys::PGINVALID_SOCKET;
        let (nobody, nothing) = (std::ptr::null_mut(), std::ptr::null_mut());
        // SAFETY: room for as many events as there can be. The latch is this process's own, the socket open. The set outlives every
        // transaction: it belongs to no resource owner, and its memory to the process.
        unsafe {
            #[cfg(any(feature = "pg13", feature = "pg14", feature = "pg15", feature = "pg16"))]
            let owner = pg_sys::TopMemoryContext;
            #[cfg(any(feature = "pg17", feature = "pg18"))]
            let owner = std::ptr::null_mut();
            let set = pg_sys::CreateWaitEventSet(owner, c_int::from(EVENTS));
            pg_sys::AddWaitEventToSet(set, pg_sys::WL_LATCH_SET, no_socket, pg_sys::MyLatch, nothing);
            pg_sys::AddWaitEventToSet(set, pg_sys::WL_POSTMASTER_DEATH, no_socket, nobody, nothing);
            if let Some(Interest { socket, events, .. }) = interest {
                pg_sys::AddWaitEventToSet(set, events, socket, nobody, nothing);
            }
            Set { set, interest }
        }
    }
}

impl Drop for Set {
    fn drop(&mut self) {
        // SAFETY: made by this process, and not used again. Sockets in it may have been closed meanwhile.
        unsafe { pg_sys::FreeWaitEventSet(self.set) }
    }
}
