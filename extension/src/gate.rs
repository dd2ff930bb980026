//! The gate as every process of the server sees it: a few words of shared memory that need no lock.
//!
//! The keeper writes them, the hooks read them. A process that is stopped while it reads or writes holds up nobody, and a server that is
//! started or restarted after a crash begins with the gate closed, for the memory is made anew.

use crate::shared::now;
use crate::{fence, guc};
use keeper_core::{AtAnswer, Gate, Identity, Moment};
use pgrx::prelude::*;
use pgrx::{PGRXSharedMemory, PgAtomic, pg_shmem_init};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};
use std::time::Duration;

const CLOSED: u64 = 0;
const FENCED: u64 = 1;
/// An open gate is the end of its permit, moved up by this.
const OPEN: u64 = 2;

/// How often a commit that waits looks again.
const LOOK_AGAIN: Duration = Duration::from_millis(2);
/// How often it reminds the keeper.
const REMIND: Duration = Duration::from_millis(50);
/// What a commit waits at most while no keeper has said what fits the settings.
const PATIENCE: Duration = Duration::from_secs(10);

struct Words {
    /// [`Gate`], as `to_word` writes it: one word, so that no reader sees half of a change.
    gate: AtomicU64,
    /// Microseconds that a commit waits for a permit at most.
    patience: AtomicU64,
    /// The instant before which this standby does not promote itself, for the keeper's next worker.
    promised: AtomicU64,
    /// The instant that the partner is told for it.
    offered: AtomicU64,
    /// When the keeper last spoke.
    spoken: AtomicU64,
    /// When a partner's keeper was last shown our report; 0 for never.
    told: AtomicU64,
    /// The keeper's process, 0 for none.
    keeper: AtomicI32,
    /// Requests to the keeper, each taken by it once.
    commit_waits: AtomicBool,
    asked_by_partner: AtomicBool,
    lift: AtomicBool,
}

// SAFETY: atomics without pointers, valid in every process that maps them.
unsafe impl PGRXSharedMemory for Words {}

// SAFETY: the name is this library's own.
static WORDS: PgAtomic<Words> = unsafe { PgAtomic::new(c"pg_keeper gate") };

/// Asks for the shared memory; from `_PG_init` only.
pub(crate) fn request() {
    pg_shmem_init!(
        WORDS = Words {
            gate: AtomicU64::new(to_word(at_start())),
            patience: AtomicU64::new(micros(PATIENCE)),
            promised: AtomicU64::new(0),
            offered: AtomicU64::new(0),
            spoken: AtomicU64::new(0),
            told: AtomicU64::new(0),
            keeper: AtomicI32::new(0),
            commit_waits: AtomicBool::new(false),
            asked_by_partner: AtomicBool::new(false),
            lift: AtomicBool::new(false),
        }
    );
}

/// Before the keeper has said anything: closed, save where there is no partner to ask and no fence to keep.
fn at_start() -> Gate {
    // SAFETY: set before any library is loaded, and only read.
    let upgrade = unsafe { pg_sys::IsBinaryUpgrade };
    let alone = guc::partner_conninfo().is_none() && guc::problems().is_empty() && !fence::is_there();
    if upgrade || alone { Gate::Open { until: Moment::NEVER } } else { Gate::Closed }
}

fn to_word(gate: Gate) -> u64 {
    match gate {
        Gate::Closed => CLOSED,
        Gate::Fenced => FENCED,
        Gate::Open { until } => until.as_micros().saturating_add(OPEN),
    }
}

fn of_word(word: u64) -> Gate {
    match word {
        CLOSED => Gate::Closed,
        FENCED => Gate::Fenced,
        u64::MAX => Gate::Open { until: Moment::NEVER },
        word => Gate::Open { until: Moment::from_micros(word - OPEN) },
    }
}

fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}

/// The gate now.
pub(crate) fn gate() -> Gate {
    of_word(WORDS.get().gate.load(Ordering::Acquire))
}

/// Lets the hooks obey this from now on.
pub(crate) fn set(gate: Gate) {
    WORDS.get().gate.store(to_word(gate), Ordering::Release);
}

/// Says how long a commit waits for a permit at most.
pub(crate) fn set_patience(patience: Duration) {
    WORDS.get().patience.store(micros(patience), Ordering::Relaxed);
}

/// Says that this process is the keeper.
pub(crate) fn enter_keeper() {
    WORDS.get().keeper.store(std::process::id().cast_signed(), Ordering::Release);
}

/// The keeper's word on its promise, and that it spoke now. Comes before whatever makes the promise void.
pub(crate) fn speak(promised: Moment, offered: Moment) {
    let words = WORDS.get();
    words.promised.store(promised.as_micros(), Ordering::Release);
    words.offered.store(offered.as_micros(), Ordering::Release);
    words.spoken.store(now().as_micros(), Ordering::Release);
}

/// What an earlier keeper of this start of the server promised.
pub(crate) fn promised() -> Moment {
    Moment::from_micros(WORDS.get().promised.load(Ordering::Acquire))
}

/// What a report says at this moment, when the server of this identity answers.
pub(crate) fn at_answer(identity: Identity) -> AtAnswer {
    let now = now();
    let permit = match gate() {
        Gate::Open { until } => until.since(now),
        Gate::Closed | Gate::Fenced => Duration::ZERO,
    };
    let spoken = Moment::from_micros(WORDS.get().spoken.load(Ordering::Acquire));
    let offered = Moment::from_micros(WORDS.get().offered.load(Ordering::Acquire));
    AtAnswer { identity, promise: offered.since(now), permit, keeper_age: now.since(spoken) }
}

/// A partner's keeper is shown our report. The first time on a connection, our keeper is to ask back.
pub(crate) fn tell_partner(first: bool) {
    let words = WORDS.get();
    words.told.store(now().as_micros(), Ordering::Release);
    if first {
        words.asked_by_partner.store(true, Ordering::Release);
        wake_keeper();
    }
}

/// When a partner's keeper was last shown our report.
pub(crate) fn told() -> Option<Moment> {
    match WORDS.get().told.load(Ordering::Acquire) {
        0 => None,
        told => Some(Moment::from_micros(told)),
    }
}

/// An administrator asks to open this server.
pub(crate) fn request_lift() {
    WORDS.get().lift.store(true, Ordering::Release);
    wake_keeper();
}

/// Tells the keeper that a commit waits for its permit.
pub(crate) fn wait_for_commit() {
    WORDS.get().commit_waits.store(true, Ordering::Release);
    wake_keeper();
}

/// Takes what was asked of the keeper.
pub(crate) fn take_requests() -> impl Iterator<Item = keeper_core::Event> {
    use keeper_core::Event;
    let words = WORDS.get();
    let taken = |request: &AtomicBool, event: Event| request.swap(false, Ordering::AcqRel).then_some(event);
    [
        taken(&words.asked_by_partner, Event::AskedByPartner),
        taken(&words.commit_waits, Event::CommitWaits),
        taken(&words.lift, Event::LiftRequested),
    ]
    .into_iter()
    .flatten()
}

/// Wakes the keeper, if there is one.
pub(crate) fn wake_keeper() {
    let pid = WORDS.get().keeper.load(Ordering::Acquire);
    if pid == 0 {
        return;
    }
    // SAFETY: answers with the living process of that number, or null. Should it have ended since, its slot stays in shared memory, and
    // whoever has it next is woken once for nothing.
    unsafe {
        let process = pg_sys::BackendPidGetProc(pid);
        if !process.is_null() {
            pg_sys::SetLatch(&raw mut (*process).procLatch);
        }
    }
}

/// Why a commit does not pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The server is fenced.
    Fenced,
    /// No permit came in time.
    NoPermit,
    /// The postmaster is gone: another server may have taken over already.
    PostmasterDead,
}

/// Lets a commit pass, at once in the calm; else it waits for its permit, and calls `pause` between two looks.
///
/// # Errors
/// Why it must not pass.
pub(crate) fn pass(mut pause: impl FnMut(Duration)) -> Result<(), Refusal> {
    let mut begun = None;
    let mut reminded = None;
    loop {
        if has_permit()? {
            return Ok(());
        }
        let now = now();
        let patience = Duration::from_micros(WORDS.get().patience.load(Ordering::Relaxed));
        if now.since(*begun.get_or_insert(now)) >= patience {
            return Err(Refusal::NoPermit);
        }
        if reminded.is_none_or(|at: Moment| now.since(at) >= REMIND) {
            reminded = Some(now);
            wait_for_commit();
        }
        pause(LOOK_AGAIN);
    }
}

/// Whether a commit passes at once. Every commit asks.
pub(crate) fn lets_pass() -> bool {
    !postmaster_is_dead() && gate().lets_pass(now)
}

/// Whether there is a permit at this moment; where there never will be one, why.
fn has_permit() -> Result<bool, Refusal> {
    if postmaster_is_dead() {
        return Err(Refusal::PostmasterDead);
    }
    match gate() {
        Gate::Fenced => Err(Refusal::Fenced),
        gate @ (Gate::Open { .. } | Gate::Closed) => Ok(gate.lets_pass(now)),
    }
}

/// Backends outlive a killed postmaster until their next wait, and must not commit meanwhile.
fn postmaster_is_dead() -> bool {
    // SAFETY: the flag is set by a signal handler when the kernel tells that the parent has died; the function then asks the kernel, and
    // takes the flag back only where the postmaster lives.
    unsafe { (&raw const postmaster_possibly_dead).read_volatile() != 0 && !PostmasterIsAliveInternal() }
}

// `storage/pmsignal.h`, on systems that signal a parent's death, as Linux does.
unsafe extern "C-unwind" {
    static postmaster_possibly_dead: std::ffi::c_int;
    fn PostmasterIsAliveInternal() -> bool;
}
