//! What two nodes alone cannot prevent, found and told: the cable between them is cut, both live, and both take writes.
//!
//! The shortest way there is kept as a story in `golden/cut_cable.txt`. After a wanted change, `UPDATE_GOLDEN=1 cargo test -p keeper-model`
//! writes it anew: read the difference before you commit it.

use super::never_two_open_without_a_cut::never_two;
use crate::adversary::Budget;
use crate::scenario::Scenario;
use std::path::Path;

#[test]
fn a_cut_cable_makes_two_primaries() {
    let budget = Budget { faults: 1, cuts: 1, ..Budget::default() };
    let scenario = Scenario { budget, ..Scenario::new(never_two()) };
    let story = scenario.must_be_found("a cut cable");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/cut_cable.txt");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &story).unwrap();
    }
    assert_eq!(std::fs::read_to_string(&path).unwrap_or_default(), story, "{}", path.display());
}
