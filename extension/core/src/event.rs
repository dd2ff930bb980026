//! What is fed into a [`crate::Node`] and what comes out of it.

use crate::answer::{Farewell, Reply};
use crate::fence::Fence;
use crate::gate::Gate;
use crate::history::History;
use crate::ident::{Lsn, SystemIdentifier, Timeline};
use crate::promotion::Story;
use crate::settings::{Inert, Settings};
use crate::time::Moment;
use alloc::string::String;

/// The server as the worker sees it, copied once a wake; nothing in the core is asked of the server again.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Observation {
    /// Whether the server is in recovery: a standby, or one that is still becoming a primary.
    pub in_recovery: bool,
    /// Whether `standby.signal` is there: the administrator wants a standby, not a point-in-time recovery.
    pub standby_signal: bool,
    /// The cluster's identity.
    pub system_identifier: SystemIdentifier,
    /// The timeline the server writes (primary), or that it receives or replays (standby); never the control file's, which is stale for
    /// seconds after a promotion.
    pub timeline: Timeline,
    /// The way to that timeline; `None` when its history file cannot be read.
    pub history: Option<History>,
    /// What is on disk: flushed by the server itself (primary) or by its WAL receiver (standby).
    pub received: Lsn,
    /// What has been replayed (standby); the same as `received` on a primary.
    pub replayed: Lsn,
    /// Whether the WAL receiver is streaming.
    pub streaming: bool,
    /// What PostgreSQL's own `synchronous_standby_names` holds.
    pub synchronous_names: SynchronousNames,
    /// Whether commits wait for a synchronous standby: the setting has reached the process that acts on it. Looked at before `received`:
    /// what was acknowledged before it had effect must not lie beyond that.
    pub synchronous_in_effect: bool,
    /// When a partner's keeper was last told our report.
    pub told_partner: Option<Moment>,
    /// The timeline whose row the recorder has seen in failover_log.
    pub recorded: Option<Timeline>,
}

/// What PostgreSQL's own `synchronous_standby_names` holds, or is to hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SynchronousNames {
    /// Nothing.
    Empty,
    /// What `pg_keeper.synchronous_standby_names` wishes.
    Wished,
    /// Something else.
    Other,
}

/// Settings that must not be smaller on a standby than on its primary, or promotion ends in FATAL (PostgreSQL, «Hot Standby»).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Parameters {
    /// `max_connections`
    pub max_connections: u32,
    /// `max_worker_processes`
    pub max_worker_processes: u32,
    /// `max_wal_senders`
    pub max_wal_senders: u32,
    /// `max_prepared_transactions`
    pub max_prepared_transactions: u32,
    /// `max_locks_per_transaction`
    pub max_locks_per_transaction: u32,
}

impl Parameters {
    /// The first setting that is smaller here than in `primary`: its name, ours, the primary's.
    pub fn first_smaller(&self, primary: &Parameters) -> Option<(&'static str, u32, u32)> {
        [
            ("max_connections", self.max_connections, primary.max_connections),
            ("max_worker_processes", self.max_worker_processes, primary.max_worker_processes),
            ("max_wal_senders", self.max_wal_senders, primary.max_wal_senders),
            ("max_prepared_transactions", self.max_prepared_transactions, primary.max_prepared_transactions),
            ("max_locks_per_transaction", self.max_locks_per_transaction, primary.max_locks_per_transaction),
        ]
        .into_iter()
        .find(|(_, ours, theirs)| ours < theirs)
    }
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Event {
    /// The worker woke, for whatever reason, and looked at the server. Comes after the events of the same wake, so that an answer that
    /// already lies in the socket is never taken for silence.
    Observed(Observation),
    /// Settings were read at start or by a reload; `Err` when the keeper must stay inert with them.
    SettingsRead(Result<Settings, Inert>),
    /// The outstanding keepalive came to its end before its time was over.
    KeepaliveEnded(Reply),
    /// A connection that had already answered was found closed.
    ConnectionLost {
        /// What the partner said before, if it said anything.
        farewell: Option<Farewell>,
    },
    /// A command ended by itself or was killed at its time limit.
    CommandEnded(Command, CommandOutcome),
    /// The server refused the request to promote; the text is its error.
    PromotionRefused(String),
    /// A commit found that the permit has ended, and waits for it to be renewed.
    CommitWaits,
    /// Somebody who calls himself the partner's keeper asked for our report over a new connection. That proves nothing.
    AskedByPartner,
    /// An administrator asks to open this server, whatever its keeper knows.
    LiftRequested,
    /// The fence could not be written; the text is the operating system's error.
    FenceNotKept(String),
    /// PostgreSQL's `synchronous_standby_names` could not be set; the text is the server's error.
    SynchronousNamesNotSet(String),
}

/// A command of the administrator's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Command {
    /// `pg_keeper.before_command`
    Before,
    /// `pg_keeper.after_command`
    After,
}

impl Command {
    /// The setting that holds the command.
    pub fn setting(self) -> &'static str {
        match self {
            Command::Before => "pg_keeper.before_command",
            Command::After => "pg_keeper.after_command",
        }
    }
}

/// How a command ended.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum CommandOutcome {
    /// It exited with this code.
    Exited(i32),
    /// A signal ended it.
    Signalled(i32),
    /// It was killed at its time limit.
    TimedOut,
    /// It could not be started; the text is the operating system's error.
    NotStarted(String),
}

impl core::fmt::Display for CommandOutcome {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            CommandOutcome::Exited(code) => write!(f, "exited with code {code}"),
            CommandOutcome::Signalled(signal) => write!(f, "was ended by signal {signal}"),
            CommandOutcome::TimedOut => f.write_str("was killed at its time limit (pg_keeper.command_timeout)"),
            CommandOutcome::NotStarted(error) => write!(f, "could not be started: {error}"),
        }
    }
}

/// What must be done, in the order of the list.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Action {
    /// Ask the partner, on the open connection if there is one, else over a new one. Whatever comes of it is a
    /// [`Event::KeepaliveEnded`] or [`Event::ConnectionLost`]; silence is the node's to notice.
    SendKeepalive,
    /// Set PostgreSQL's `synchronous_standby_names` by ALTER SYSTEM and reload. That it took effect is seen in an [`Observation`].
    SetSynchronousStandbyNames(SynchronousNames),
    /// Let the hooks obey this from now on.
    SetGate(Gate),
    /// Write the fence to disk, durably, in place of what is there.
    KeepFence(Fence),
    /// Give the file of the fence another name: it cannot be believed, and it is not ours to delete.
    SetFenceAside,
    /// End the sessions of all clients that the fence keeps out. Comes again with every look while the fence stands, for sessions that began
    /// at the moment it rose; ahead of [`Action::KeepFence`], so that a disk that is full keeps nobody in.
    EndClients,
    /// Close the connection and forget the outstanding keepalive: its time is over, or whom to ask has changed.
    CloseConnection,
    /// Start the command; the worker kills it when it has run for `pg_keeper.command_timeout`.
    RunCommand(Command),
    /// Hand the story of the promotion to the recorder. Comes before [`Action::Promote`], because the recorder starts by itself the moment
    /// recovery ends.
    TellRecorder(Story),
    /// The server refused to promote: a later promotion by hand has another story.
    TakeBackStory,
    /// Ask the server to promote, without waiting. That it did is seen in an [`Observation`].
    Promote,
    /// Put the outcome of after_command where the recorder adds it to the row.
    TellCommandOutcome(CommandOutcome),
    /// Write to the server's log.
    Log(Notice),
}

/// A message for the server's log, in PostgreSQL's style.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Notice {
    /// How grave it is.
    pub level: Level,
    /// What happened: no capital letter, no full stop.
    pub message: String,
    /// More of what is known: whole sentences; may be empty.
    pub detail: String,
    /// What to do: whole sentences; may be empty.
    pub hint: String,
}

/// The gravity of a [`Notice`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Level {
    /// LOG: an administrator wants to know later.
    Log,
    /// WARNING: an administrator wants to know now.
    Warning,
}

/// An instant that must not pass unnoticed, or none.
pub(crate) fn earliest(deadlines: impl IntoIterator<Item = Option<Moment>>) -> Option<Moment> {
    deadlines.into_iter().flatten().min()
}
