//! What can befall a server.

use std::fmt;
use std::str::FromStr;

use anyhow::{Context, Result, bail};

use crate::node::Node;
use crate::pair::Pair;

/// A way in which the primary of a pair goes away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// SIGKILL to the postmaster; its children go down by themselves.
    KillPostmaster,
    /// SIGKILL to every process.
    KillAll,
    /// `pg_ctl stop -m immediate`.
    ImmediateShutdown,
    /// `pg_ctl stop -m fast`, with no start after it.
    FastShutdown,
    /// SIGSTOP to every process: sockets stay open and nobody answers.
    Freeze,
    /// The cable swallows every packet. Only for a pair in network namespaces.
    DropPackets,
}

/// Cuts the keepalives' connections, so that the next keepalive needs a new one.
pub fn cut_keepalives(primary: &Node) -> Result<()> {
    let sql = "select pg_terminate_backend(pid) from pg_stat_activity \
               where backend_type = 'walsender' and application_name <> 'db02'";
    primary.sql("postgres", sql).map(drop)
}

impl Fault {
    /// Every one of them.
    pub const ALL: [Self; 6] = [
        Self::KillPostmaster,
        Self::KillAll,
        Self::ImmediateShutdown,
        Self::FastShutdown,
        Self::Freeze,
        Self::DropPackets,
    ];

    /// Lets it befall the primary.
    pub fn strike(self, pair: &Pair) -> Result<()> {
        self.befall(&pair.primary, pair)
    }

    /// Lets it befall one of the pair's servers.
    pub fn befall(self, node: &Node, pair: &Pair) -> Result<()> {
        match self {
            Self::KillPostmaster => node.kill_postmaster(),
            Self::KillAll => node.kill_all(),
            Self::ImmediateShutdown => node.stop_immediately(),
            Self::FastShutdown => node.stop_fast(),
            Self::Freeze => node.freeze(),
            Self::DropPackets => pair.link().context("a cable to cut")?.drop_packets(),
        }
        .with_context(|| self.to_string())
    }

    /// Whether the partner can prove the death, rather than only hear silence.
    pub fn is_provable(self) -> bool {
        match self {
            Self::KillPostmaster | Self::KillAll | Self::ImmediateShutdown => true,
            // An announced, clean stop is no death.
            Self::FastShutdown | Self::Freeze | Self::DropPackets => false,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::KillPostmaster => "SIGKILL to the primary's postmaster",
            Self::KillAll => "SIGKILL to every process of the primary",
            Self::ImmediateShutdown => "immediate shutdown of the primary",
            Self::FastShutdown => "fast shutdown of the primary",
            Self::Freeze => "SIGSTOP to every process of the primary",
            Self::DropPackets => "every packet between the servers dropped",
        })
    }
}

impl FromStr for Fault {
    type Err = anyhow::Error;

    fn from_str(word: &str) -> Result<Self> {
        Ok(match word {
            "kill" => Self::KillAll,
            "postmaster" => Self::KillPostmaster,
            "immediate" => Self::ImmediateShutdown,
            "fast" => Self::FastShutdown,
            "freeze" => Self::Freeze,
            _ => bail!("must be kill, postmaster, immediate, fast, freeze or return"),
        })
    }
}
