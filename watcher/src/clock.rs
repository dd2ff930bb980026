//! The clock for moments that are written to disk: it runs through sleep and is one for all processes.

use nix::time::{ClockId, clock_gettime};
use watcher_core::plan::Moment;

/// Now.
pub(crate) fn now() -> Moment {
    // The clock exists on every Linux that this program runs on; without it, every retry is due at once.
    let Ok(time) = clock_gettime(ClockId::CLOCK_BOOTTIME) else {
        return Moment(0);
    };
    let milliseconds = time.tv_sec() * 1000 + time.tv_nsec() / 1_000_000;
    Moment(u64::try_from(milliseconds).unwrap_or(0))
}

/// What tells one start of the machine from another.
pub(crate) fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").map(|text| text.trim().to_owned()).unwrap_or_default()
}
