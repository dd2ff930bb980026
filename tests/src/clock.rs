//! One clock for everything that is compared: CLOCK_REALTIME in microseconds, as PostgreSQL's timestamps are.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// An instant of the machine's real-time clock, in microseconds since 1970.
pub type Micros = i64;

/// The present instant.
pub fn now() -> Micros {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    as_micros(since_epoch)
}

/// A duration in the unit of [`Micros`].
pub fn as_micros(duration: Duration) -> Micros {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

/// The milliseconds from one instant to another.
pub fn milliseconds(from: Micros, to: Micros) -> f64 {
    (to - from) as f64 / 1000.0
}
