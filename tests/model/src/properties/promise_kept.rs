//! A standby does not ask for its promotion before the instant that it promised to its partner.
//!
//! A promise is made to one start of the partner's server: one that is dead relies on nothing any more, and the next start asks for itself.

use crate::scenario::Scenario;
use crate::world::World;
use stateright::Property;

/// The property.
pub fn property() -> Property<Scenario> {
    Property::always("promise kept", |_, world: &World| !world.witness.broke_promise)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adversary::Budget;

    #[test]
    fn a_promise_that_the_keeper_did_not_make_is_noticed() {
        let mut scenario = Scenario { budget: Budget::of_pauses(1), ..Scenario::new(property()) };
        scenario.protections.honest_promise = false;
        scenario.must_be_found("with a promise of twice the time");
    }
}
