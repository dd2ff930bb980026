//! The one look at the server that a wake of the keeper takes.

use crate::{gate, names, shared};
use keeper_core::{History, Identity, Lsn, Observation, Parameters, SystemIdentifier, Timeline};
use pgrx::prelude::*;
use std::path::Path;

/// Looks at the server. History files do not change once written, so the last one read is kept.
#[derive(Default)]
pub(crate) struct Observer {
    history: Option<History>,
}

impl Observer {
    /// One snapshot of the server; nothing in it is asked for again until the next wake.
    pub(crate) fn look(&mut self) -> Observation {
        // SAFETY: reads shared memory that exists in every process attached to it.
        let (in_recovery, system_identifier) = unsafe { (pg_sys::RecoveryInProgress(), pg_sys::GetSystemIdentifier()) };
        // First whether commits wait, then the position: what was acknowledged alone lies before it.
        let synchronous_in_effect = names::in_effect();
        let position = if in_recovery { standby_position() } else { primary_position() };
        Observation {
            in_recovery,
            standby_signal: in_recovery && Path::new("standby.signal").exists(),
            system_identifier: SystemIdentifier(system_identifier),
            timeline: position.timeline,
            history: self.history_of(position.timeline),
            received: position.received,
            replayed: position.replayed,
            streaming: in_recovery && is_streaming(),
            synchronous_names: names::held(),
            synchronous_in_effect,
            told_partner: gate::told(),
            recorded: Some(shared::recorded()).filter(|&timeline| timeline != 0).map(Timeline),
        }
    }

    fn history_of(&mut self, timeline: Timeline) -> Option<History> {
        if self.history.as_ref().is_none_or(|history| history.timeline() != timeline) {
            self.history = read_history(timeline);
        }
        self.history.clone()
    }
}

/// The history of a timeline of this server, `None` when its file is missing or unreadable. The working directory of every server
/// process is the data directory.
pub(crate) fn read_history(timeline: Timeline) -> Option<History> {
    if timeline.0 <= 1 {
        return Some(History::of_first(timeline));
    }
    let text = std::fs::read_to_string(format!("pg_wal/{:08X}.history", timeline.0)).ok()?;
    History::parse(timeline, &text).ok()
}

/// Settings of this server that a standby must not undercut.
pub(crate) fn parameters() -> Parameters {
    let number = |name: &std::ffi::CStr| {
        // SAFETY: GetConfigOption answers with a terminated text that stays valid until the next call, and it is copied at once.
        let text = unsafe {
            let text = pg_sys::GetConfigOption(name.as_ptr(), true, false);
            if text.is_null() { String::new() } else { std::ffi::CStr::from_ptr(text).to_string_lossy().into_owned() }
        };
        text.parse().unwrap_or(0)
    };
    Parameters {
        max_connections: number(c"max_connections"),
        max_worker_processes: number(c"max_worker_processes"),
        max_wal_senders: number(c"max_wal_senders"),
        max_prepared_transactions: number(c"max_prepared_transactions"),
        max_locks_per_transaction: number(c"max_locks_per_transaction"),
    }
}

/// What a WAL sender answers to `IDENTIFY_SYSTEM` at this moment (`IdentifySystem`, `GetStandbyFlushRecPtr`, `walsender.c`).
pub(crate) fn identity() -> Identity {
    // SAFETY: reads shared memory that exists in every process attached to it.
    let (in_recovery, system_identifier) = unsafe { (pg_sys::RecoveryInProgress(), pg_sys::GetSystemIdentifier()) };
    let (timeline, lsn) = if in_recovery {
        let (received, replayed) = (received(), replayed());
        // What was received on another timeline than is replayed is no part of it yet.
        let flushed = if received.0 == replayed.0 { received.1.max(replayed.1) } else { replayed.1 };
        (replayed.0, flushed)
    } else {
        let position = primary_position();
        (position.timeline, position.received)
    };
    Identity { system_identifier: SystemIdentifier(system_identifier), timeline, lsn }
}

/// The timeline that this server, out of recovery, writes.
pub(crate) fn primary_timeline() -> Timeline {
    primary_position().timeline
}

struct Position {
    timeline: Timeline,
    received: Lsn,
    replayed: Lsn,
}

#[cfg(any(feature = "pg13", feature = "pg14"))]
fn primary_position() -> Position {
    // SAFETY: the server is out of recovery, which RecoveryInProgress has just found and so set ThisTimeLineID in this process.
    let (flushed, timeline) = unsafe { (pg_sys::GetFlushRecPtr(), pg_sys::ThisTimeLineID) };
    Position { timeline: Timeline(timeline), received: Lsn(flushed), replayed: Lsn(flushed) }
}

#[cfg(not(any(feature = "pg13", feature = "pg14")))]
fn primary_position() -> Position {
    let mut timeline = 0;
    // SAFETY: the server is out of recovery, and the pointer is to a local of the right type.
    let flushed = unsafe { pg_sys::GetFlushRecPtr(&raw mut timeline) };
    Position { timeline: Timeline(timeline), received: Lsn(flushed), replayed: Lsn(flushed) }
}

fn standby_position() -> Position {
    let ((received_timeline, received), (replayed_timeline, replayed)) = (received(), replayed());
    Position { timeline: received_timeline.max(replayed_timeline), received, replayed }
}

/// How far the WAL receiver has written the WAL out, and on which timeline.
fn received() -> (Timeline, Lsn) {
    let mut timeline = 0;
    // SAFETY: reads shared memory under its spinlock; the pointer is to a local of the right type, and the other one may be null.
    let lsn = unsafe { walreceiver::GetWalRcvFlushRecPtr(std::ptr::null_mut(), &raw mut timeline) };
    (Timeline(timeline), Lsn(lsn))
}

/// How far the WAL was replayed, and on which timeline.
fn replayed() -> (Timeline, Lsn) {
    let mut timeline = 0;
    // SAFETY: as above.
    let lsn = unsafe { pg_sys::GetXLogReplayRecPtr(&raw mut timeline) };
    (Timeline(timeline), Lsn(lsn))
}

fn is_streaming() -> bool {
    // SAFETY: WalRcv points into shared memory from the start of the process; the state is one word, written whole.
    unsafe {
        !walreceiver::WalRcv.is_null()
            && (&raw const (*walreceiver::WalRcv).walRcvState).read_volatile() == walreceiver::WALRCV_STREAMING
    }
}

#[cfg(not(feature = "pg13"))]
mod walreceiver {
    pub(super) use pgrx::pg_sys::WalRcvState::WALRCV_STREAMING;
    pub(super) use pgrx::pg_sys::{GetWalRcvFlushRecPtr, WalRcv};
}

/// What pgrx's bindings of version 13 lack (`replication/walreceiver.h`).
#[cfg(feature = "pg13")]
#[allow(non_snake_case, non_upper_case_globals)]
mod walreceiver {
    use pgrx::pg_sys::{TimeLineID, XLogRecPtr, pid_t};

    pub(super) const WALRCV_STREAMING: u32 = 2;

    /// The beginning of `WalRcvData`.
    #[repr(C)]
    pub(super) struct Head {
        pid: pid_t,
        pub(super) walRcvState: u32,
    }

    unsafe extern "C-unwind" {
        pub(super) static mut WalRcv: *mut Head;
        pub(super) fn GetWalRcvFlushRecPtr(latest_chunk: *mut XLogRecPtr, timeline: *mut TimeLineID) -> XLogRecPtr;
    }
}
