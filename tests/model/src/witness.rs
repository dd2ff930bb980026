//! What happened, as somebody sees it who sees everything at once: the properties are said in these words.

use crate::scenario::{Scenario, TIME};
use crate::world::{Acknowledged, Memory, Micros, Record, Server, Who};
use keeper_core::{Branch, Moment, Reply, Role, Synchronous};

/// What has been seen so far.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Witness {
    /// Both servers would have acknowledged a commit at the same instant.
    pub two_open: bool,
    /// A server would have acknowledged a commit while the other one, promoted from its timeline, was there to be asked, and had not been away for
    /// so long that it had to be taken for dead.
    pub superseded_open: bool,
    /// Each server: from when to when it did not run, short breaks aside in which a keepalive need not have met it.
    away: [Option<(Micros, Micros)>; 2],
    /// Each server: it was away for so long that its partner may have taken it for dead.
    missing: [bool; 2],
    /// Each server: its partner told it that it is superseded.
    pub superseded: [bool; 2],
    /// One to which that was told would have acknowledged a commit.
    pub open_though_told: bool,
    /// Each server: what it promised to the start of its partner that has this number.
    promise: [Option<(u64, Moment)>; 2],
    /// A server asked for its promotion before the time that it had promised to a partner that lives.
    pub broke_promise: bool,
    /// Each server: a primary that goes on, since this time, after a pause longer than its partner's window, without having heard of it.
    frozen: [Option<Micros>; 2],
    /// Such a server would have acknowledged a commit.
    pub open_though_frozen: bool,
    /// The writes that clients were told are safe.
    pub acknowledged: Vec<Acknowledged>,
    /// A standby asked for its promotion, lacked a write that a client had been told is safe, and did not know.
    pub promoted_in_error: bool,
}

impl Witness {
    /// A server's WAL sender has promised something.
    pub(crate) fn promised(&mut self, who: Who, until: Moment, to: u64) {
        let promise = &mut self.promise[who as usize];
        let before = promise.filter(|(partner, _)| *partner == to).map_or(Moment::default(), |(_, until)| until);
        *promise = Some((to, before.max(until)));
    }

    /// A server asks for its promotion.
    pub(crate) fn promotes(&mut self, who: Who, clock: Moment, servers: &[Server; 2]) {
        let partner = servers[who.other() as usize].memory().map(|memory| memory.instance);
        let promise = self.promise[who as usize];
        self.broke_promise |= promise.is_some_and(|(to, until)| partner == Some(to) && clock < until);
        let disk = &servers[who as usize].disk;
        let memory = servers[who as usize].memory();
        let counts = |memory: &Memory| matches!(memory.node.report("").synchronous, Synchronous::Counts { .. });
        let lacks = |write: &Acknowledged| !disk.wal.contains(&Record::Write(write.write));
        self.promoted_in_error |= memory.is_some_and(counts) && self.acknowledged.iter().any(lacks);
    }

    /// A server goes on after a pause.
    pub(crate) fn thawed(&mut self, scenario: &Scenario, who: Who, now: Micros, since: Micros, primary: bool) {
        if primary && now - since > scenario.window() {
            self.frozen[who as usize] = Some(now);
        }
    }

    /// A keeper has received what its partner gave at some time.
    pub(crate) fn heard(&mut self, who: Who, given: Micros, reply: &Reply, servers: &[Server; 2]) {
        let Reply::Complete(answer) = reply else { return };
        let frozen = &mut self.frozen[who as usize];
        *frozen = frozen.filter(|since| given < *since);
        let disk = &servers[who as usize].disk;
        let left = matches!(disk.history.branch(&answer.history), Branch::TheyLeft(_));
        self.superseded[who as usize] |= !disk.standby && answer.report.role == Role::Primary && left;
    }

    /// Looks at everything.
    pub(crate) fn looks(&mut self, scenario: &Scenario, now: Micros, open: [bool; 2], servers: &[Server; 2]) {
        self.two_open |= open == [true; 2];
        for who in Who::BOTH {
            let away = &mut self.away[who as usize];
            *away = away.filter(|(_, until)| now < until + TIME);
            if servers[who as usize].running().is_none() {
                *away = Some((away.map_or(now, |(since, _)| since), now));
            }
            self.missing[who as usize] |=
                away.is_some_and(|(since, until)| until - since >= scenario.earliest_loss() * 499 / 500);
        }
        for who in Who::BOTH {
            let frozen = &mut self.frozen[who as usize];
            *frozen = frozen.filter(|since| now < since + scenario.earliest_loss() * 499 / 500);
            if !open[who as usize] {
                continue;
            }
            let other = &servers[who.other() as usize];
            let there = !other.disk.standby && other.running().is_some();
            let left = || matches!(servers[who as usize].disk.history.branch(&other.disk.history), Branch::TheyLeft(_));
            self.superseded_open |= there && left() && !self.missing[who.other() as usize];
            self.open_though_told |= self.superseded[who as usize];
            self.open_though_frozen |= self.frozen[who as usize].is_some();
        }
    }

    /// The writes that clients were told are safe, and that a server lacks which was promoted.
    pub fn lost<'a>(&'a self, servers: &'a [Server; 2]) -> impl Iterator<Item = Acknowledged> + 'a {
        self.acknowledged.iter().copied().filter(|write| {
            let wal = &servers[write.by.other() as usize].disk.wal;
            wal.contains(&Record::Promoted(write.by.other())) && !wal.contains(&Record::Write(write.write))
        })
    }
}
