//! As long as the network carries every message, no two servers take writes at the same instant, and none takes any that the other one has
//! superseded.
//!
//! Servers may crash, stand still for a short or a long time, restart in either order, and lose their keepers. One thing is granted: where the
//! server that supersedes the other was itself away for so long that it had to be taken for dead, the other one may have opened, and takes
//! writes until it hears better. Even then the two are never open at once.

use crate::scenario::Scenario;
use crate::world::World;
use stateright::Property;

/// Never two.
pub fn never_two() -> Property<Scenario> {
    Property::always("never two open", |_, world: &World| !world.witness.two_open)
}

/// None that is superseded.
pub fn none_superseded() -> Property<Scenario> {
    Property::always("none open that is superseded", |_, world: &World| !world.witness.superseded_open)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adversary::Budget;

    #[test]
    fn a_missing_permit_is_noticed() {
        let mut scenario = Scenario { budget: Budget::of_pauses(1), ..Scenario::new(never_two()) };
        scenario.protections.permit = false;
        scenario.must_be_found("without the permit");
    }

    #[test]
    fn a_missing_return_guard_is_noticed() {
        let mut scenario = Scenario { budget: Budget::of_kills(1), ..Scenario::new(never_two()) };
        scenario.protections.return_guard = false;
        scenario.must_be_found("without the return guard");
    }
}
