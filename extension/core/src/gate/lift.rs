//! What an administrator says to a closed gate, and what the disk says to a fence.

use super::Gate;
use crate::event::{Action, Level, Notice};
use crate::fence::FENCE_FILE;
use crate::node::Node;
use crate::report::Role;
use crate::time::Moment;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::time::Duration;

/// The time between two attempts to write the fence to a disk that does not take it.
const KEEP_AGAIN: Duration = Duration::from_secs(1);

impl Node {
    /// An administrator answers for it that this server is the active one.
    pub(crate) fn lift(&mut self, now: Moment, actions: &mut Vec<Action>) {
        if self.role() != Some(Role::Primary) {
            return;
        }
        let (closed, waits) = (self.closed_because(), self.commits_wait());
        let gatekeeper = &mut self.gatekeeper;
        let what = match (&mut gatekeeper.fence, gatekeeper.damaged.take(), gatekeeper.gate, waits) {
            (Some(fence), _, Gate::Fenced, _) => {
                fence.lifted = true;
                gatekeeper.unkept = Some(now);
                gatekeeper.not_kept.clear();
                format!("an administrator lifted the fence of this server, although {fence}")
            }
            (None, _, Gate::Fenced, _) => "an administrator lifted the fence of this server".to_string(),
            (_, Some(damage), ..) => {
                actions.push(Action::SetFenceAside);
                format!("an administrator opened this server, whose fence file cannot be believed: {damage}")
            }
            (_, None, Gate::Closed, _) => {
                format!("an administrator opened this server, although {closed}")
            }
            (_, None, Gate::Open { .. }, Some(waits)) => {
                format!("an administrator opened this server, although {waits}")
            }
            (_, None, Gate::Open { .. }, None) => return,
        };
        match &self.settings {
            Ok(settings) if settings.enabled => gatekeeper.open_alone(now, settings),
            Ok(_) | Err(_) => gatekeeper.open_for_good(),
        }
        actions.push(Action::SetGate(gatekeeper.gate));
        actions.push(Action::Log(Notice {
            level: Level::Warning,
            message: what,
            detail: "It takes writes from now on.".to_string(),
            hint: String::new(),
        }));
    }

    /// The fence could not be written: what was decided holds in memory, and is written a little later.
    pub(crate) fn keep_fence_again(&mut self, now: Moment, error: &str, actions: &mut Vec<Action>) {
        let Some(fence) = &self.gatekeeper.fence else { return };
        let hint = if fence.lifted {
            "This server takes writes all the same, and it is tried again; a restart before that brings the fence back."
        } else {
            "The fence holds until this server stops, and it is tried again; do not restart this server before that."
        };
        self.gatekeeper.unkept = Some(now + KEEP_AGAIN);
        // Said once, not at each attempt.
        if core::mem::replace(&mut self.gatekeeper.not_kept, error.to_string()) != error {
            actions.push(Action::Log(Notice {
                level: Level::Warning,
                message: format!("the file {FENCE_FILE} could not be written"),
                detail: format!("The operating system said: {error}."),
                hint: hint.to_string(),
            }));
        }
    }
}
