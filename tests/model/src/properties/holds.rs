//! The properties of the permit, the promise and the fence hold together, in worlds with different faults and settings.
//!
//! Each check looks at every order in which its faults can begin and end, between any two events of its time.

use super::{
    frozen_server_acknowledges_nothing_stale, never_two_open_without_a_cut, no_write_after_fence, promise_kept,
};
use crate::adversary::Budget;
use crate::scenario::{Scenario, TIME};

/// What takes a promotion so long that the keeper looks at it while it is under way.
const A_MOMENT: u64 = 3_000;

/// What holds whatever the network does.
fn over_any_network(budget: Budget) -> Scenario {
    let mut scenario = Scenario::new(promise_kept::property());
    scenario.properties.push(no_write_after_fence::property());
    Scenario { budget, ..scenario }
}

/// All that holds while the network carries every message.
fn over_a_whole_network(budget: Budget) -> Scenario {
    let mut scenario = over_any_network(budget);
    scenario.properties.extend([
        never_two_open_without_a_cut::never_two(),
        never_two_open_without_a_cut::none_superseded(),
        frozen_server_acknowledges_nothing_stale::property(),
    ]);
    scenario
}

#[test]
fn with_two_faults() {
    over_a_whole_network(Budget::of_servers(2)).must_hold("two faults");
}

#[test]
fn with_two_faults_in_other_phases() {
    let budget = Budget { keeper_stops: 0, keeper_kills: 0, ..Budget::of_servers(2) };
    let shifts = &[0, TIME * 3 / 8];
    Scenario { shifts, horizon: 4 * TIME, ..over_a_whole_network(budget) }.must_hold("two faults, other phases");
}

#[test]
fn with_clients_that_always_wait() {
    let scenario = over_a_whole_network(Budget::of_servers(2));
    Scenario { busy: true, horizon: 5 * TIME, ..scenario }.must_hold("two faults, commits that wait");
}

#[test]
fn with_three_pauses() {
    let scenario = over_a_whole_network(Budget::of_pauses(3));
    Scenario { horizon: 4 * TIME, ..scenario }.must_hold("three pauses");
}

#[test]
fn with_a_single_keepalive() {
    let mut scenario = over_a_whole_network(Budget::of_servers(2));
    scenario.settings.keepalive_count = 1;
    Scenario { horizon: 4 * TIME, ..scenario }.must_hold("two faults, keepalive_count = 1");
}

#[test]
fn with_proven_deaths() {
    let budget = Budget { keeper_kills: 0, ..Budget::of_servers(2) };
    let mut scenario = over_a_whole_network(budget);
    scenario.settings.fast_failover = true;
    Scenario { promotion_takes: A_MOMENT, horizon: 4 * TIME, ..scenario }.must_hold("two faults, fast_failover");
}

#[test]
fn with_a_keeper_that_ends_during_a_promotion() {
    let scenario = over_a_whole_network(Budget::of_servers(2));
    Scenario { promotion_takes: A_MOMENT, horizon: 4 * TIME, ..scenario }.must_hold("two faults, slow promotion");
}

#[test]
fn with_clocks_that_run_apart() {
    let budget = Budget { faults: 2, pauses: 2, kills: 1, ..Budget::default() };
    let clocks = &[[-1, 1], [1, -1]];
    Scenario { clocks, horizon: 5 * TIME, ..over_a_whole_network(budget) }.must_hold("two faults, clocks apart");
}

/// Later than that, a message is as good as lost.
#[test]
fn with_late_messages() {
    let budget = Budget { delays: 2, ..Budget::of_servers(1) };
    let delays = &[TIME / 16, TIME * 2 / 5];
    Scenario { delays, horizon: 5 * TIME, ..over_a_whole_network(budget) }.must_hold("a fault, two late messages");
}

#[test]
fn over_a_network_that_is_cut() {
    let budget = Budget { keeper_stops: 0, keeper_kills: 0, unplugs: 0, ..Budget::of_everything(2) };
    Scenario { horizon: 4 * TIME, ..over_any_network(budget) }.must_hold("two faults, the network among them");
}

#[test]
fn over_a_network_that_loses() {
    let budget = Budget { losses: 2, delays: 1, ..Budget::of_servers(1) };
    Scenario { delays: &[TIME], horizon: 4 * TIME, ..over_any_network(budget) }.must_hold("a fault, lost messages");
}

/// What the old primary acknowledges until it hears of the promotion is the administrator's to answer for, but never do both take writes.
#[test]
fn with_a_promotion_by_hand() {
    let budget = Budget { by_hand: 1, ..Budget::of_servers(1) };
    let mut scenario = over_any_network(budget);
    scenario.properties.push(never_two_open_without_a_cut::never_two());
    scenario.properties.remove(0);
    Scenario { horizon: 5 * TIME, ..scenario }.must_hold("a promotion by hand and a fault");
}

/// Takes minutes: `cargo test -p keeper-model -- --ignored three_faults`.
#[test]
#[ignore = "takes minutes"]
fn with_three_faults() {
    let pauses_and_kills = Budget { faults: 3, pauses: 3, kills: 2, ..Budget::default() };
    let scenario = over_a_whole_network(pauses_and_kills);
    Scenario { horizon: 4 * TIME, ..scenario.clone() }.must_hold("three faults");
    let shifts = &[0, TIME / 4, TIME * 3 / 8];
    Scenario { horizon: 3 * TIME, shifts, ..scenario }.must_hold("three faults, other phases");
    let keepers = Budget { faults: 3, pauses: 2, keeper_stops: 2, keeper_kills: 1, kills: 1, ..Budget::default() };
    Scenario { horizon: 4 * TIME, ..over_a_whole_network(keepers) }.must_hold("three faults, of keepers too");
}
