//! A primary that stood still for longer than its partner's window acknowledges nothing when it goes on, before it has heard its partner or
//! has asked it in vain as often as it takes to lose it.
//!
//! What its partner said before that does not count, though it may lie unread in the socket.

use crate::scenario::Scenario;
use crate::world::World;
use stateright::Property;

/// The property.
pub fn property() -> Property<Scenario> {
    Property::always("frozen server acknowledges nothing stale", |_, world: &World| !world.witness.open_though_frozen)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adversary::Budget;

    #[test]
    fn a_missing_permit_is_noticed() {
        let mut scenario = Scenario { budget: Budget::of_pauses(1), ..Scenario::new(property()) };
        scenario.protections.permit = false;
        scenario.must_be_found("without the permit, frozen");
    }
}
