//! What the partner's answer says: whose standby it is, and which of two primaries is superseded.

use super::{CLOCK_RATE, Gate, GateKind, STOPPED_KEEPER};
use crate::arming::NotArmed;
use crate::event::{Action, Level, Notice, Observation};
use crate::fence::Fence;
use crate::history::{Branch, Switch};
use crate::node::Node;
use crate::report::{Answer, Role};
use crate::settings::Settings;
use crate::status::PartnerState;
use crate::time::Moment;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::time::Duration;

/// What the partner is to a primary, by its answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Standing {
    /// A standby that has nothing that we lack, and will not promote itself for so long.
    Follows { promise: Duration },
    /// A standby of ours that promises nothing: it is about to promote itself.
    Promoting,
    /// A standby of ours whose keeper has stopped.
    Stopped,
    /// A primary whose history left ours: it is the active one.
    Supersedes(Switch),
    /// A primary whose history we left: we are the active one.
    Superseded { takes_writes: bool },
    /// It is neither ours nor behind, and we are not superseded; the sentence says what it is.
    Conflict(String),
}

impl Node {
    pub(super) fn judge(
        &mut self,
        now: Moment,
        sent: Moment,
        observation: &Observation,
        settings: &Settings,
        actions: &mut Vec<Action>,
    ) {
        let Some(answer) = &self.partner.answer else { return };
        let standing = self.standing(observation, answer);
        let open = self.is_open_and_unheld();
        let gatekeeper = &mut self.gatekeeper;
        let valid = matches!(gatekeeper.gate, Gate::Open { until } if now < until);
        match standing {
            Standing::Supersedes(left) if !gatekeeper.is_lifted(left) => {
                let fence =
                    Fence { left, by: answer.report.node_name.clone(), by_timeline: answer.timeline, lifted: false };
                actions.push(Action::Log(Notice {
                    level: Level::Warning,
                    message: format!("fencing this server: {fence}"),
                    detail: "It is superseded: it takes no more writes, and its clients are sent away.".to_string(),
                    hint:
                        "SELECT pg_keeper.rejoin_plan() prints the commands that make it a standby of the new primary."
                            .to_string(),
                }));
                gatekeeper.fence = Some(fence);
                gatekeeper.unkept = Some(now);
                gatekeeper.not_kept.clear();
                gatekeeper.gate = Gate::Fenced;
            }
            Standing::Follows { promise } => {
                let until = sent + (promise - promise / CLOCK_RATE);
                // An answer that lay unread while this server stood still promises nothing any more.
                if until > now {
                    let why = format!("{} is its standby", answer.report.node_name);
                    gatekeeper.tell_opening(&why, actions);
                    gatekeeper.open(until);
                }
            }
            Standing::Superseded { takes_writes: false } => {
                let why = format!("the former primary {} takes none", answer.report.node_name);
                gatekeeper.tell_opening(&why, actions);
                gatekeeper.open_alone(sent, settings);
            }
            Standing::Stopped | Standing::Supersedes(_) if open => gatekeeper.open_alone(sent, settings),
            // Whoever was open before goes on; whoever is not, or was away, knows no more than before.
            Standing::Conflict(_) | Standing::Superseded { .. } if open && valid => {
                gatekeeper.open_alone(sent, settings)
            }
            Standing::Promoting => {
                gatekeeper.alone = false;
                gatekeeper.obstacle = "the partner is about to promote itself".to_string();
            }
            Standing::Stopped => {
                gatekeeper.obstacle = "the partner is a standby whose keeper has stopped: look at its log".to_string();
            }
            Standing::Superseded { .. } => {
                gatekeeper.obstacle = format!(
                    "the former primary {} still takes writes, until it hears of this server",
                    answer.report.node_name
                );
            }
            Standing::Supersedes(_) => {
                gatekeeper.obstacle = format!(
                    "{} is primary on the newer timeline {}, and an administrator has lifted the fence of this server: stop one of the \
                     two, and rejoin it as standby",
                    answer.report.node_name, answer.timeline
                );
            }
            Standing::Conflict(what) => gatekeeper.obstacle = what,
        }
    }

    pub(crate) fn standing(&self, observation: &Observation, answer: &Answer) -> Standing {
        let ours = observation.end_of_wal();
        if let Some(stranger) = self.stranger(observation, answer) {
            return Standing::Conflict(stranger.to_string());
        }
        let Some(history) = &observation.history else {
            return Standing::Conflict(NotArmed::HistoryUnknown.to_string());
        };
        let name = &answer.report.node_name;
        let branch = history.branch(&answer.history);
        match (answer.report.role, branch) {
            (Role::Primary, Branch::TheyLeft(switch)) => Standing::Supersedes(switch),
            (Role::Primary, Branch::WeLeft(_)) => {
                Standing::Superseded { takes_writes: answer.report.gate == GateKind::Open }
            }
            (Role::Primary, Branch::Same) => Standing::Conflict(format!(
                "{name} is a primary too, on the same timeline {}: stop one of the two, and rejoin it as standby",
                answer.timeline
            )),
            (_, Branch::Apart) => Standing::Conflict(format!(
                "{name} is on another branch of history (timeline {}): rejoin one of the two as standby of the other",
                answer.timeline
            )),
            // Its recovery has ended, and its keeper has not said so yet.
            (Role::Standby, Branch::TheyLeft(_)) => Standing::Promoting,
            (Role::Standby, Branch::Same) if answer.lsn > ours => Standing::Conflict(format!(
                "the standby {name} has WAL up to {}, and this server only up to {ours}: promote it, or make it a standby of this one anew",
                answer.lsn
            )),
            (Role::Standby, Branch::Same | Branch::WeLeft(_)) => match answer.report.promise {
                promise if !promise.is_zero() => Standing::Follows { promise },
                // One that sees us lost may promote itself as soon as it goes on.
                _ if answer.report.keeper_age > STOPPED_KEEPER && answer.report.sight.state != PartnerState::Lost => {
                    Standing::Stopped
                }
                _ => Standing::Promoting,
            },
        }
    }
}
