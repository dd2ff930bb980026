//! What must be possible: without it, a model in which nothing ever happens would have all the other properties.

use crate::scenario::Scenario;
use crate::world::{Who, World};
use keeper_core::Gate;
use stateright::Property;

/// The standby is promoted, and takes writes.
pub fn fails_over() -> Property<Scenario> {
    Property::sometimes("fails over", |scenario: &Scenario, world: &World| {
        !world.server(Who::Db02).disk.standby && world.lets_commit(scenario, Who::Db02)
    })
}

/// The old primary comes back and is fenced, and the new one takes writes.
pub fn fences() -> Property<Scenario> {
    Property::sometimes("fences", |scenario: &Scenario, world: &World| {
        let gate = world.server(Who::Db01).running().map(|memory| memory.gate);
        gate == Some(Gate::Fenced) && world.lets_commit(scenario, Who::Db02)
    })
}

/// Both were restarted, nobody was promoted, and the primary takes writes again.
pub fn opens_again() -> Property<Scenario> {
    Property::sometimes("opens again", |scenario: &Scenario, world: &World| {
        let restarted = world.servers.iter().all(|server| server.starts > 1);
        restarted && world.server(Who::Db02).disk.standby && world.lets_commit(scenario, Who::Db01)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adversary::Budget;

    fn can(name: &str, property: Property<Scenario>, budget: Budget) {
        let scenario = Scenario { budget, ..Scenario::new(property) };
        scenario.must_be_found(name);
    }

    #[test]
    fn a_killed_primary_is_replaced() {
        can("fails over", fails_over(), Budget::of_kills(1));
    }

    #[test]
    fn a_frozen_primary_is_replaced() {
        can("fails over, frozen", fails_over(), Budget::of_pauses(1));
    }

    #[test]
    fn a_former_primary_is_fenced() {
        can("fences", fences(), Budget::of_kills(1));
        can("fences, frozen", fences(), Budget::of_pauses(1));
    }

    #[test]
    fn a_pair_of_which_both_were_killed_opens_again() {
        can("opens again", opens_again(), Budget::of_kills(2));
    }
}
