//! When keepalives go out, when one has failed, and when the partner is lost.
//!
//! With *s0* the sending of the last answered keepalive and *limit* half of `keepalive_time`, attempt *k* is sent at *s0 + k·time − limit*
//! and has failed when it is unanswered just before *s0 + k·time*, or sooner if refused. So the partner is lost not before *(count − 1)·time*
//! after its last answer and never later than *count·time*, in whatever way it fails.
//!
//! An attempt during which this worker itself stalled is void and repeated, a bounded number of times in one silence: our own stall must
//! not look like the partner's silence, nor put the decision off for ever.

use crate::answer::Miss;
use crate::event::earliest;
use crate::settings::Settings;
use crate::time::Moment;
use core::time::Duration;

/// The time between two probes of a partner whose connection was reset (`pg_keeper.fast_failover`): long enough for a listening socket to
/// come back where only the connection was cut, short enough not to be felt.
const PROBE_INTERVAL: Duration = Duration::from_millis(20);

/// An attempt is given up by this part of `keepalive_time` early, so that the worker, which wakes a little late, is within the bound.
const MARGIN: u32 = 50;

/// A worker that wakes later than this part of an attempt's limit has stalled. Smaller, and a busy machine makes every attempt void;
/// larger, and an answer that came while the worker stood still is taken for silence.
const STALL: u32 = 5;

/// The part of an attempt's limit that lies at least between two keepalives, however urgently an answer is wanted.
const HASTE: u32 = 8;

/// And no more than this, however long `keepalive_time` is.
const LONGEST_HASTE: Duration = Duration::from_millis(100);

/// Void attempts that one silence may hold, at least.
const VOID_ATTEMPTS: u32 = 3;

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Schedule {
    /// *s0*: what silence is counted from.
    silent_since: Moment,
    /// *k*: the attempt that is outstanding or comes next.
    attempt: u32,
    outstanding: Option<Outstanding>,
    missed: u32,
    void: u32,
    /// Set while the partner's host refuses connections after one was reset.
    probing: Option<Probing>,
    /// When the last keepalive was sent.
    last_sent: Option<Moment>,
    /// Somebody waits for an answer: the next keepalive goes out at once.
    hastened: bool,
    /// A lost partner is asked without a pause: nothing more is to be decided by its silence, and much by its return.
    eager: bool,
    /// The WAL receiver is streaming: whatever refuses our connections, the partner's server is not dead.
    streaming: bool,
    /// The wake that was asked for, to notice our own stall by.
    expected: Option<Moment>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Outstanding {
    sent: Moment,
    give_up: Moment,
    /// The worker overslept while this was outstanding.
    stalled: bool,
    /// Sent before its time, so it is no miss if it is refused.
    early: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Probing {
    refused: u32,
    /// Probes that were accepted and cut.
    cut: u32,
    outstanding: bool,
    /// When the next probe is due; `None` while one is outstanding, and when there have been enough.
    next: Option<Moment>,
}

/// What the schedule wants done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Due {
    /// Nothing yet.
    Nothing,
    /// Send a keepalive, closing what is open first when `fresh`.
    Send { fresh: bool },
    /// The outstanding attempt has failed by silence.
    Silence,
    /// The outstanding attempt is over, though the partner was heard in another way: close it, count nothing.
    Stale,
}

impl Schedule {
    /// The first keepalive is due at once.
    pub(crate) fn starting(now: Moment, settings: &Settings) -> Self {
        Schedule {
            silent_since: now - (settings.keepalive_time - settings.limit()),
            attempt: 1,
            outstanding: None,
            missed: 0,
            void: 0,
            probing: None,
            last_sent: None,
            hastened: false,
            eager: false,
            streaming: false,
            expected: None,
        }
    }

    /// Keepalives that went without an answer in a row, probes of a host that refuses connections among them.
    pub(crate) fn missed(&self) -> u32 {
        self.missed.max(self.probing.as_ref().map_or(0, |probing| probing.refused))
    }

    /// Attempts of this silence that our own stall made void.
    pub(crate) fn void(&self) -> u32 {
        self.void
    }

    /// Whether the partner's host has refused connections so often, after one was reset, that its server is known to be dead.
    pub(crate) fn is_proven_dead(&self, settings: &Settings) -> bool {
        !self.streaming && self.probing.as_ref().is_some_and(|probing| probing.refused >= settings.keepalive_count)
    }

    /// Whether the partner is lost.
    pub(crate) fn is_lost(&self, settings: &Settings) -> bool {
        self.is_proven_dead(settings) || self.missed >= settings.keepalive_count
    }

    /// The earliest instant at which a standby acts on its partner's silence, short of a proven death: the attempts that are left are all
    /// refused at once. One whole `keepalive_time` passes in any case, so that with `keepalive_count = 1` too a primary's permit outlasts the
    /// time between two of its questions.
    pub(crate) fn earliest_loss(&self, settings: &Settings) -> Moment {
        let left = settings.keepalive_count.saturating_sub(self.missed);
        let last = self.attempt.saturating_add(left).saturating_sub(1);
        let refused = (settings.keepalive_time.saturating_mul(last)).saturating_sub(settings.limit());
        self.silent_since + refused.max(settings.keepalive_time - settings.keepalive_time / MARGIN)
    }

    /// The time from the sending of an answered keepalive to [`Schedule::earliest_loss`].
    pub(crate) fn patience(settings: &Settings) -> Duration {
        (settings.window() - settings.limit()).max(settings.keepalive_time - settings.keepalive_time / MARGIN)
    }

    /// Somebody waits for an answer. Where one is on its way already, or was asked for a moment ago, that is it.
    pub(crate) fn hasten(&mut self, now: Moment, settings: &Settings) {
        let pause = (settings.limit() / HASTE).min(LONGEST_HASTE);
        self.hastened = self.outstanding.is_none() && self.last_sent.is_none_or(|sent| now >= sent + pause);
    }

    /// Whether a lost partner is asked without a pause.
    pub(crate) fn be_eager(&mut self, eager: bool) {
        self.eager = eager;
    }

    /// Whether the WAL receiver is streaming now. That of a primary whose postmaster was killed ends within milliseconds.
    pub(crate) fn streaming(&mut self, streaming: bool) {
        self.streaming = streaming;
    }

    /// `keepalive_time` has changed: an attempt is due at once, and what was missed stays missed.
    pub(crate) fn rebase(&mut self, now: Moment, settings: &Settings) {
        if self.outstanding.is_none() {
            self.attempt = 1;
            self.make_due_at(now, settings);
        }
    }

    /// Comes first in every step: notices that the worker woke later than it asked to, and moves the schedule by as much, so that what
    /// follows has its whole time. Says whether it did.
    pub(crate) fn woke(&mut self, now: Moment, settings: &Settings) -> bool {
        let Some(expected) = self.expected.take() else { return false };
        let late = now.since(expected);
        if late <= settings.limit() / STALL {
            return false;
        }
        self.silent_since = self.silent_since + late;
        self.last_sent = self.last_sent.map(|last_sent| last_sent + late);
        // What was proven before we stood still is proven no more: the partner may have come back meanwhile.
        self.probing = None;
        if self.missed >= settings.keepalive_count && self.outstanding.is_none() && self.void_and_repeat(now, settings)
        {
            self.missed = settings.keepalive_count - 1;
            self.attempt = settings.keepalive_count;
            self.make_due_at(now, settings);
        }
        if let Some(outstanding) = &mut self.outstanding {
            outstanding.stalled = true;
        }
        true
    }

    /// A whole window of silence is wanted from now on.
    pub(crate) fn begin_anew(&mut self, now: Moment, settings: &Settings) {
        self.missed = 0;
        self.void = 0;
        self.attempt = 1;
        if self.outstanding.is_none() {
            self.make_due_at(now, settings);
        }
    }

    /// What is due now. Called again until it says [`Due::Nothing`].
    pub(crate) fn due(&mut self, now: Moment, settings: &Settings) -> Due {
        if self.outstanding.as_ref().is_some_and(|outstanding| outstanding.stalled)
            && self.void_and_repeat(now, settings)
        {
            self.outstanding = None;
            return self.send(now, settings, true);
        }
        match &self.outstanding {
            Some(outstanding) if now >= outstanding.give_up => {
                if self.silent_since >= outstanding.sent {
                    self.outstanding = None;
                    return Due::Stale;
                }
                Due::Silence
            }
            Some(_) => Due::Nothing,
            None if self.hastened && self.probing.is_none() => self.send(now, settings, false),
            None if now >= self.send_at(settings) => {
                // A regular attempt takes over from a probe that is under way, and the probing begins anew with it: silence proves nothing, and
                // this one may have been silent. One that waits for its turn goes with it.
                let fresh = self.probing.as_ref().is_some_and(|probing| probing.outstanding);
                if let Some(probing) = &mut self.probing {
                    let refused = if fresh { 0 } else { probing.refused };
                    *probing = Probing { refused, outstanding: true, next: None, ..*probing };
                }
                self.send(now, settings, fresh)
            }
            None => match &mut self.probing {
                Some(probing) if probing.next.is_some_and(|next| now >= next) => {
                    probing.next = None;
                    probing.outstanding = true;
                    Due::Send { fresh: false }
                }
                Some(_) | None => Due::Nothing,
            },
        }
    }

    /// The next instant at which something is due.
    pub(crate) fn next_deadline(&self, settings: &Settings) -> Moment {
        let regular =
            self.outstanding.as_ref().map_or_else(|| self.send_at(settings), |outstanding| outstanding.give_up);
        let probe = self.probing.as_ref().and_then(|probing| probing.next);
        earliest([Some(regular), probe]).unwrap_or(regular)
    }

    /// Ends a step: remembers when the worker is to wake.
    pub(crate) fn sleeps(&mut self, until: Option<Moment>) {
        self.expected = until;
    }

    /// The partner answered. Returns when the keepalive that it answered was sent.
    pub(crate) fn answered(&mut self, now: Moment, settings: &Settings) -> Moment {
        let sent = self.outstanding.as_ref().map_or(now, |outstanding| outstanding.sent);
        // After our own stall the next attempt is due now, not at some instant that passed unseen.
        self.heard(sent.max(now - (settings.keepalive_time - settings.limit())), settings);
        self.outstanding = None;
        self.probing = None;
        sent
    }

    /// The partner was heard, not before `at`. WAL that was under way when it died comes in after that, so this ends no probing that is
    /// under way; it refutes one that had come to its end.
    pub(crate) fn heard(&mut self, at: Moment, settings: &Settings) {
        self.silent_since = self.silent_since.max(at);
        self.attempt = 1;
        self.missed = 0;
        self.void = 0;
        self.probing.take_if(|probing| probing.refused >= settings.keepalive_count);
    }

    /// The attempt or the probe failed. Says when it was sent if that counts as a miss.
    pub(crate) fn failed(&mut self, now: Moment, settings: &Settings, miss: Miss) -> Option<Moment> {
        if let Some(probing) = &mut self.probing {
            probing.outstanding = false;
            match miss {
                Miss::ConnectionRefused => {
                    probing.refused = probing.refused.saturating_add(1);
                    let enough = probing.refused >= settings.keepalive_count;
                    probing.next = (!enough).then_some(now + PROBE_INTERVAL);
                }
                // Accepted by a kernel whose server was just dying: no proof, and no sign of life either.
                Miss::ConnectionLost if probing.cut < settings.keepalive_count => {
                    probing.cut += 1;
                    probing.next = Some(now + PROBE_INTERVAL);
                }
                Miss::ConnectionLost | Miss::Silence | Miss::NotAccepting | Miss::Unreachable => self.probing = None,
            }
        }
        let outstanding = self.outstanding.take()?;
        if outstanding.stalled && self.void_and_repeat(now, settings) {
            return None;
        }
        if outstanding.early && now < self.regular_at(settings) {
            return None;
        }
        self.missed = self.missed.saturating_add(1);
        self.attempt = self.attempt.saturating_add(1);
        Some(outstanding.sent)
    }

    /// Nothing was learnt: the same attempt comes again one `keepalive_time` later.
    pub(crate) fn not_asked(&mut self, now: Moment, settings: &Settings) {
        self.outstanding = None;
        self.probing = None;
        self.make_due_at(now + settings.keepalive_time, settings);
    }

    /// The open connection broke. Says whether to ask again at once over a fresh one: within the attempt that is outstanding, or as the
    /// first probe of whether the server is dead.
    pub(crate) fn connection_lost(&mut self, probe: bool) -> bool {
        if probe && self.probing.is_none() {
            self.probing = Some(Probing { refused: 0, cut: 0, outstanding: true, next: None });
            return true;
        }
        self.outstanding.is_some()
    }

    /// When attempt *k* is due by the partner's silence.
    fn regular_at(&self, settings: &Settings) -> Moment {
        self.silent_since + (settings.keepalive_time.saturating_mul(self.attempt) - settings.limit())
    }

    /// When the next keepalive goes out. WAL that streams in shows that the partner lives, and tells nothing of what it says of itself; so it
    /// is asked at least once in a `keepalive_time`.
    fn send_at(&self, settings: &Settings) -> Moment {
        let pause = if self.is_eager(settings) { settings.limit() } else { settings.keepalive_time };
        let regular = self.regular_at(settings);
        self.last_sent.map_or(regular, |last_sent| regular.min(last_sent + pause))
    }

    fn is_eager(&self, settings: &Settings) -> bool {
        self.eager && self.missed >= settings.keepalive_count
    }

    fn make_due_at(&mut self, at: Moment, settings: &Settings) {
        self.silent_since = at + settings.limit() - settings.keepalive_time.saturating_mul(self.attempt);
    }

    fn send(&mut self, now: Moment, settings: &Settings, fresh: bool) -> Due {
        let regular = self.silent_since
            + (settings.keepalive_time.saturating_mul(self.attempt) - settings.keepalive_time / MARGIN);
        let give_up = if self.is_eager(settings) { now + settings.limit() } else { regular };
        let early = now < self.regular_at(settings) && !self.is_eager(settings);
        self.outstanding = Some(Outstanding { sent: now, give_up, stalled: false, early });
        self.last_sent = Some(now);
        self.hastened = false;
        Due::Send { fresh }
    }

    /// Makes the same attempt due at once, unless this silence has had its share of void ones.
    fn void_and_repeat(&mut self, now: Moment, settings: &Settings) -> bool {
        if self.void >= settings.keepalive_count.max(VOID_ATTEMPTS) {
            return false;
        }
        self.void += 1;
        self.make_due_at(now, settings);
        true
    }
}
