//! One server: what lies on its disk, what its memory holds, and what an outage takes from it.

use super::clock::{Clock, Micros};
use super::wire::Call;
use keeper_core::{
    Evidence, Gate, History, Kept, Lsn, Moment, Node, Parameters, Report, Start, Switch, SynchronousNames, Timeline,
};
use std::sync::Arc;

/// One of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Who {
    /// The primary at the beginning.
    Db01,
    /// Its standby at the beginning.
    Db02,
}

impl Who {
    /// Both.
    pub const BOTH: [Who; 2] = [Who::Db01, Who::Db02];

    /// The other one.
    pub fn other(self) -> Who {
        match self {
            Who::Db01 => Who::Db02,
            Who::Db02 => Who::Db01,
        }
    }

    /// Its `pg_keeper.node_name`.
    pub fn name(self) -> &'static str {
        match self {
            Who::Db01 => "db01",
            Who::Db02 => "db02",
        }
    }
}

/// A record of WAL. Each that was ever written differs from every other one, so that two servers' WAL can be compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Record {
    /// A client's write.
    Write(u8),
    /// What a primary writes when it starts.
    Started(Who, u8),
    /// What a standby writes when it is promoted.
    Promoted(Who),
}

/// What outlives every outage.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Disk {
    /// `standby.signal` is there: the server is in recovery.
    pub standby: bool,
    /// The way to its timeline.
    pub history: History,
    /// Its WAL; the LSN is its length.
    pub wal: Vec<Record>,
    /// The file of the fence.
    pub fence: Kept,
    /// PostgreSQL's own `synchronous_standby_names`.
    pub names: SynchronousNames,
}

impl Disk {
    /// The end of the WAL.
    pub fn lsn(&self) -> Lsn {
        Lsn(0x1000 + self.wal.len() as u64)
    }

    /// The end of recovery: a new timeline, which begins where the WAL ends.
    pub fn promote(&mut self, who: Who) {
        let from = self.history.timeline();
        let switch = Switch { timeline: from, at: self.lsn() };
        let text = format!("{}{}\t{}\n", self.history, switch.timeline, switch.at);
        self.history = History::parse(Timeline(from.0 + 1), &text).unwrap_or_default();
        self.standby = false;
        self.wal.push(Record::Promoted(who));
    }
}

/// The keeper's process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Worker {
    /// It runs.
    Runs,
    /// It alone is stopped (SIGSTOP); clients and WAL senders go on.
    Stopped,
    /// It has ended, and its successor has not begun.
    Gone,
}

/// What the processes of a server that runs hold and share.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Memory {
    /// The number of this start.
    pub instance: u64,
    /// Since when all its processes are stopped.
    pub paused: Option<Micros>,
    /// The keeper's process.
    pub worker: Worker,
    /// The keeper's own memory.
    pub node: Arc<Node>,
    /// When the keeper wakes by itself.
    pub wakes: Option<Moment>,
    /// The keeper's connection to the partner.
    pub call: Call,
    /// What the hooks obey.
    pub gate: Gate,
    /// What the keeper has published.
    pub report: Arc<Report>,
    /// When the keeper spoke last.
    pub spoken: Moment,
    /// What the keeper promised its partner, to be kept by the next one too.
    pub promised: Moment,
    /// What the partner is told of that.
    pub offered: Moment,
    /// What the next keeper is to know.
    pub evidence: Option<Arc<Evidence>>,
    /// When the partner's keeper was last told the report.
    pub told: Option<Moment>,
    /// The partner's keeper has asked over a new connection, and ours does not know yet.
    pub asked: bool,
    /// The keeper was last reminded of a waiting commit at this time.
    pub reminded: Micros,
    /// Recovery ends at this time, as was asked for.
    pub promotes: Option<Micros>,
    /// The start of the partner whose WAL is being received.
    pub receives_from: Option<u64>,
    /// Writes that are not acknowledged yet.
    pub waiting: Vec<u8>,
}

/// Whether a server is there.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Life {
    /// No process is left; its host refuses connections.
    Killed,
    /// The machine has no power: nothing answers.
    Unplugged,
    /// It has been started.
    Up(Box<Memory>),
}

/// One server.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Server {
    /// Its machine's clock.
    pub clock: Clock,
    /// How often it was started.
    pub starts: u8,
    /// What outlives an outage.
    pub disk: Disk,
    /// The rest.
    pub life: Life,
}

impl Server {
    /// What a server that runs holds in memory; `None` when it is down.
    pub fn memory(&self) -> Option<&Memory> {
        match &self.life {
            Life::Up(memory) => Some(memory),
            Life::Killed | Life::Unplugged => None,
        }
    }

    /// The same, to be changed.
    pub fn memory_mut(&mut self) -> Option<&mut Memory> {
        match &mut self.life {
            Life::Up(memory) => Some(memory),
            Life::Killed | Life::Unplugged => None,
        }
    }

    /// The memory of a server whose processes run.
    pub fn running(&self) -> Option<&Memory> {
        self.memory().filter(|memory| memory.paused.is_none())
    }

    /// Whether its keeper can act now.
    pub fn keeper_runs(&self) -> bool {
        self.running().is_some_and(|memory| memory.worker == Worker::Runs)
    }

    /// Starts the server, and its keeper with it.
    pub fn start(&mut self, who: Who) {
        self.starts += 1;
        if !self.disk.standby {
            self.disk.wal.push(Record::Started(who, self.starts));
        }
        let instance = who as u64 * 100 + u64::from(self.starts);
        let node = Node::new(Start {
            instance,
            parameters: Parameters::default(),
            evidence: None,
            gate: Gate::Closed,
            fence: self.disk.fence.clone(),
            promised: Moment::default(),
            promotion_asked: false,
        });
        self.life = Life::Up(Box::new(Memory {
            instance,
            paused: None,
            worker: Worker::Gone,
            report: Arc::new(node.report(who.name())),
            node: Arc::new(node),
            wakes: None,
            call: Call::default(),
            gate: Gate::Closed,
            spoken: Moment::default(),
            promised: Moment::default(),
            offered: Moment::default(),
            evidence: None,
            told: None,
            asked: false,
            reminded: 0,
            promotes: None,
            receives_from: None,
            waiting: Vec::new(),
        }));
    }

    /// Starts another keeper beside what the last one left in shared memory.
    pub fn start_keeper(&mut self) {
        let fence = self.disk.fence.clone();
        let Some(memory) = self.memory_mut() else { return };
        memory.node = Arc::new(Node::new(Start {
            instance: memory.instance,
            parameters: Parameters::default(),
            evidence: memory.evidence.as_deref().cloned(),
            gate: memory.gate,
            fence,
            promised: memory.promised,
            promotion_asked: memory.promotes.is_some(),
        }));
        memory.call = Call::default();
        memory.worker = Worker::Runs;
    }
}
