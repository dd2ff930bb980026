//! WAL from the primary to its standby, and the writes of clients.
//!
//! WAL flows at once where it can. A commit waits for the standby while PostgreSQL's `synchronous_standby_names` names it, and is acknowledged
//! the moment it may be: whatever a slower world would lose, this one loses too.

use super::server::{Record, Who};
use super::{Life, World};
use crate::scenario::Scenario;
use keeper_core::{Synchronous, SynchronousNames};

/// A write that a client was told is safe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Acknowledged {
    /// Which.
    pub write: u8,
    /// By whom.
    pub by: Who,
    /// That server said at the time that its standby may lack it.
    pub announced: bool,
}

impl World {
    /// Lets WAL flow, and connects the standby where it is not.
    pub(super) fn replicate(&mut self) {
        for standby in Who::BOTH {
            let primary = standby.other();
            let whole = self.is_open(primary) && self.is_open(standby);
            if !self.server(standby).disk.standby || !whole {
                continue;
            }
            let there = match &self.server(primary).life {
                Life::Killed => None,
                // A receiver learns nothing of it, and goes on waiting.
                Life::Unplugged => continue,
                Life::Up(memory) => Some((memory.instance, memory.paused.is_none())),
            };
            let sends = !self.server(primary).disk.standby;
            let follows = self.server(primary).disk.wal.starts_with(&self.server(standby).disk.wal)
                && self.server(primary).disk.history == self.server(standby).disk.history;
            let Some(memory) = self.server_mut(standby).memory_mut().filter(|memory| memory.paused.is_none()) else {
                continue;
            };
            match (memory.receives_from, there) {
                (Some(from), Some((instance, _))) if from == instance => {}
                (_, Some((instance, true))) if sends && follows => memory.receives_from = Some(instance),
                _ => memory.receives_from = None,
            }
            let flows = memory.receives_from.is_some() && there.is_some_and(|(_, runs)| runs) && follows;
            if flows && self.server(standby).disk.wal.len() < self.server(primary).disk.wal.len() {
                self.server_mut(standby).disk.wal = self.server(primary).disk.wal.clone();
            }
        }
    }

    /// A client's commit is in the WAL, and waits to be acknowledged.
    pub(super) fn write(&mut self, who: Who) {
        self.writes += 1;
        let write = self.writes;
        let server = self.server_mut(who);
        server.disk.wal.push(Record::Write(write));
        if let Some(memory) = server.memory_mut() {
            memory.waiting.push(write);
        }
    }

    /// Acknowledges every commit that waits for nothing any more.
    pub(super) fn acknowledge(&mut self, scenario: &Scenario) {
        for who in Who::BOTH {
            if !self.lets_commit(scenario, who) {
                continue;
            }
            let waits = self.server(who).disk.names == SynchronousNames::Wished;
            if waits && !self.standby_confirms(who) {
                continue;
            }
            let Some(memory) = self.server_mut(who).memory_mut() else { continue };
            if memory.waiting.is_empty() {
                continue;
            }
            let announced = !matches!(memory.report.synchronous, Synchronous::Counts { .. });
            for write in std::mem::take(&mut memory.waiting) {
                self.witness.acknowledged.push(Acknowledged { write, by: who, announced });
            }
        }
    }

    /// Whether the standby is connected and runs, so that all that was written is on it, and said so.
    fn standby_confirms(&self, who: Who) -> bool {
        let instance = self.server(who).memory().map(|memory| memory.instance);
        let standby = self.server(who.other());
        let connected = standby.running().is_some_and(|memory| memory.receives_from == instance);
        connected && self.is_open(who) && self.is_open(who.other()) && standby.disk.wal == self.server(who).disk.wal
    }
}
