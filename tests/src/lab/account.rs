//! What the ledgers of both applications come to.

use std::collections::HashMap;

use crate::clock::Micros;

/// A row that an application was told is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Acknowledgement {
    /// The row's number, which its application gives once.
    pub number: i64,
    /// When the acknowledgement arrived.
    pub at: Micros,
    /// Which of the two servers gave it.
    pub server: usize,
}

/// A time without acknowledgements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gap {
    /// The last acknowledgement before it.
    pub from: Micros,
    /// The first one after it.
    pub to: Micros,
}

impl Gap {
    /// How long it was.
    pub fn length(self) -> Micros {
        self.to - self.from
    }
}

/// The times that one application waited: from its last acknowledgement before `from`, which may lie up to a second before, through all
/// later ones, to `to`. An application that had been silent for longer counts from `from` on.
pub fn gaps(acknowledged: &[Acknowledgement], from: Micros, to: Micros) -> Vec<Gap> {
    const BEFORE: Micros = 1_000_000;
    let before = acknowledged.iter().map(|one| one.at).take_while(|at| *at <= from).last();
    let begin = before.filter(|at| *at >= from - BEFORE).unwrap_or(from);
    let inside = acknowledged.iter().map(|one| one.at).filter(|at| *at > from && *at < to);
    let points: Vec<Micros> = std::iter::once(begin).chain(inside).chain([to]).collect();
    points.windows(2).map(|pair| Gap { from: pair[0], to: pair[1] }).collect()
}

/// The longest of them.
pub fn longest(gaps: &[Gap]) -> Option<Gap> {
    gaps.iter().copied().max_by_key(|gap| gap.length())
}

/// How long both servers acknowledged writes side by side: the time that lies within a run of one application's acknowledgements by one
/// server and within a run of the other application's by the other server.
pub fn both_acknowledged(applications: [&[Acknowledgement]; 2]) -> Micros {
    let [ours, theirs] = applications.map(runs);
    let pairs = ours.iter().flat_map(|one| theirs.iter().map(move |other| (one, other)));
    let different = pairs.filter(|(one, other)| one.server != other.server);
    different.map(|(one, other)| (one.to.min(other.to) - one.from.max(other.from)).max(0)).sum()
}

/// Acknowledgements of a server after an instant.
pub fn acknowledged_after(acknowledged: &[Acknowledgement], server: usize, instant: Micros) -> usize {
    acknowledged.iter().filter(|one| one.server == server && one.at > instant).count()
}

/// Rows that were acknowledged and are not there, and rows that are there more than once. `held` are numbers as the active server holds
/// them, as often as it does.
pub fn missing_and_twice(acknowledged: &[Acknowledgement], held: &[i64]) -> (Vec<i64>, usize) {
    let mut times: HashMap<i64, usize> = HashMap::new();
    for number in held {
        *times.entry(*number).or_default() += 1;
    }
    let missing = acknowledged.iter().map(|one| one.number).filter(|number| !times.contains_key(number)).collect();
    (missing, times.values().filter(|count| **count > 1).count())
}

/// A stretch in which one application heard of one server only.
#[derive(Debug, PartialEq, Eq)]
struct Run {
    server: usize,
    from: Micros,
    to: Micros,
}

fn runs(acknowledged: &[Acknowledgement]) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for one in acknowledged {
        match runs.last_mut() {
            Some(run) if run.server == one.server => run.to = one.at,
            _ => runs.push(Run { server: one.server, from: one.at, to: one.at }),
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(list: &[(i64, Micros, usize)]) -> Vec<Acknowledgement> {
        list.iter().map(|(number, at, server)| Acknowledgement { number: *number, at: *at, server: *server }).collect()
    }

    #[test]
    fn a_gap_begins_with_the_last_acknowledgement_before_the_fault() {
        let told = told(&[(1, 100, 0), (2, 200, 0), (3, 700, 1), (4, 750, 1)]);
        let found = gaps(&told, 300, 800);
        assert_eq!(found, [Gap { from: 200, to: 700 }, Gap { from: 700, to: 750 }, Gap { from: 750, to: 800 }]);
        assert_eq!(longest(&found), Some(Gap { from: 200, to: 700 }));
    }

    #[test]
    fn an_application_that_never_came_back_waits_to_the_end() {
        assert_eq!(longest(&gaps(&told(&[(1, 100, 0)]), 300, 5_000_000)), Some(Gap { from: 100, to: 5_000_000 }));
    }

    #[test]
    fn one_that_was_silent_before_counts_from_the_fault() {
        let told = told(&[(1, 100, 0), (2, 9_000_500, 1)]);
        assert_eq!(gaps(&told, 9_000_000, 9_000_600)[0], Gap { from: 9_000_000, to: 9_000_500 });
        assert_eq!(gaps(&[], 10, 30), [Gap { from: 10, to: 30 }]);
    }

    #[test]
    fn both_servers_acknowledge_while_one_application_has_changed_over_and_the_other_has_not() {
        let first = told(&[(1, 0, 0), (2, 100, 0), (3, 200, 1), (4, 900, 1)]);
        let second = told(&[(1, 0, 0), (2, 350, 0), (3, 500, 1), (4, 900, 1)]);
        assert_eq!(both_acknowledged([&first, &second]), 150);
        assert_eq!(both_acknowledged([&second, &first]), 150);
    }

    #[test]
    fn one_after_the_other_is_not_both() {
        let first = told(&[(1, 0, 0), (2, 100, 0), (3, 200, 1)]);
        let second = told(&[(1, 0, 0), (2, 150, 0), (3, 210, 1)]);
        assert_eq!(both_acknowledged([&first, &second]), 0);
        assert_eq!(both_acknowledged([&first, &[]]), 0);
    }

    #[test]
    fn back_and_forth_counts_each_time() {
        let first = told(&[(1, 0, 0), (2, 100, 0), (3, 110, 1), (4, 200, 1), (5, 210, 0), (6, 300, 0)]);
        let second = told(&[(1, 0, 0), (2, 130, 0), (3, 140, 1), (4, 230, 1), (5, 240, 0), (6, 300, 0)]);
        assert_eq!(both_acknowledged([&first, &second]), 20 + 20);
    }

    #[test]
    fn what_a_replaced_server_acknowledged_is_counted() {
        let told = told(&[(1, 100, 0), (2, 200, 0), (3, 300, 1), (4, 400, 0)]);
        assert_eq!(acknowledged_after(&told, 0, 150), 2);
        assert_eq!(acknowledged_after(&told, 0, 400), 0);
    }

    #[test]
    fn rows_are_missing_or_there_twice() {
        let told = told(&[(7, 1, 0), (8, 2, 0), (9, 3, 1)]);
        assert_eq!(missing_and_twice(&told, &[7, 9, 9, 10]), (vec![8], 1));
        assert_eq!(missing_and_twice(&told, &[7, 8, 9]), (vec![], 0));
    }
}
