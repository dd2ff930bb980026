//! A server that has heard that its partner supersedes it never acknowledges a write again, whatever happens to it afterwards.
//!
//! «Superseded» is meant as the server can know it: the partner has answered it, as a primary whose history left its own. That must be
//! remembered over every restart, also where the partner is not there to say it again.

use crate::scenario::Scenario;
use crate::world::World;
use stateright::Property;

/// The property.
pub fn property() -> Property<Scenario> {
    Property::always("no write after the fence", |_, world: &World| !world.witness.open_though_told)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adversary::Budget;
    use crate::scenario::TIME;
    use crate::world::Who;

    /// Killed, superseded and fenced, killed again, and started while the cable is cut.
    fn killed_twice_and_cut_off() -> Scenario {
        let budget = Budget { faults: 3, kills: 2, cuts: 1, ..Budget::default() };
        Scenario { budget, spared: Some(Who::Db02), horizon: 6 * TIME, ..Scenario::new(property()) }
    }

    #[test]
    fn a_fence_outlives_a_restart() {
        let scenario = killed_twice_and_cut_off();
        scenario.must_hold("a fence outlives a restart");
    }

    #[test]
    fn a_fence_that_is_not_on_disk_is_noticed() {
        let mut scenario = killed_twice_and_cut_off();
        scenario.protections.fence_is_kept = false;
        scenario.must_be_found("without a fence on disk");
    }

    #[test]
    fn a_fence_that_nobody_obeys_is_noticed() {
        let mut scenario = Scenario { budget: Budget::of_kills(1), ..Scenario::new(property()) };
        scenario.protections.fence = false;
        scenario.must_be_found("without the fence");
    }
}
