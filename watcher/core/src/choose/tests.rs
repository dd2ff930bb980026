use super::Observation::Unreachable;
use super::*;

const A: SystemIdentifier = SystemIdentifier(7);
const B: SystemIdentifier = SystemIdentifier(8);

fn standby(system_identifier: SystemIdentifier) -> Observation {
    Observation::Standby { system_identifier }
}

fn primary(system_identifier: SystemIdentifier, timeline: u32) -> Observation {
    Observation::Primary { system_identifier, timeline: Timeline(timeline), fenced: false }
}

fn fenced(system_identifier: SystemIdentifier, timeline: u32) -> Observation {
    Observation::Primary { system_identifier, timeline: Timeline(timeline), fenced: true }
}

fn active(node: NodeId, system_identifier: SystemIdentifier, timeline: u32) -> Choice {
    Choice::Active(node, Position { system_identifier, timeline: Timeline(timeline) })
}

const NAMES: [&str; 2] = ["db01", "db02"];

/// Clusters with the timeline and the node that was active on it; the last one is the current one.
fn past(seen: &[(SystemIdentifier, u32, &str)]) -> Past {
    let mut past = Past::default();
    for (system_identifier, timeline, node) in seen {
        past.note_active(node, Position { system_identifier: *system_identifier, timeline: Timeline(*timeline) });
    }
    past
}

#[test]
fn only_what_made_a_node_active_repeats_it() {
    let seen = past(&[(B, 7, "db02"), (A, 2, "db02")]);
    assert!(seen.is_repeated_by(primary(A, 2), "db02"));
    for other in [Unreachable, standby(A), fenced(A, 2), primary(A, 1), primary(A, 3), primary(B, 7)] {
        assert!(!seen.is_repeated_by(other, "db02"), "{other:?}");
    }
    assert!(!seen.is_repeated_by(primary(A, 2), "db01"));
    assert!(!Past::default().is_repeated_by(primary(A, 2), "db02"));
    let mut contested = seen;
    let both = [primary(A, 2), primary(A, 2)];
    contested.learn(both, NAMES, choose(both, NAMES, &contested));
    assert!(!contested.is_repeated_by(primary(A, 2), "db02"));
}

#[test]
fn every_pair_of_observations_has_one_answer() {
    use NodeId::{First, Second};
    let nothing: &[(SystemIdentifier, u32, &str)] = &[];
    let two_of_one = Choice::TwoPrimaries(TwoPrimaries::SameTimeline(Timeline(2)));
    let superseded = Choice::Nobody(Nobody::Superseded { node: First, timeline: Timeline(1), highest: Timeline(2) });
    let not_promoted = Choice::TwoPrimaries(TwoPrimaries::NotPromoted { node: Second, timeline: Timeline(2) });
    let other_cluster = Choice::Nobody(Nobody::OtherCluster { node: Second, system_identifier: B });
    for (observations, seen, want) in [
        ([Unreachable, Unreachable], nothing, Choice::Nobody(Nobody::BothUnreachable)),
        ([standby(A), Unreachable], nothing, Choice::Nobody(Nobody::NoPrimary)),
        ([standby(A), standby(A)], nothing, Choice::Nobody(Nobody::NoPrimary)),
        ([fenced(A, 1), standby(A)], nothing, Choice::Nobody(Nobody::NoPrimary)),
        ([primary(A, 1), standby(A)], nothing, active(First, A, 1)),
        ([standby(A), primary(A, 2)], &[(A, 1, "db01")], active(Second, A, 2)),
        ([Unreachable, primary(A, 2)], &[(A, 1, "db01")], active(Second, A, 2)),
        ([Unreachable, primary(A, 2)], &[(A, 2, "db02")], active(Second, A, 2)),
        ([primary(A, 1), primary(A, 2)], &[(A, 1, "db01")], active(Second, A, 2)),
        ([fenced(A, 1), primary(A, 2)], &[(A, 1, "db01")], active(Second, A, 2)),
        ([fenced(A, 3), primary(A, 2)], &[(A, 2, "db02")], active(Second, A, 2)),
        ([primary(A, 2), primary(A, 2)], &[(A, 1, "db01")], two_of_one),
        ([primary(A, 1), Unreachable], &[(A, 2, "db02")], superseded),
        ([primary(A, 1), fenced(A, 2)], &[(A, 2, "db02")], superseded),
        // A promotion raises the timeline, so whoever turns up on the active node's own was not promoted.
        ([Unreachable, primary(A, 2)], &[(A, 2, "db01")], not_promoted),
        ([primary(A, 1), primary(A, 2)], &[(A, 2, "db01")], not_promoted),
        // Unless the node that was active says that it is not any more.
        ([standby(A), primary(A, 2)], &[(A, 2, "db01")], active(Second, A, 2)),
        ([fenced(A, 2), primary(A, 2)], &[(A, 2, "db01")], active(Second, A, 2)),
        // The configuration gave the nodes other names.
        ([standby(A), primary(A, 2)], &[(A, 2, "old")], active(Second, A, 2)),
        ([primary(A, 1), primary(A, 2)], &[(A, 2, "old")], active(Second, A, 2)),
        (
            [Unreachable, primary(A, 2)],
            &[(A, 2, "old")],
            Choice::Nobody(Nobody::PredecessorUnknown { node: Second, timeline: Timeline(2) }),
        ),
        ([primary(A, 1), standby(B)], nothing, Choice::Nobody(Nobody::IdentifiersDiffer([A, B]))),
        (
            [primary(A, 1), primary(B, 5)],
            &[(A, 1, "db01")],
            Choice::TwoPrimaries(TwoPrimaries::IdentifiersDiffer([A, B])),
        ),
        ([Unreachable, primary(B, 9)], &[(A, 1, "db01")], other_cluster),
        ([standby(B), primary(B, 1)], &[(A, 4, "db01")], active(Second, B, 1)),
        ([Unreachable, primary(B, 2)], &[(B, 1, "db02"), (A, 4, "db01")], other_cluster),
        ([Unreachable, primary(B, 1)], &[(A, 4, "db01"), (B, 1, "db02")], active(Second, B, 1)),
    ] {
        assert_eq!(choose(observations, NAMES, &past(seen)), want, "{observations:?} after {seen:?}");
    }
}

#[test]
fn two_primaries_are_two_until_one_gives_in() {
    let contested = Choice::TwoPrimaries(TwoPrimaries::StillContested);
    let second = active(NodeId::Second, A, 2);
    let clusters = Choice::TwoPrimaries(TwoPrimaries::IdentifiersDiffer([B, A]));
    for (two, then) in [
        ([primary(A, 2), primary(A, 2)], &[([Unreachable, primary(A, 2)], contested)][..]),
        (
            [primary(A, 2), primary(A, 2)],
            &[
                ([Unreachable, Unreachable], Choice::Nobody(Nobody::BothUnreachable)),
                ([primary(A, 2), Unreachable], contested),
            ],
        ),
        ([primary(A, 2), primary(A, 2)], &[([standby(A), primary(A, 2)], second)]),
        ([primary(A, 2), primary(A, 2)], &[([fenced(A, 2), primary(A, 2)], second)]),
        ([primary(A, 2), primary(A, 2)], &[([Unreachable, primary(A, 3)], active(NodeId::Second, A, 3))]),
        ([primary(A, 2), primary(A, 2)], &[([primary(A, 1), primary(A, 2)], second)]),
        (
            [primary(A, 2), primary(A, 2)],
            &[([standby(A), Unreachable], Choice::Nobody(Nobody::NoPrimary)), ([Unreachable, primary(A, 2)], second)],
        ),
        (
            [primary(B, 2), primary(A, 2)],
            &[
                ([Unreachable, primary(A, 2)], contested),
                ([primary(B, 2), primary(A, 2)], clusters),
                ([standby(A), primary(A, 2)], second),
            ],
        ),
    ] {
        let mut past = Past::default();
        let mut take = |observations| {
            let choice = choose(observations, NAMES, &past);
            past.learn(observations, NAMES, choice);
            choice
        };
        assert!(matches!(take(two), Choice::TwoPrimaries(_)), "{two:?}");
        for (observations, want) in then {
            assert_eq!(take(*observations), *want, "{two:?}, then {observations:?}");
        }
    }
}

#[test]
fn a_choice_that_was_overtaken_is_seen_to_be() {
    let past = past(&[(B, 9, "db01"), (A, 2, "db02")]);
    let position = |system_identifier, timeline| Position { system_identifier, timeline: Timeline(timeline) };
    assert!(past.still_allows(position(A, 2)) && past.still_allows(position(A, 3)));
    assert!(!past.still_allows(position(A, 1)) && !past.still_allows(position(B, 9)));
}

#[test]
fn the_order_of_the_nodes_does_not_matter() {
    let all = [Unreachable, standby(A), standby(B), primary(A, 1), primary(A, 2), primary(B, 1), fenced(A, 2)];
    for past in [past(&[(A, 1, "db01")]), past(&[(B, 1, "db02"), (A, 2, "db02")]), past(&[(A, 2, "old")])] {
        for one in all {
            for two in all {
                let node = |choice| match choice {
                    Choice::Active(node, position) => Some((node, position)),
                    Choice::Nobody(_) | Choice::TwoPrimaries(_) => None,
                };
                let straight = node(choose([one, two], NAMES, &past));
                let crossed = node(choose([two, one], ["db02", "db01"], &past));
                assert_eq!(straight, crossed.map(|(node, position)| (node.other(), position)), "{one:?} {two:?}");
            }
        }
    }
}

#[test]
fn sentences_name_the_nodes() {
    assert_eq!(active(NodeId::Second, A, 2).describe(NAMES).to_string(), "active node is db02 (timeline 2)");
    assert_eq!(
        Choice::TwoPrimaries(TwoPrimaries::SameTimeline(Timeline(2))).describe(NAMES).to_string(),
        "two primaries: db01 and db02 both take writes on timeline 2; nothing is changed; stop one of them and \
         make it a standby of the other; if both conninfos lead to one server, correct them"
    );
}
