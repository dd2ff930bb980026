//! A promotion on its way: before_command, the request, the row, after_command, in this order.

use crate::ident::Timeline;
use crate::time::Moment;
use alloc::string::String;
use core::time::Duration;

/// How often a promotion under way is looked at.
pub(crate) const LOOK_INTERVAL: Duration = Duration::from_millis(2);
/// How often one that takes long is looked at.
const SLOW_LOOK_INTERVAL: Duration = Duration::from_millis(50);
/// When a promotion counts as taking long. Replay may wait for a process that ignores a barrier, or for a hung restore_command.
pub(crate) const PROMOTION_PATIENCE: Duration = Duration::from_secs(10);
/// How long after_command waits for the row. It runs without it rather than not at all.
pub(crate) const RECORD_PATIENCE: Duration = Duration::from_secs(5);

/// What led to a promotion: the recorder writes it into failover_log.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Story {
    /// The timeline that the server was on before.
    pub from_timeline: Timeline,
    /// When the primary last answered.
    pub last_answer: Option<Moment>,
    /// When it was lost.
    pub detected: Moment,
    /// When recovery was seen to have ended.
    pub promoted: Option<Moment>,
    /// Keepalives that went without an answer in a row.
    pub keepalives_missed: u32,
    /// Attempts that did not count because this worker itself stalled.
    pub attempts_void: u32,
    /// What went wrong with the last attempt.
    pub last_error: String,
}

/// Where the promotion is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Promotion {
    /// None under way.
    None,
    /// before_command runs.
    BeforeCommand(Story),
    /// It did not go ahead; it is tried again at this instant if the partner is still lost.
    PutOff { until: Moment, reason: String },
    /// The server has been asked.
    Asked { story: Story, since: Moment, complained: bool },
    /// The server is a primary; the row is awaited.
    Recording { since: Moment },
    /// after_command runs.
    AfterCommand,
}

impl Promotion {
    pub(crate) fn next_deadline(&self, now: Moment) -> Option<Moment> {
        match self {
            Promotion::None | Promotion::BeforeCommand(_) | Promotion::AfterCommand => None,
            // Once past, the next keepalive that fails brings it up.
            Promotion::PutOff { until, .. } => Some(*until).filter(|until| *until > now),
            Promotion::Asked { since, .. } | Promotion::Recording { since } => {
                let slow = now.since(*since) > Duration::from_secs(1);
                Some(now + if slow { SLOW_LOOK_INTERVAL } else { LOOK_INTERVAL })
            }
        }
    }
}
