//! When all faults are over, the pair comes to rest by itself: exactly one of the two takes writes.

use crate::scenario::Scenario;
use crate::world::{Who, World};
use stateright::Property;

/// The property.
pub fn property() -> Property<Scenario> {
    Property::always("heals", |scenario: &Scenario, world: &World| {
        let patient = world.now >= world.disturbed + 3 * scenario.window();
        !patient || Who::BOTH.into_iter().filter(|who| world.lets_commit(scenario, *who)).count() == 1
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adversary::Budget;
    use crate::scenario::TIME;

    #[test]
    fn every_fault_heals() {
        let scenario = Scenario { budget: Budget::of_everything(1), horizon: 12 * TIME, ..Scenario::new(property()) };
        scenario.must_hold("every fault heals");
    }

    #[test]
    fn two_faults_heal() {
        let budget = Budget { faults: 2, pauses: 1, kills: 1, cuts: 1, ..Budget::default() };
        let scenario = Scenario { budget, horizon: 9 * TIME, ..Scenario::new(property()) };
        scenario.must_hold("two faults heal");
    }
}
