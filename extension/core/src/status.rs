//! What a node tells an administrator.

use crate::ident::{Lsn, Timeline};
use crate::report::{Report, Role};
use crate::time::Moment;
use alloc::string::String;

/// What the node is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// The settings do not let it do anything.
    Inert,
    /// `pg_keeper.enabled` is off here or there: it watches and reports, and decides nothing.
    Disabled,
    /// Nothing has been heard of the partner since the start.
    Starting,
    /// A primary that does not know yet what its partner is: the return guard keeps clients out.
    Guarded,
    /// A superseded primary.
    Fenced,
    /// Keepalives go out and come back.
    Watching,
    /// The partner is lost, and there is nothing for this node to do, or nothing it may do.
    PartnerLost,
    /// before_command is running.
    RunningBeforeCommand,
    /// The server has been asked to promote.
    Promoting,
    /// Promoted; the row in failover_log is awaited.
    Recording,
    /// Recorded; after_command is running.
    RunningAfterCommand,
}

impl State {
    /// The state as the view shows it.
    pub fn as_str(self) -> &'static str {
        match self {
            State::Inert => "inert",
            State::Disabled => "disabled",
            State::Starting => "starting",
            State::Guarded => "guarded",
            State::Fenced => "fenced",
            State::Watching => "watching",
            State::PartnerLost => "partner lost",
            State::RunningBeforeCommand => "running before_command",
            State::Promoting => "promoting",
            State::Recording => "recording",
            State::RunningAfterCommand => "running after_command",
        }
    }
}

/// What is known of the partner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PartnerState {
    /// Nothing yet.
    Unknown,
    /// It answered the last keepalive.
    Alive,
    /// It is there and does not tell.
    Unhelpful,
    /// It could not be asked, by a fault on our side: nothing was learnt.
    NotAsked,
    /// It missed the last keepalive.
    Missed,
    /// It missed them all.
    Lost,
}

impl PartnerState {
    /// The state as the view and the report show it.
    pub fn as_str(self) -> &'static str {
        match self {
            PartnerState::Unknown => "unknown",
            PartnerState::Alive => "alive",
            PartnerState::Unhelpful => "unhelpful",
            PartnerState::NotAsked => "not-asked",
            PartnerState::Missed => "missed",
            PartnerState::Lost => "lost",
        }
    }

    /// The state that [`PartnerState::as_str`] wrote.
    pub fn parse(text: &str) -> Option<PartnerState> {
        [Self::Unknown, Self::Alive, Self::Unhelpful, Self::NotAsked, Self::Missed, Self::Lost]
            .into_iter()
            .find(|state| state.as_str() == text)
    }
}

/// One look at a node.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Status {
    /// What the server is; `None` before the first look.
    pub role: Option<Role>,
    /// What the node is doing.
    pub state: State,
    /// Why, in a sentence; on a standby that would not promote itself, why not and what to do.
    pub reason: String,
    /// The partner's node name, empty while unknown.
    pub partner: String,
    /// What is known of the partner.
    pub partner_state: PartnerState,
    /// What the partner last told of itself.
    pub partner_report: Option<Report>,
    /// Keepalives missed in a row.
    pub keepalives_missed: u32,
    /// When the partner last answered.
    pub last_answer: Option<Moment>,
    /// The server's timeline.
    pub timeline: Timeline,
    /// The end of the server's WAL.
    pub lsn: Lsn,
    /// The partner's timeline, zero while unknown.
    pub partner_timeline: Timeline,
    /// The partner's LSN, zero while unknown.
    pub partner_lsn: Lsn,
    /// Standby: bytes of the primary's last known WAL that have not been received.
    pub lag: Option<u64>,
    /// Whether the standby would promote itself if the partner were lost now.
    pub armed: bool,
    /// Whether this server takes writes, and why not: `none`, or a clause.
    pub fence: String,
    /// The state of synchronous replication.
    pub synchronous: String,
    /// What went wrong with the last keepalive that was not answered, empty if none was.
    pub last_error: String,
    /// The SQLSTATE of a partner that is there and does not tell, empty otherwise.
    pub refused_with: String,
}
