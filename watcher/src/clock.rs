//! The clock of everything that waits: it runs while the machine is suspended, and is one for all processes.
//!
//! The runtime's own timers stand still while a virtual machine is suspended. What they wait for would then be late by as
//! much as was left, and an answer from before the suspension would be waited for.

use std::future::Future;
use std::time::{Duration, SystemTime};

use nix::time::{ClockId, clock_gettime};
use watcher_core::plan::Moment;
use watcher_core::wall_clock::Now;

/// The longest that the runtime's timer, which may stand still, is trusted with: after a suspension everything that is due
/// happens within this time.
const STEP: Duration = Duration::from_millis(500);

/// Now.
pub(crate) fn now() -> Moment {
    // The clock exists on every Linux that this program runs on; without it, every retry is due at once.
    let Ok(time) = clock_gettime(ClockId::CLOCK_BOOTTIME) else {
        return Moment(0);
    };
    let milliseconds = time.tv_sec() * 1000 + time.tv_nsec() / 1_000_000;
    Moment(u64::try_from(milliseconds).unwrap_or(0))
}

/// Now, on this clock and on the wall.
pub(crate) fn both() -> Now {
    Now { moment: now(), wall: wall(SystemTime::now()) }
}

/// A time of the wall clock, in milliseconds since 1970.
pub(crate) fn wall(time: SystemTime) -> i64 {
    let milliseconds = |duration: Duration| i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
    match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(after) => milliseconds(after),
        Err(before) => -milliseconds(before.duration()),
    }
}

/// Returns at a moment, or soon after the machine runs again if it was suspended then.
pub(crate) async fn sleep_until(moment: Moment) {
    while let Some(step) = step(now(), moment) {
        tokio::time::sleep(step).await;
    }
}

/// The next piece of a wait; nothing when it is over.
fn step(now: Moment, end: Moment) -> Option<Duration> {
    (now < end).then(|| end.since(now).min(STEP))
}

/// Returns after a time.
pub(crate) async fn sleep(time: Duration) {
    sleep_until(now().after(time)).await;
}

/// What a future yields, or nothing if it takes longer.
pub(crate) async fn within<T>(limit: Duration, future: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        biased;
        outcome = future => Some(outcome),
        () = sleep(limit) => None,
    }
}

/// What tells one start of the machine from another.
pub(crate) fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").map(|text| text.trim().to_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_over_when_the_machine_wakes_up_after_its_end() {
        let begun = Moment(1_000);
        let end = begun.after(Duration::from_secs(300));
        assert_eq!(step(begun, end), Some(STEP));
        // An hour later by this clock, half a second later by the runtime's.
        assert_eq!(step(begun.after(Duration::from_secs(3600)), end), None);
        assert_eq!(step(end, end), None);
        assert_eq!(step(Moment(end.0 - 7), end), Some(Duration::from_millis(7)));
    }

    #[tokio::test]
    async fn a_moment_is_waited_for_and_one_that_has_passed_is_not() {
        let begun = now();
        sleep(Duration::from_millis(20)).await;
        assert!(now().since(begun) >= Duration::from_millis(20));
        sleep_until(begun).await;
        assert_eq!(within(Duration::from_secs(60), async { 1 }).await, Some(1));
        assert_eq!(within(Duration::from_millis(1), std::future::pending::<()>()).await, None);
    }
}
