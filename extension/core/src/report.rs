//! What a node says of itself, and the whole of an answer.
//!
//! The extension shows a [`Report`] as the read-only setting `pg_keeper.report`, which the partner asks for with `SHOW`. It is one line of
//! `key=value` words. A reader passes over keys that it does not know and has a default for all but the first three, so that a pair whose
//! nodes run different versions goes on working. With the [`Identity`] in it, it is the whole answer of most keepalives.

use crate::event::Parameters;
use crate::gate::GateKind;
use crate::history::{History, Relation};
use crate::ident::{Lsn, SystemIdentifier, Timeline};
use crate::settings::OnStandbyLoss;
use crate::status::PartnerState;
use crate::version::Version;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
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
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
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
    /// Whether it takes writes (primary).
    pub gate: GateKind,
    /// `pg_keeper.command_timeout` while it has a before_command, else zero.
    pub before_command_limit: Duration,
    /// What it says of synchronous replication.
    pub synchronous: Synchronous,
    /// Its `pg_keeper.on_standby_loss` while its `pg_keeper.synchronous_standby_names` is set.
    pub on_standby_loss: Option<OnStandbyLoss>,
    /// How long it will not promote itself at least, from the moment of the answer (standby).
    pub promise: Duration,
    /// How long it lets commits pass at least without asking again, from the moment of the answer (primary).
    pub permit: Duration,
    /// How old its keeper's word is.
    pub keeper_age: Duration,
    /// Its version of pg_keeper; the first one does not say which it is.
    pub version: Version,
}

/// What a node says of synchronous replication: a primary whether its standby counts, a standby what it was told last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Synchronous {
    /// It is not pg_keeper's to manage, or nothing was told.
    Unmanaged,
    /// Every acknowledged commit is on the standby, and stays so until the primary says otherwise.
    Counts {
        /// A primary that loses its standby goes on without it (`pg_keeper.on_standby_loss`).
        may_be_dropped: bool,
    },
    /// The standby was dropped, or is about to be: commits after this LSN may not be on it.
    Dropped {
        /// The end of the primary's WAL when it was decided.
        since: Lsn,
    },
}

/// What a node knows of its partner, told to the partner itself.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Sight {
    /// The state.
    pub state: PartnerState,
    /// The SQLSTATE with which the partner refused to answer, empty when it did not.
    pub sqlstate: String,
}

/// Which server answers, and how far it is: what the replication command `IDENTIFY_SYSTEM` says, and since version 0.2.0 the report too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Identity {
    /// The identity of the cluster.
    pub system_identifier: SystemIdentifier,
    /// The timeline that is written (primary) or replayed (standby).
    pub timeline: Timeline,
    /// Flushed up to here.
    pub lsn: Lsn,
}

impl Identity {
    /// The identity in a report's text; `None` where it is not said, as the first version does not.
    pub fn in_report(text: &str) -> Option<Identity> {
        let words: Vec<&str> = value(text, "identity")?.split(',').collect();
        Identity::parse(&words)
    }

    /// Reads the first columns of the answer to `IDENTIFY_SYSTEM`.
    pub fn parse(words: &[impl AsRef<str>]) -> Option<Identity> {
        let [system_identifier, timeline, lsn, ..] = words else { return None };
        Some(Identity {
            system_identifier: SystemIdentifier(system_identifier.as_ref().parse().ok()?),
            timeline: Timeline(timeline.as_ref().parse().ok()?),
            lsn: lsn.as_ref().parse().ok()?,
        })
    }
}

/// A report that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReportError {
    /// A key that every report has is missing or holds no value of its kind.
    #[error("its report has no usable \"{0}\"")]
    Key(&'static str),
}

/// A complete answer to a keepalive.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
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

/// What only the moment of answering knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AtAnswer {
    /// Who answers.
    pub identity: Identity,
    /// [`Report::promise`]
    pub promise: Duration,
    /// [`Report::permit`]
    pub permit: Duration,
    /// [`Report::keeper_age`]
    pub keeper_age: Duration,
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
        write!(f, " gate={}", self.gate.as_str())?;
        write!(f, " before_command_us={}", self.before_command_limit.as_micros())?;
        match self.synchronous {
            Synchronous::Unmanaged => {}
            Synchronous::Counts { may_be_dropped: true } => f.write_str(" sync=counts")?,
            Synchronous::Counts { may_be_dropped: false } => f.write_str(" sync=counts-always")?,
            Synchronous::Dropped { since } => write!(f, " sync=dropped-since:{since}")?,
        }
        if let Some(policy) = self.on_standby_loss {
            write!(f, " on_standby_loss={}", policy.as_str())?;
        }
        write!(f, " version={}", self.version)?;
        f.write_str(&spans([self.promise, self.permit, self.keeper_age]))
    }
}

impl Report {
    /// The report's text with what only the moment of answering knows.
    pub fn at_answer(text: &str, at_answer: AtAnswer) -> String {
        let AtAnswer { identity: Identity { system_identifier, timeline, lsn }, promise, permit, keeper_age } =
            at_answer;
        let lasting = |word: &&str| !SPANS.iter().any(|key| word.starts_with(key));
        let words = text.split(' ').filter(lasting).collect::<Vec<_>>().join(" ");
        format!("{words} identity={system_identifier},{timeline},{lsn}{}", spans([promise, permit, keeper_age]))
    }

    /// Reads what [`Report`]'s `Display` wrote, by this version or another.
    ///
    /// # Errors
    /// The key that is missing or unreadable, of those that every version writes.
    pub fn parse(text: &str) -> Result<Report, ReportError> {
        let value = |key: &str| value(text, key);
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
            gate: value("gate").and_then(GateKind::parse).unwrap_or(GateKind::Open),
            before_command_limit: Duration::from_micros(number("before_command_us").unwrap_or(0)),
            synchronous: value("sync").map(parse_synchronous).unwrap_or(Synchronous::Unmanaged),
            promise: Duration::from_micros(number("promise_us").unwrap_or(0)),
            on_standby_loss: value("on_standby_loss").and_then(OnStandbyLoss::parse),
            permit: Duration::from_micros(number("permit_us").unwrap_or(0)),
            keeper_age: Duration::from_micros(number("keeper_age_us").unwrap_or(0)),
            version: value("version").and_then(Version::parse).unwrap_or(Version::FIRST),
        })
    }
}

/// The value of a key in a report's text.
fn value<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    text.split_whitespace().find_map(|word| word.strip_prefix(key)?.strip_prefix('='))
}

/// The spans that only the moment of answering knows, and a report has in any case.
const SPANS: [&str; 3] = ["promise_us=", "permit_us=", "keeper_age_us="];

fn spans(spans: [Duration; 3]) -> String {
    SPANS.iter().zip(spans).map(|(key, span)| format!(" {key}{}", span.as_micros())).collect()
}

fn on_off(value: bool) -> &'static str {
    if value { "on" } else { "off" }
}

fn parse_synchronous(text: &str) -> Synchronous {
    match (text, text.strip_prefix("dropped-since:").and_then(|lsn| lsn.parse().ok())) {
        (_, Some(since)) => Synchronous::Dropped { since },
        ("counts", None) => Synchronous::Counts { may_be_dropped: true },
        ("counts-always", None) => Synchronous::Counts { may_be_dropped: false },
        (_, None) => Synchronous::Unmanaged,
    }
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
            gate: GateKind::Fenced,
            before_command_limit: Duration::from_secs(30),
            synchronous: Synchronous::Dropped { since: Lsn(0x300_0148) },
            promise: Duration::from_millis(700),
            on_standby_loss: Some(OnStandbyLoss::Wait),
            permit: Duration::from_millis(900),
            keeper_age: Duration::from_micros(3),
            version: Version([0, 2, 0]),
        };
        assert_eq!(Report::parse(&report.to_string()), Ok(report.clone()));
        for may_be_dropped in [false, true] {
            let report = Report { synchronous: Synchronous::Counts { may_be_dropped }, ..report.clone() };
            assert_eq!(Report::parse(&report.to_string()), Ok(report));
        }
        let later = Report { promise: Duration::from_millis(1), keeper_age: Duration::from_secs(9), ..report.clone() };
        let identity =
            Identity { system_identifier: SystemIdentifier(u64::MAX), timeline: Timeline(26), lsn: Lsn(0x1_2000_0148) };
        let Report { promise, permit, keeper_age, .. } = later;
        let text = Report::at_answer(&report.to_string(), AtAnswer { identity, promise, permit, keeper_age });
        assert_eq!(Report::parse(&text), Ok(later));
        assert_eq!(Identity::in_report(&text), Some(identity));
    }

    #[test]
    fn another_versions_report_is_read_as_far_as_it_goes() {
        let report = Report::parse("instance=1 role=primary node=db01 colour=green enabled=maybe").unwrap();
        assert_eq!(report.role, Role::Primary);
        assert!(report.enabled);
        assert_eq!(report.keepalive_count, 0);
        assert_eq!(report.sight.state, PartnerState::Unknown);
        assert_eq!(report.version, Version::FIRST);
        assert_eq!(Identity::in_report("role=primary instance=1 node=db01"), None);
        assert_eq!(Identity::in_report("role=primary identity=7,1"), None);
        assert_eq!(Report::parse("role=primary instance=1 node=db01\nlifted yes").unwrap().node_name, "db01");
        assert_eq!(Report::parse("instance=1 node=db01"), Err(ReportError::Key("role")));
        assert_eq!(Report::parse("role=primary node=db01"), Err(ReportError::Key("instance")));
        assert_eq!(Report::parse("role=primary instance=1"), Err(ReportError::Key("node")));
    }
}
