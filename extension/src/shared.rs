//! What the processes of one server share about its keeper.
//!
//! The keeper publishes after every step; the recorder, `SHOW pg_keeper.report` and the SQL functions read. Everything is copied in and out
//! under the lock, so a reader that is stopped holds up nobody for longer than a copy, and nothing here is the only copy of a decision.

use crate::{gate, observe, walsender};
use keeper_core::{
    Answer, CommandOutcome, Evidence, History, Lsn, Moment, Report, Status, Story, SystemIdentifier, Timeline,
};
use pgrx::prelude::*;
use pgrx::{PGRXSharedMemory, PgLwLock, pg_shmem_init};
use std::cell::RefCell;
use std::ffi::{CString, c_char};
use std::time::Duration;

/// After this long without a word from it, the keeper does not run or hangs.
const SILENT_KEEPER: Duration = Duration::from_secs(5);

/// Text of a bounded length; what does not fit is cut off at a character.
#[derive(Clone, Copy)]
pub(crate) struct Text<const N: usize> {
    length: usize,
    bytes: [u8; N],
}

impl<const N: usize> Default for Text<N> {
    fn default() -> Self {
        Text { length: 0, bytes: [0; N] }
    }
}

impl<const N: usize> Text<N> {
    pub(crate) fn new(text: &str) -> Self {
        let length = (0..=text.len().min(N)).rev().find(|&end| text.is_char_boundary(end)).unwrap_or(0);
        let mut bytes = [0; N];
        bytes[..length].copy_from_slice(&text.as_bytes()[..length]);
        Text { length, bytes }
    }

    pub(crate) fn as_str(&self) -> &str {
        self.bytes.get(..self.length).and_then(|bytes| std::str::from_utf8(bytes).ok()).unwrap_or_default()
    }
}

/// What the keeper says after each step.
#[derive(Clone, Copy, Default)]
pub(crate) struct Published {
    /// The keeper's process, 0 before the first one started.
    pub(crate) keeper_pid: i32,
    /// When it was said.
    at: Moment,
    pub(crate) role: Text<8>,
    pub(crate) state: Text<32>,
    pub(crate) reason: Text<1024>,
    pub(crate) partner_state: Text<16>,
    pub(crate) keepalives_missed: u32,
    pub(crate) last_answer: Option<Moment>,
    pub(crate) timeline: u32,
    pub(crate) lsn: u64,
    pub(crate) partner_timeline: u32,
    pub(crate) partner_lsn: u64,
    pub(crate) lag: Option<u64>,
    pub(crate) armed: bool,
    /// Whether this server is kept from taking writes, and why.
    pub(crate) fence: Text<256>,
    /// Why ordinary clients are refused and what to do, empty when they are not.
    pub(crate) closed: Text<768>,
    /// The state of synchronous replication.
    pub(crate) synchronous: Text<256>,
    pub(crate) last_error: Text<512>,
    pub(crate) refused_with: Text<8>,
    /// What we tell the partner.
    pub(crate) report: Text<768>,
    /// What the partner told us, as it told it; empty while unknown.
    pub(crate) partner_report: Text<768>,
}

impl Published {
    /// The status and the reports, ready to be shared.
    pub(crate) fn new(status: &Status, closed: Option<&str>, report: &Report) -> Self {
        Published {
            keeper_pid: std::process::id().cast_signed(),
            at: now(),
            role: Text::new(status.role.map_or("", |role| role.as_str())),
            state: Text::new(status.state.as_str()),
            reason: Text::new(&status.reason),
            partner_state: Text::new(status.partner_state.as_str()),
            keepalives_missed: status.keepalives_missed,
            last_answer: status.last_answer,
            timeline: status.timeline.0,
            lsn: status.lsn.0,
            partner_timeline: status.partner_timeline.0,
            partner_lsn: status.partner_lsn.0,
            lag: status.lag,
            armed: status.armed,
            fence: Text::new(&status.fence),
            closed: Text::new(closed.unwrap_or_default()),
            synchronous: Text::new(&status.synchronous),
            last_error: Text::new(&status.last_error),
            refused_with: Text::new(&status.refused_with),
            report: Text::new(&report.to_string()),
            partner_report: Text::new(&status.partner_report.as_ref().map(ToString::to_string).unwrap_or_default()),
        }
    }

    /// Whether the keeper has said nothing for so long that its word no longer holds: it wakes once a second.
    pub(crate) fn is_stale(&self) -> bool {
        self.keeper_pid == 0 || now().since(self.at) > SILENT_KEEPER
    }

    /// What the partner last told of itself.
    pub(crate) fn partner(&self) -> Option<Report> {
        Report::parse(self.partner_report.as_str()).ok()
    }
}

/// A promotion's story with instants that an administrator can read: microseconds as `timestamptz` counts them.
#[derive(Clone, Copy, Default)]
pub(crate) struct SharedStory {
    pub(crate) from_timeline: u32,
    pub(crate) last_answer: Option<i64>,
    pub(crate) detected: i64,
    pub(crate) promoted: Option<i64>,
    pub(crate) keepalives_missed: u32,
    pub(crate) attempts_void: u32,
    pub(crate) last_error: Text<512>,
    /// after_command is set, so its outcome follows.
    pub(crate) outcome_follows: bool,
}

impl SharedStory {
    /// The story in wall-clock time. Only the distance to now is taken from the monotonic clock, so a step of the wall clock since then
    /// moves all instants alike.
    pub(crate) fn new(story: &Story, outcome_follows: bool) -> Self {
        let now = now();
        // SAFETY: reads the clock, needs no state of the backend.
        let wall = unsafe { pg_sys::GetCurrentTimestamp() };
        let timestamp = |moment: Moment| wall - i64::try_from(now.since(moment).as_micros()).unwrap_or(0);
        SharedStory {
            from_timeline: story.from_timeline.0,
            last_answer: story.last_answer.map(timestamp),
            detected: timestamp(story.detected),
            promoted: story.promoted.map(timestamp),
            keepalives_missed: story.keepalives_missed,
            attempts_void: story.attempts_void,
            last_error: Text::new(&story.last_error),
            outcome_follows,
        }
    }
}

/// What was heard of the primary, for the keeper's next worker.
#[derive(Clone, Copy, Default)]
struct SharedEvidence {
    partner_generation: u32,
    system_identifier: u64,
    timeline: u32,
    lsn: u64,
    history: Text<4096>,
    report: Text<768>,
    last_answer: Option<Moment>,
}

impl SharedEvidence {
    /// `None` when the history is too long to be kept whole: half a history would be another one.
    fn new(evidence: &Evidence) -> Option<Self> {
        let answer = &evidence.answer;
        let (history, report) = (answer.history.to_string(), answer.report.to_string());
        let kept = SharedEvidence {
            partner_generation: evidence.partner_generation,
            system_identifier: answer.system_identifier.0,
            timeline: answer.timeline.0,
            lsn: answer.lsn.0,
            history: Text::new(&history),
            report: Text::new(&report),
            last_answer: evidence.last_answer,
        };
        (kept.history.as_str() == history && kept.report.as_str() == report).then_some(kept)
    }

    fn restore(&self) -> Option<Evidence> {
        let timeline = Timeline(self.timeline);
        Some(Evidence {
            partner_generation: self.partner_generation,
            answer: Answer {
                system_identifier: SystemIdentifier(self.system_identifier),
                timeline,
                lsn: Lsn(self.lsn),
                history: History::parse(timeline, self.history.as_str()).ok()?,
                report: Report::parse(self.report.as_str()).ok()?,
            },
            last_answer: self.last_answer,
        })
    }
}

#[derive(Clone, Copy, Default)]
struct Shared {
    /// This start of the server, as the partner hears it.
    instance: u64,
    published: Published,
    evidence: Option<SharedEvidence>,
    /// The server has been a standby since it started.
    was_standby: bool,
    story: Option<SharedStory>,
    outcome: Option<Text<256>>,
    /// The timeline whose row the recorder has committed or found.
    recorded: u32,
}

// SAFETY: plain data without pointers; every copy of the struct is whole because it is only touched under the lock.
unsafe impl PGRXSharedMemory for Shared {}

// SAFETY: the name is this library's own.
static SHARED: PgLwLock<Shared> = unsafe { PgLwLock::new(c"pg_keeper") };

/// Asks for the shared memory; from `_PG_init` only.
pub(crate) fn request() {
    gate::request();
    pg_shmem_init!(SHARED = Shared { instance: random(), ..Shared::default() });
}

/// The number of this start of the server.
pub(crate) fn instance() -> u64 {
    SHARED.share().instance
}

/// Replaces what the keeper says, and what its next worker is to know.
pub(crate) fn publish(published: &Published, evidence: Option<&Evidence>) {
    let evidence = evidence.and_then(SharedEvidence::new);
    let mut shared = SHARED.exclusive();
    shared.published = *published;
    shared.evidence = evidence;
    shared.was_standby |= published.role.as_str() == "standby";
}

/// What an earlier worker of this start of the server heard.
pub(crate) fn evidence() -> Option<Evidence> {
    let evidence = SHARED.share().evidence;
    evidence?.restore()
}

/// What the keeper said last.
pub(crate) fn published() -> Published {
    SHARED.share().published
}

/// Whether the server has been a standby since it started.
pub(crate) fn was_standby() -> bool {
    SHARED.share().was_standby
}

/// Hands the story of the promotion to the recorder.
pub(crate) fn tell_story(story: SharedStory) {
    SHARED.exclusive().story = Some(story);
}

/// Forgets the story: the promotion did not come about.
pub(crate) fn take_back_story() {
    SHARED.exclusive().story = None;
}

/// The story of the promotion, if pg_keeper made one since the server started.
pub(crate) fn story() -> Option<SharedStory> {
    SHARED.share().story
}

/// Hands the outcome of after_command to the recorder.
pub(crate) fn tell_outcome(outcome: &CommandOutcome) {
    SHARED.exclusive().outcome = Some(Text::new(&outcome.to_string()));
}

/// The outcome of after_command, once it has one.
pub(crate) fn outcome() -> Option<String> {
    SHARED.share().outcome.map(|outcome| outcome.as_str().to_owned())
}

/// Says that the timeline has its row.
pub(crate) fn tell_recorded(timeline: u32) {
    SHARED.exclusive().recorded = timeline;
}

/// The timeline that has its row, 0 for none.
pub(crate) fn recorded() -> u32 {
    SHARED.share().recorded
}

/// Now, on CLOCK_BOOTTIME.
pub(crate) fn now() -> Moment {
    let mut time = nix::libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: fills the structure that is given. It cannot fail: the clock is there on every Linux since 2.6.39. From
    // the C library and not from a crate of ours, as every commit comes by.
    unsafe { nix::libc::clock_gettime(nix::libc::CLOCK_BOOTTIME, &raw mut time) };
    let positive = |part: i64| u64::try_from(part).unwrap_or(0);
    Moment::from_micros(positive(time.tv_sec) * 1_000_000 + positive(time.tv_nsec) / 1000)
}

fn random() -> u64 {
    let mut bytes = [0_u8; 8];
    // SAFETY: the buffer has the length that is given.
    let filled = unsafe { pg_sys::pg_strong_random(bytes.as_mut_ptr().cast(), bytes.len()) };
    if filled { u64::from_ne_bytes(bytes) } else { now().as_micros() }
}

/// The show hook of `pg_keeper.report`. It answers with nothing where shared memory cannot be reached: in the postmaster itself.
#[pg_guard]
pub(crate) extern "C-unwind" fn show_report() -> *const c_char {
    thread_local! {
        // The caller copies the text before anything else runs in this process.
        static SHOWN: RefCell<CString> = RefCell::default();
    }
    // SAFETY: both are set before any backend code runs, and are only read.
    let in_backend = unsafe { pg_sys::IsUnderPostmaster && !pg_sys::MyProc.is_null() };
    let text = if in_backend { report() } else { String::new() };
    SHOWN.with_borrow_mut(|shown| {
        *shown = CString::new(text).unwrap_or_default();
        shown.as_ptr()
    })
}

/// The report of this moment; empty while no keeper has spoken.
fn report() -> String {
    // In the order in which one who asks for both hears them.
    let identity = observe::identity();
    walsender::serve_keeper();
    let published = published();
    let at_answer = gate::at_answer(identity);
    match published.report.as_str() {
        "" => String::new(),
        text => Report::at_answer(text, at_answer),
    }
}
