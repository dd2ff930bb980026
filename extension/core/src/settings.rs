//! The settings that decisions depend on, already checked.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;

/// What an administrator set, in types that hold no bad value. Text that only the shell uses (conninfo, commands, names) stays there.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
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
    /// `pg_keeper.command_timeout` while `pg_keeper.before_command` is set, else zero.
    pub before_command_limit: Duration,
    /// `pg_keeper.on_unknown_partner`
    pub on_unknown_partner: OnUnknownPartner,
    /// Whether `pg_keeper.synchronous_standby_names` is set.
    pub synchronous: bool,
    /// `pg_keeper.on_standby_loss`
    pub on_standby_loss: OnStandbyLoss,
    /// Tells one partner from another: a number that changes whenever `pg_keeper.partner_conninfo` does.
    pub partner_generation: u32,
}

/// `pg_keeper.on_unknown_partner`: what a server does that starts as primary and cannot ask its partner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OnUnknownPartner {
    /// It opens after a whole window of silence.
    Open,
    /// It waits for an administrator.
    Wait,
}

/// `pg_keeper.on_standby_loss`: what a primary does whose synchronous standby is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OnStandbyLoss {
    /// It goes on alone, asynchronously.
    Async,
    /// Its commits wait.
    Wait,
}

impl OnStandbyLoss {
    /// The policy as the setting and the report spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            OnStandbyLoss::Async => "async",
            OnStandbyLoss::Wait => "wait",
        }
    }

    /// The policy that [`OnStandbyLoss::as_str`] wrote.
    pub fn parse(text: &str) -> Option<OnStandbyLoss> {
        [Self::Async, Self::Wait].into_iter().find(|policy| policy.as_str() == text)
    }
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

    /// A synchronous standby with these settings that may be dropped has promoted itself so long after its primary's last answer, or does so no
    /// more without hearing it again: the window, one keepalive that its own stall made void, and the time that before_command may take.
    pub fn promotion_limit(&self) -> Duration {
        Self::promotion_limit_of(self.keepalive_time, self.keepalive_count, self.before_command_limit)
    }

    /// [`Settings::promotion_limit`] of another server's settings.
    pub fn promotion_limit_of(keepalive_time: Duration, keepalive_count: u32, before_command: Duration) -> Duration {
        keepalive_time.saturating_mul(keepalive_count.saturating_add(1)) + before_command
    }

    /// The time an attempt has to be answered: half of `keepalive_time`.
    pub fn limit(&self) -> Duration {
        self.keepalive_time / 2
    }
}

/// Why the keeper decides nothing at all.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
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
