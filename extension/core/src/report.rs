//! What a node says of itself, and the whole of an answer.
//!
//! The extension shows a [`Report`] as the read-only setting `pg_keeper.report`, which the partner asks for with `SHOW`. It is one line of
//! `key=value` words. A reader passes over keys that it does not know and has a default for all but the first three, so that a pair whose
//! nodes run different versions goes on working.

use crate::event::Parameters;
use crate::history::{History, Relation};
use crate::ident::{Lsn, SystemIdentifier, Timeline};
use crate::status::PartnerState;
use alloc::string::{String, ToString};
use core::fmt;
use core::time::Duration;

/// What a server is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// Out of recovery: it takes writes.
    Primary,
    /// In recovery.
    Standby,
}

impl Role {
    /// The role as status shows it.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Primary => "primary",
            Role::Standby => "standby",
        }
    }
}

/// What a node says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// What it is.
    pub role: Role,
    /// A number of its own, made anew at each start of its server: who hears his own is talking to himself.
    pub instance: u64,
    /// Its `pg_keeper.node_name`: never empty, no white space.
    pub node_name: String,
    /// Its `pg_keeper.enabled`.
    pub enabled: bool,
    /// Its `pg_keeper.keepalive_time`; zero when it does not say.
    pub keepalive_time: Duration,
    /// Its `pg_keeper.keepalive_count`; zero when it does not say.
    pub keepalive_count: u32,
    /// Settings that its standby must not undercut.
    pub parameters: Parameters,
    /// Whether its WAL receiver is streaming (standby).
    pub streaming: bool,
    /// What it knows of its partner, that is of us.
    pub sight: Sight,
}

/// What a node knows of its partner, told to the partner itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sight {
    /// The state.
    pub state: PartnerState,
    /// The SQLSTATE with which the partner refused to answer, empty when it did not.
    pub sqlstate: String,
}

/// A report that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReportError {
    /// A key that every report has is missing or holds no value of its kind.
    #[error("its report has no usable \"{0}\"")]
    Key(&'static str),
}

/// A complete answer to a keepalive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// `IDENTIFY_SYSTEM`: the identity.
    pub system_identifier: SystemIdentifier,
    /// `IDENTIFY_SYSTEM`: the timeline.
    pub timeline: Timeline,
    /// `IDENTIFY_SYSTEM`: flushed (primary) or replayed (standby) up to here.
    pub lsn: Lsn,
    /// `TIMELINE_HISTORY`; that of a first timeline is empty.
    pub history: History,
    /// The report.
    pub report: Report,
}

impl Answer {
    /// How the partner's history lies to ours, standing at `at`.
    pub fn relation_to(&self, history: &History, at: Lsn) -> Relation {
        history.relation(at, &self.history, self.lsn)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Parameters { max_connections, max_worker_processes, max_wal_senders, .. } = self.parameters;
        let Parameters { max_prepared_transactions, max_locks_per_transaction, .. } = self.parameters;
        write!(f, "role={} instance={:016x} node={}", self.role.as_str(), self.instance, self.node_name)?;
        write!(f, " enabled={}", on_off(self.enabled))?;
        write!(f, " keepalive_time_us={}", self.keepalive_time.as_micros())?;
        write!(f, " keepalive_count={}", self.keepalive_count)?;
        write!(f, " parameters={max_connections},{max_worker_processes},{max_wal_senders},")?;
        write!(f, "{max_prepared_transactions},{max_locks_per_transaction}")?;
        write!(f, " streaming={}", on_off(self.streaming))?;
        write!(f, " sees={}", self.sight.state.as_str())?;
        if !self.sight.sqlstate.is_empty() {
            write!(f, " refused_with={}", self.sight.sqlstate)?;
        }
        Ok(())
    }
}

impl Report {
    /// Reads what [`Report`]'s `Display` wrote, by this version or another.
    ///
    /// # Errors
    /// The key that is missing or unreadable, of those that every version writes.
    pub fn parse(text: &str) -> Result<Report, ReportError> {
        let value = |key: &str| text.split(' ').find_map(|word| word.strip_prefix(key)?.strip_prefix('='));
        let number = |key: &str| value(key).and_then(|digits| digits.parse::<u64>().ok());
        let role = match value("role") {
            Some("primary") => Role::Primary,
            Some("standby") => Role::Standby,
            _ => return Err(ReportError::Key("role")),
        };
        let instance = value("instance").and_then(|digits| u64::from_str_radix(digits, 16).ok());
        let node_name = value("node").filter(|name| !name.is_empty());
        Ok(Report {
            role,
            instance: instance.ok_or(ReportError::Key("instance"))?,
            node_name: node_name.ok_or(ReportError::Key("node"))?.to_string(),
            enabled: value("enabled") != Some("off"),
            keepalive_time: Duration::from_micros(number("keepalive_time_us").unwrap_or(0)),
            keepalive_count: number("keepalive_count").and_then(|count| count.try_into().ok()).unwrap_or(0),
            parameters: value("parameters").map(parse_parameters).unwrap_or_default(),
            streaming: value("streaming") == Some("on"),
            sight: Sight {
                state: value("sees").and_then(PartnerState::parse).unwrap_or(PartnerState::Unknown),
                sqlstate: value("refused_with").unwrap_or_default().to_string(),
            },
        })
    }
}

fn on_off(value: bool) -> &'static str {
    if value { "on" } else { "off" }
}

fn parse_parameters(text: &str) -> Parameters {
    let mut numbers = text.split(',').map(|digits| digits.parse().unwrap_or(0));
    let mut next = || numbers.next().unwrap_or(0);
    Parameters {
        max_connections: next(),
        max_worker_processes: next(),
        max_wal_senders: next(),
        max_prepared_transactions: next(),
        max_locks_per_transaction: next(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_reads_back_as_it_was_written() {
        let report = Report {
            role: Role::Standby,
            instance: 0xfeed,
            node_name: "db02".into(),
            enabled: false,
            keepalive_time: Duration::from_millis(250),
            keepalive_count: 3,
            parameters: Parameters {
                max_connections: 100,
                max_worker_processes: 8,
                max_wal_senders: 10,
                max_prepared_transactions: 0,
                max_locks_per_transaction: 64,
            },
            streaming: true,
            sight: Sight { state: PartnerState::Unhelpful, sqlstate: "28000".into() },
        };
        assert_eq!(Report::parse(&report.to_string()), Ok(report));
    }

    #[test]
    fn another_versions_report_is_read_as_far_as_it_goes() {
        let report = Report::parse("instance=1 role=primary node=db01 colour=green enabled=maybe").unwrap();
        assert_eq!(report.role, Role::Primary);
        assert!(report.enabled);
        assert_eq!(report.keepalive_count, 0);
        assert_eq!(report.sight.state, PartnerState::Unknown);
        assert_eq!(Report::parse("instance=1 node=db01"), Err(ReportError::Key("role")));
        assert_eq!(Report::parse("role=primary node=db01"), Err(ReportError::Key("instance")));
        assert_eq!(Report::parse("role=primary instance=1"), Err(ReportError::Key("node")));
    }
}
