//! What is checked: the settings of both nodes, the adversary's budget, where it begins and how far it goes.

use crate::adversary::Budget;
use crate::world::{Clock, Fate, Life, Micros, Move, Who, World};
use keeper_core::{Gate, OnStandbyLoss, OnUnknownPartner, Settings};
use stateright::{Checker, HasDiscoveries, Model, Property};
use std::time::{Duration, Instant};

/// `pg_keeper.keepalive_time`.
pub const TIME: Micros = 1_000_000;

/// What protects from two primaries; each can be taken away, to show that the checker notices.
#[derive(Debug, Clone, Copy)]
pub struct Protections {
    /// A permit ends.
    pub permit: bool,
    /// A closed gate is closed.
    pub return_guard: bool,
    /// A fenced gate is closed.
    pub fence: bool,
    /// A fence is on disk.
    pub fence_is_kept: bool,
    /// A silent standby counts until it gives up by itself.
    pub degrades_late: bool,
    /// A WAL sender promises no more than its keeper.
    pub honest_promise: bool,
}

/// One thing to check.
#[derive(Clone)]
pub struct Scenario {
    /// The settings of both nodes.
    pub settings: Settings,
    /// What the adversary may do.
    pub budget: Budget,
    /// A server that no fault hits.
    pub spared: Option<Who>,
    /// The delays that a late message may have.
    pub delays: &'static [Micros],
    /// How many thousandths each clock gains.
    pub clocks: &'static [[i8; 2]],
    /// How much later than db01 db02 may have started: what its keepalives are shifted by.
    pub shifts: &'static [Micros],
    /// How long it goes on after the warm-up.
    pub horizon: Micros,
    /// How long a promotion takes.
    pub promotion_takes: Micros,
    /// A commit waits whenever the permit has ended.
    pub busy: bool,
    /// What is in force.
    pub protections: Protections,
    /// What is demanded.
    pub properties: Vec<Property<Scenario>>,
}

/// Long enough for every start to have become calm.
const WARM_UP: Micros = 4 * TIME;

impl Scenario {
    /// Two nodes with the usual settings, and no adversary.
    pub fn new(property: Property<Scenario>) -> Scenario {
        Scenario {
            settings: Settings {
                keepalive_time: Duration::from_micros(TIME),
                keepalive_count: 2,
                fast_failover: false,
                enabled: true,
                max_lag: 1 << 24,
                before_command: false,
                after_command: false,
                before_command_limit: Duration::ZERO,
                on_unknown_partner: OnUnknownPartner::Open,
                synchronous: false,
                on_standby_loss: OnStandbyLoss::Async,
                partner_generation: 1,
            },
            budget: Budget::default(),
            spared: None,
            delays: &[],
            clocks: &[[0, 0]],
            shifts: &[TIME / 8],
            horizon: 7 * TIME,
            promotion_takes: 0,
            busy: false,
            protections: Protections {
                permit: true,
                return_guard: true,
                fence: true,
                fence_is_kept: true,
                degrades_late: true,
                honest_promise: true,
            },
            properties: vec![property],
        }
    }

    /// The longest silence before a partner is lost.
    pub fn window(&self) -> Micros {
        micros(self.settings.window())
    }

    /// The shortest silence after which a partner may be lost: its host refuses all keepalives.
    pub fn earliest_loss(&self) -> Micros {
        self.window() - micros(self.settings.keepalive_time)
    }

    /// The time that a keepalive has.
    pub fn limit(&self) -> Micros {
        micros(self.settings.limit())
    }

    /// A pair in the calm: the standby streams and would promote itself, the primary is open.
    fn calm(&self, clocks: [i8; 2], shift: Micros) -> World {
        let mut world = World::new(self, clocks.map(|gains| Clock { gains }));
        let go_on = |world: &mut World, until: Micros| {
            while world.now < until {
                *world = world.make(self, Move::Next(Fate::Calm)).unwrap_or_else(|| world.clone());
            }
        };
        world = world.make(self, Move::Start(Who::Db01)).unwrap_or(world);
        go_on(&mut world, shift);
        world = world.make(self, Move::Start(Who::Db02)).unwrap_or(world);
        go_on(&mut world, WARM_UP);
        assert!(self.lets_commit_at_the_start(&world), "the pair is not ready: {world:#?}");
        world
    }

    fn lets_commit_at_the_start(&self, world: &World) -> bool {
        let armed = |life: &Life| match life {
            Life::Up(memory) => memory.node.status().armed,
            Life::Killed | Life::Unplugged => false,
        };
        let open = |life: &Life| matches!(life, Life::Up(memory) if matches!(memory.gate, Gate::Open { .. }));
        open(&world.servers[0].life) && world.lets_commit(self, Who::Db01) && armed(&world.servers[1].life)
    }

    /// Looks at everything that can happen, and demands that nothing contradicts the properties. What does is told the shortest way.
    pub fn must_hold(self, name: &str) {
        let begun = Instant::now();
        // Depth first needs less memory, and finds the longest ways first.
        let checker = self.clone().checker().finish_when(HasDiscoveries::Any).spawn_dfs().join();
        let found = !checker.discoveries().is_empty();
        report(name, &checker, begun, if found { "does not hold" } else { "holds" });
        if found {
            panic!("{name}: it does not hold:\n{}", self.must_be_found(name));
        }
    }

    /// Looks at everything that can happen until something contradicts a property, or is an example of one, and tells the shortest way there.
    pub fn must_be_found(self, name: &str) -> String {
        let begun = Instant::now();
        let checker = self.clone().checker().finish_when(HasDiscoveries::Any).spawn_bfs().join();
        let path = checker.discoveries().into_values().next();
        report(name, &checker, begun, if path.is_some() { "found" } else { "not found" });
        path.map(|path| crate::story::tell(&self, path)).unwrap_or_else(|| panic!("{name}: it was not found"))
    }
}

fn report(name: &str, checker: &impl Checker<Scenario>, begun: Instant, outcome: &str) {
    let (states, depth) = (checker.unique_state_count(), checker.max_depth());
    println!("{name}: {states} states, up to {depth} steps deep, {outcome}, {:.1?}", begun.elapsed());
}

impl Model for Scenario {
    type State = World;
    type Action = Move;

    fn init_states(&self) -> Vec<World> {
        let shifts = self.shifts.iter();
        shifts.flat_map(|shift| self.clocks.iter().map(|clocks| self.calm(*clocks, *shift))).collect()
    }

    fn actions(&self, world: &World, moves: &mut Vec<Move>) {
        // In the calm one keepalive is like the next, so the first fault need not wait.
        let begun = !world.calm || world.now < WARM_UP + self.limit();
        if begun && world.now < WARM_UP + self.horizon {
            world.moves(self, self.delays, moves);
        }
    }

    fn next_state(&self, world: &World, step: Move) -> Option<World> {
        world.make(self, step)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        self.properties.clone()
    }
}

fn micros(span: Duration) -> Micros {
    u64::try_from(span.as_micros()).unwrap_or(Micros::MAX)
}
