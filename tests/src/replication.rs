//! How a pair replicates.

use std::fmt;
use std::str::FromStr;

use anyhow::{Result, bail};

/// How the pair replicates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replication {
    /// Asynchronously: what had not been sent is lost with its server.
    Off,
    /// Synchronously, going on alone when the standby is gone.
    Async,
    /// Synchronously, waiting for a standby that is gone.
    Wait,
}

impl Replication {
    /// All.
    pub const ALL: [Self; 3] = [Self::Off, Self::Async, Self::Wait];

    /// `pg_keeper.synchronous_standby_names` and `pg_keeper.on_standby_loss` for it.
    pub fn settings(self) -> [(&'static str, &'static str); 2] {
        let (names, loss) = match self {
            Self::Off => ("", "async"),
            Self::Async => ("*", "async"),
            Self::Wait => ("*", "wait"),
        };
        [("pg_keeper.synchronous_standby_names", names), ("pg_keeper.on_standby_loss", loss)]
    }
}

impl fmt::Display for Replication {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.pad(match self {
            Self::Off => "off",
            Self::Async => "async",
            Self::Wait => "wait",
        })
    }
}

impl FromStr for Replication {
    type Err = anyhow::Error;

    fn from_str(word: &str) -> Result<Self> {
        Ok(match word {
            "off" => Self::Off,
            "async" => Self::Async,
            "wait" => Self::Wait,
            other => bail!("must be off, async or wait, not {other}"),
        })
    }
}
