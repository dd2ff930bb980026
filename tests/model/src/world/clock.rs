//! True time, which no server knows, and each server's clock.

use keeper_core::Moment;

/// True time since the world began, in microseconds.
pub type Micros = u64;

/// What a clock reads when the world begins: a schedule that reaches back before the start must not wrap.
const EPOCH: Micros = 1_000_000_000;

/// A machine's clock. It goes on whatever happens to the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Clock {
    /// How much it gains, in thousandths; negative for one that loses.
    pub gains: i8,
}

impl Clock {
    fn rate(self) -> u64 {
        1000_u64.saturating_add_signed(i64::from(self.gains))
    }

    /// What it reads at that time.
    pub fn reads(self, at: Micros) -> Moment {
        Moment::from_micros(EPOCH + at * self.rate() / 1000)
    }

    /// The first instant at which it reads that, or more.
    pub fn when(self, reads: Moment) -> Micros {
        (reads.as_micros().saturating_sub(EPOCH)).saturating_mul(1000).div_ceil(self.rate())
    }
}
