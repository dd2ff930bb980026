//! What a promotion that nobody asked for may lose under synchronous replication.
//!
//! With `pg_keeper.on_standby_loss = wait`: nothing that a client was told is safe. With `async`: only what was acknowledged while the primary
//! said that its standby may lack it; and a standby that believes to have everything when it asks for its promotion, has everything.

use crate::scenario::Scenario;
use crate::world::World;
use stateright::Property;

/// `wait`.
pub fn nothing() -> Property<Scenario> {
    Property::always("nothing is lost", |_, world: &World| world.witness.lost(&world.servers).next().is_none())
}

/// `async`: what is lost.
pub fn only_what_was_announced() -> Property<Scenario> {
    Property::always("only what was announced is lost", |_, world: &World| {
        world.witness.lost(&world.servers).all(|write| write.announced)
    })
}

/// `async`: what a standby believes.
pub fn no_promotion_in_error() -> Property<Scenario> {
    Property::always("no promotion in error", |_, world: &World| !world.witness.promoted_in_error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adversary::Budget;
    use crate::scenario::TIME;
    use keeper_core::OnStandbyLoss;

    fn scenario(policy: OnStandbyLoss, property: Property<Scenario>) -> Scenario {
        let kinds = Budget { pauses: 1, kills: 2, cuts: 1, one_way_cuts: 1, ..Budget::default() };
        let mut scenario = Scenario { budget: Budget { faults: 2, writes: 1, ..kinds }, ..Scenario::new(property) };
        scenario.settings.synchronous = true;
        scenario.settings.on_standby_loss = policy;
        scenario.horizon = 4 * TIME;
        scenario
    }

    #[test]
    fn a_primary_that_waits_loses_nothing() {
        let scenario = scenario(OnStandbyLoss::Wait, nothing());
        scenario.must_hold("synchronous, wait");
    }

    #[test]
    fn a_primary_that_degrades_loses_only_what_it_announced() {
        let mut scenario = scenario(OnStandbyLoss::Async, only_what_was_announced());
        scenario.properties.push(no_promotion_in_error());
        scenario.must_hold("synchronous, async");
    }

    #[test]
    fn a_primary_that_degrades_at_once_is_noticed() {
        let mut scenario = scenario(OnStandbyLoss::Async, no_promotion_in_error());
        scenario.protections.degrades_late = false;
        scenario.must_be_found("without the late degrade");
    }
}
