//! Two servers, the network between them, and the time that passes.
//!
//! Time goes from one event to the next: a keeper's deadline, a message that arrives, the end of a recovery. All that happens at one instant
//! without anybody's help is one step; in between, the adversary may do what its budget allows ([`Move`]).

mod clock;
mod keeper;
mod replication;
mod server;
mod wire;

pub use clock::{Clock, Micros};
pub use replication::Acknowledged;
pub use server::{Disk, Life, Memory, Record, Server, Who, Worker};
pub use wire::{Call, Waits};

use crate::scenario::Scenario;
use crate::witness::Witness;
use keeper_core::{Gate, History, Kept, Moment, SynchronousNames, Timeline};

/// What happens to the next question, or to the answer to it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Fate {
    /// Both arrive at once.
    #[default]
    Calm,
    /// The question is lost.
    QuestionLost,
    /// The answer is lost.
    AnswerLost,
    /// The question takes that long.
    QuestionLate(Micros),
    /// The answer takes that long.
    AnswerLate(Micros),
}

/// Who comes first when a server that was paused goes on: its clients and its partner's questions always come before the keeper or after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum First {
    /// Clients and WAL senders.
    Others,
    /// The keeper.
    Keeper,
}

/// One step of the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Move {
    /// Time goes on to the next event; the first question asked then has this fate.
    Next(Fate),
    /// Every process of a server is stopped.
    Pause(Who),
    /// They go on.
    Resume(Who, First),
    /// A keeper alone is stopped.
    StopKeeper(Who),
    /// It goes on.
    ContinueKeeper(Who),
    /// A keeper ends, and leaves what is in shared memory.
    KillKeeper(Who),
    /// Its successor begins.
    StartKeeper(Who),
    /// Every process of a server is killed; its host goes on.
    Kill(Who),
    /// A machine loses its power.
    Unplug(Who),
    /// A server that is down is started, as what it was.
    Start(Who),
    /// Nothing that this server sends arrives any more.
    CutFrom(Who),
    /// The cable between the two is cut.
    Cut,
    /// The network is whole again.
    Heal,
    /// An administrator promotes a standby.
    Promote(Who),
    /// A client writes.
    Write(Who),
}

/// The state of everything.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct World {
    /// True time.
    pub now: Micros,
    /// Both servers, in the order of [`Who::BOTH`].
    pub servers: [Server; 2],
    /// What a server sends does not arrive.
    pub cut: [bool; 2],
    /// What the adversary may still do.
    pub left: crate::adversary::Budget,
    /// No fault has happened yet.
    pub calm: bool,
    /// When a fault was last there.
    pub disturbed: Micros,
    /// What has been seen, for the properties.
    pub witness: Witness,
    /// What happens to the next question.
    fate: Fate,
    /// How many writes there were.
    writes: u8,
}

/// More happens at one instant only if two parts of the world keep each other awake.
const ENDLESS: usize = 100;

impl World {
    /// Both servers down, a primary and its standby, with everything received.
    pub fn new(scenario: &Scenario, clocks: [Clock; 2]) -> World {
        let disk = |standby: bool| Disk {
            standby,
            history: History::of_first(Timeline(1)),
            wal: Vec::new(),
            fence: Kept::Nothing,
            names: if scenario.settings.synchronous && !standby {
                SynchronousNames::Wished
            } else {
                SynchronousNames::Empty
            },
        };
        let server = |clock, standby| Server { clock, starts: 0, disk: disk(standby), life: Life::Killed };
        World {
            now: 0,
            servers: [server(clocks[0], false), server(clocks[1], true)],
            cut: [false; 2],
            left: scenario.budget,
            calm: true,
            disturbed: 0,
            witness: Witness::default(),
            fate: Fate::Calm,
            writes: 0,
        }
    }

    /// One of the servers.
    pub fn server(&self, who: Who) -> &Server {
        &self.servers[who as usize]
    }

    /// The same, to be changed.
    pub fn server_mut(&mut self, who: Who) -> &mut Server {
        &mut self.servers[who as usize]
    }

    fn server_mut_and_clock(&mut self, who: Who) -> (&mut Server, Moment) {
        let clock = self.server(who).clock.reads(self.now);
        (self.server_mut(who), clock)
    }

    /// Whether what a server sends arrives.
    pub fn is_open(&self, from: Who) -> bool {
        !self.cut[from as usize]
    }

    /// Whether a commit at this server would be acknowledged now.
    pub fn lets_commit(&self, scenario: &Scenario, who: Who) -> bool {
        let server = self.server(who);
        let protections = &scenario.protections;
        !server.disk.standby
            && server.running().is_some_and(|memory| {
                let is_protected = match memory.gate {
                    Gate::Closed => protections.return_guard,
                    Gate::Fenced => protections.fence,
                    Gate::Open { .. } => protections.permit,
                };
                !is_protected || memory.gate.lets_pass(|| server.clock.reads(self.now))
            })
    }

    /// Does what a move says; `None` where it makes no difference.
    pub fn make(&self, scenario: &Scenario, step: Move) -> Option<World> {
        let mut world = self.clone();
        match step {
            Move::Next(fate) => {
                world.now = self.next_instant(scenario);
                world.fate = fate;
                world.settle(scenario);
                if std::mem::take(&mut world.fate) != Fate::Calm {
                    // Nobody asked anything.
                    return None;
                }
            }
            Move::Pause(who) => world.server_mut(who).memory_mut()?.paused = Some(self.now),
            Move::Resume(who, first) => world.resume(scenario, who, first),
            Move::StopKeeper(who) => world.server_mut(who).memory_mut()?.worker = Worker::Stopped,
            Move::ContinueKeeper(who) => world.server_mut(who).memory_mut()?.worker = Worker::Runs,
            Move::KillKeeper(who) => {
                let memory = world.server_mut(who).memory_mut()?;
                memory.worker = Worker::Gone;
                memory.call = Call::default();
                memory.wakes = None;
            }
            Move::StartKeeper(who) => world.wake(scenario, who),
            Move::Kill(who) => world.server_mut(who).life = Life::Killed,
            Move::Unplug(who) => world.server_mut(who).life = Life::Unplugged,
            Move::Start(who) => world.server_mut(who).start(who),
            Move::CutFrom(who) => world.cut[who as usize] = true,
            Move::Cut => world.cut = [true; 2],
            Move::Heal => world.cut = [false; 2],
            Move::Promote(who) => {
                world.server_mut(who).memory_mut()?.promotes = Some(self.now + scenario.promotion_takes);
            }
            Move::Write(who) => world.write(who),
        }
        world.pay(step);
        if !world.is_whole() || step != Move::Next(Fate::Calm) {
            world.disturbed = world.now;
        }
        world.notice(scenario);
        Some(world)
    }

    /// Whether no fault is there.
    fn is_whole(&self) -> bool {
        self.cut == [false; 2] && self.servers.iter().all(Server::keeper_runs)
    }

    fn resume(&mut self, scenario: &Scenario, who: Who, first: First) {
        let now = self.now;
        let server = self.server_mut(who);
        let primary = !server.disk.standby;
        let Some(memory) = server.memory_mut() else { return };
        let since = memory.paused.take().unwrap_or(now);
        self.witness.thawed(scenario, who, now, since, primary);
        if first == First::Keeper && self.keeper_is_due(scenario, who) {
            self.wake(scenario, who);
        }
    }

    /// When the next thing happens by itself, or a little time has passed.
    fn next_instant(&self, scenario: &Scenario) -> Micros {
        let mut next = self.now + scenario.limit();
        for who in Who::BOTH {
            let server = self.server(who);
            if self.keeper_is_due(scenario, who) {
                return self.now;
            }
            if let Some(memory) = server.running() {
                next = next.min(memory.promotes.unwrap_or(next));
            }
            let Some(memory) = server.memory() else { continue };
            match memory.call.waits {
                Waits::Question { arrives, .. } if self.server(who.other()).running().is_some() => {
                    next = next.min(arrives);
                }
                Waits::Reply { arrives, .. } if server.keeper_runs() => next = next.min(arrives),
                Waits::Question { .. } | Waits::Reply { .. } | Waits::Nothing | Waits::Silence => {}
            }
            if server.keeper_runs() {
                let ends = memory.permit_end().filter(|_| scenario.busy && !server.disk.standby);
                for moment in [memory.wakes, ends].into_iter().flatten() {
                    let at = server.clock.when(moment);
                    next = next.min(if at > self.now { at } else { next });
                }
            }
        }
        next.max(self.now)
    }

    /// Everything that happens at this instant by itself.
    fn settle(&mut self, scenario: &Scenario) {
        for _ in 0..ENDLESS {
            self.notice(scenario);
            let happened = Who::BOTH.into_iter().any(|who| self.ends_recovery(who))
                || Who::BOTH.into_iter().any(|who| self.answer(scenario, who))
                || Who::BOTH.into_iter().any(|who| {
                    let due = self.keeper_is_due(scenario, who);
                    if due {
                        self.wake(scenario, who);
                    }
                    due
                });
            if !happened {
                return;
            }
        }
        unreachable!("the world spins at {} µs: {self:#?}", self.now);
    }

    fn ends_recovery(&mut self, who: Who) -> bool {
        let now = self.now;
        let server = self.server_mut(who);
        let due = |memory: &&mut Memory| memory.paused.is_none() && memory.promotes.is_some_and(|at| at <= now);
        let Some(memory) = server.memory_mut().filter(due) else { return false };
        memory.promotes = None;
        memory.receives_from = None;
        server.disk.promote(who);
        true
    }

    /// WAL flows, commits are acknowledged, and whoever watches sees it.
    fn notice(&mut self, scenario: &Scenario) {
        self.replicate();
        self.acknowledge(scenario);
        let open = Who::BOTH.map(|who| self.lets_commit(scenario, who));
        self.witness.looks(scenario, self.now, open, &self.servers);
    }

    fn witness_promotion(&mut self, who: Who) {
        let clock = self.server(who).clock.reads(self.now);
        self.witness.promotes(who, clock, &self.servers);
    }
}

impl Memory {
    /// When the permit ends; `None` where there is none or it never ends.
    pub fn permit_end(&self) -> Option<Moment> {
        match self.gate {
            Gate::Open { until } if until != Moment::NEVER => Some(until),
            Gate::Open { .. } | Gate::Closed | Gate::Fenced => None,
        }
    }
}
