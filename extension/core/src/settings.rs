//! The settings that decisions depend on, already checked.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;

/// What an administrator set, in types that hold no bad value. Text that only the shell uses (conninfo, commands, names) stays there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// `pg_keeper.keepalive_time`, never zero.
    pub keepalive_time: Duration,
    /// `pg_keeper.keepalive_count`, never zero.
    pub keepalive_count: u32,
    /// `pg_keeper.fast_failover`
    pub fast_failover: bool,
    /// `pg_keeper.enabled`
    pub enabled: bool,
    /// `pg_keeper.max_lag`, in bytes.
    pub max_lag: u64,
    /// Whether `pg_keeper.before_command` is set.
    pub before_command: bool,
    /// Whether `pg_keeper.after_command` is set.
    pub after_command: bool,
    /// Tells one partner from another: a number that changes whenever `pg_keeper.partner_conninfo` does.
    pub partner_generation: u32,
}

impl Settings {
    /// Bounds of `pg_keeper.keepalive_time`, in seconds. Below the lower one a scheduler's hiccup looks like silence.
    pub const KEEPALIVE_TIME_SECONDS: (f64, f64) = (0.1, 3600.0);
    /// Bounds of `pg_keeper.keepalive_count`.
    pub const KEEPALIVE_COUNT: (i32, i32) = (1, 1000);
    /// Bounds of `pg_keeper.command_timeout`, in seconds.
    pub const COMMAND_TIMEOUT_SECONDS: (f64, f64) = (0.1, 86_400.0);

    /// The longest silence before the partner is lost.
    pub fn window(&self) -> Duration {
        self.keepalive_time.saturating_mul(self.keepalive_count)
    }

    /// The time an attempt has to be answered: half of `keepalive_time`.
    pub fn limit(&self) -> Duration {
        self.keepalive_time / 2
    }
}

/// Why the keeper decides nothing at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Inert {
    /// `pg_keeper.partner_conninfo` is empty.
    NoPartner,
    /// These settings held a value that was not accepted; each is a sentence that says what is allowed.
    BadSettings(Vec<String>),
}

impl fmt::Display for Inert {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Inert::NoPartner => f.write_str(
                "pg_keeper.partner_conninfo is not set: set it to how this server reaches its partner, for example \
                 'host=10.0.0.12 port=5432', and reload",
            ),
            Inert::BadSettings(problems) => {
                f.write_str("settings are not accepted: ")?;
                for (index, problem) in problems.iter().enumerate() {
                    let separator = if index == 0 { "" } else { "; " };
                    write!(f, "{separator}{problem}")?;
                }
                f.write_str("; correct them and reload")
            }
        }
    }
}
