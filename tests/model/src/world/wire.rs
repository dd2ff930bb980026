//! Keepalives on their way: a keeper asks, the partner's WAL sender answers from shared memory, whatever its keeper does meanwhile.
//!
//! A question and its answer travel over one connection. So none overtakes another and none comes twice, and whoever closes the connection
//! hears no more of it: what a network can do to them is to lose them, to hold them up, and to cut the connection.

use super::clock::Micros;
use super::server::{Life, Who};
use super::{Fate, World};
use crate::scenario::Scenario;
use keeper_core::{Answer, Event, Reply, Report, Stage, SystemIdentifier};
use std::sync::Arc;
use std::time::Duration;

/// The cluster of both servers.
pub(super) const SYSTEM: SystemIdentifier = SystemIdentifier(7);

/// A keeper's connection to its partner.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Call {
    /// The start of the partner that it leads to, or is about to.
    pub to: Option<u64>,
    /// A keepalive was answered over it.
    pub kept: bool,
    /// What is outstanding.
    pub waits: Waits,
}

/// What a keeper waits for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub enum Waits {
    /// Nothing.
    #[default]
    Nothing,
    /// Its question gets there at this time.
    Question {
        /// When.
        arrives: Micros,
        /// What happens to the answer.
        fate: Fate,
    },
    /// What came back gets here at this time.
    Reply {
        /// When.
        arrives: Micros,
        /// When it was given.
        given: Micros,
        /// What it is.
        reply: Arc<Reply>,
    },
    /// Nothing will come.
    Silence,
}

impl World {
    /// A keeper asks its partner.
    pub(super) fn ask(&mut self, who: Who) {
        let fate = std::mem::take(&mut self.fate);
        let (now, other) = (self.now, who.other());
        let out = self.is_open(who) && fate != Fate::QuestionLost;
        let back = self.is_open(other);
        let there = match &self.server(other).life {
            Life::Killed => Err(true),
            Life::Unplugged => Err(false),
            Life::Up(memory) => Ok(memory.instance),
        };
        let Some(memory) = self.server_mut(who).memory_mut() else { return };
        let call = &mut memory.call;
        call.waits = match there {
            _ if !out || (!back && !call.kept) => Waits::Silence,
            Err(false) => Waits::Silence,
            Err(true) if !back => Waits::Silence,
            Err(true) => Waits::Reply { arrives: now, given: now, reply: Arc::new(refused()) },
            Ok(instance) => {
                if !call.kept {
                    call.to = Some(instance);
                }
                let arrives = if let Fate::QuestionLate(by) = fate { now + by } else { now };
                Waits::Question { arrives, fate }
            }
        };
    }

    /// The partner's WAL sender answers a question that has arrived.
    pub(super) fn answer(&mut self, scenario: &Scenario, asker: Who) -> bool {
        let now = self.now;
        let asked = asker.other();
        let Some(memory) = self.server(asker).memory() else { return false };
        let (fresh, to) = (!memory.call.kept, memory.call.to);
        let asking = memory.instance;
        let Waits::Question { arrives, fate } = memory.call.waits else { return false };
        let Some(partner) = self.server(asked).running() else { return false };
        if arrives > now || to != Some(partner.instance) {
            return false;
        }
        let back = self.is_open(asked) && fate != Fate::AnswerLost;
        let clock = self.server(asked).clock.reads(now);
        let disk = &self.server(asked).disk;
        let promise = partner.offered.since(clock) * if scenario.protections.honest_promise { 1 } else { 2 };
        let permit = partner.permit_end().map_or(Duration::ZERO, |until| until.since(clock));
        let answer = Answer {
            system_identifier: SYSTEM,
            timeline: disk.history.timeline(),
            lsn: disk.lsn(),
            history: disk.history.clone(),
            report: Report {
                promise,
                permit,
                keeper_age: clock.since(partner.spoken),
                ..partner.report.as_ref().clone()
            },
        };
        self.witness.promised(asked, clock + promise, asking);
        if let Some(partner) = self.server_mut(asked).memory_mut() {
            partner.told = Some(clock);
            partner.asked |= fresh;
        }
        let arrives = if let Fate::AnswerLate(by) = fate { now + by } else { now };
        if let Some(memory) = self.server_mut(asker).memory_mut() {
            memory.call.waits = if back {
                Waits::Reply { arrives, given: now, reply: Arc::new(Reply::Complete(answer)) }
            } else {
                Waits::Silence
            };
        }
        true
    }

    /// What a keeper finds in its socket now.
    pub(super) fn receive(&mut self, who: Who) -> Option<Event> {
        if !self.has_received(who) {
            return None;
        }
        let cut = self.is_cut_off(who);
        let memory = self.server_mut(who).memory_mut()?;
        let waits = std::mem::take(&mut memory.call.waits);
        if let Waits::Reply { given, reply, .. } = waits {
            let complete = matches!(*reply, Reply::Complete(_));
            memory.call.kept = complete;
            memory.call.to = memory.call.to.filter(|_| complete);
            let reply = Arc::unwrap_or_clone(reply);
            self.witness.heard(who, given, &reply, &self.servers);
            return Some(Event::KeepaliveEnded(reply));
        }
        let kept = memory.call.kept;
        memory.call = Call::default();
        cut.then(|| if kept { Event::ConnectionLost { farewell: None } } else { Event::KeepaliveEnded(closed()) })
    }

    /// Whether something lies in a keeper's socket.
    pub(super) fn has_received(&self, who: Who) -> bool {
        let Some(memory) = self.server(who).memory() else { return false };
        match &memory.call.waits {
            Waits::Reply { arrives, .. } => *arrives <= self.now,
            Waits::Nothing | Waits::Question { .. } | Waits::Silence => self.is_cut_off(who),
        }
    }

    /// Whether the other end of a keeper's connection is gone, and has said so.
    fn is_cut_off(&self, who: Who) -> bool {
        let other = who.other();
        let Some(to) = self.server(who).memory().and_then(|memory| memory.call.to) else { return false };
        let gone = match &self.server(other).life {
            Life::Killed => true,
            Life::Unplugged => false,
            Life::Up(memory) => memory.instance != to,
        };
        gone && self.is_open(other) && self.is_open(who)
    }
}

fn refused() -> Reply {
    Reply::Transport { stage: Stage::Connecting, message: "Connection refused".into() }
}

fn closed() -> Reply {
    Reply::Transport { stage: Stage::Asking, message: "server closed the connection unexpectedly".into() }
}
